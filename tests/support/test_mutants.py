"""A checker that never failed has not been tested: the model broker passes, and each of its mutants is caught by its rule."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import model_broker  # noqa: E402
from checker import Options, check  # noqa: E402

OPTIONS = Options(slack_s=0.5, window_s=model_broker.WINDOW_S, ack_wait_s=model_broker.ACK_WAIT_S,
                  max_deliver=model_broker.MAX_DELIVER, max_ack_pending=model_broker.PENDING_MAX)
SEEDS = range(8)


class Mutants(unittest.TestCase):
    def test_the_model_keeps_every_promise(self):
        dead = gaps = 0
        for seed in range(30):
            for restarts in (False, True):
                model = model_broker.run(seed, restarts=restarts)
                report = check(model.history, OPTIONS)
                self.assertEqual([], [str(finding) for finding in report.findings], f"seed {seed} restarts {restarts}")
                dead += len(model.history.dead)
                gaps += len(model.history.gaps)
        self.assertGreater(dead, 100)
        self.assertGreater(gaps, 10)

    def test_every_mutant_is_caught_by_the_rule_that_it_breaks(self):
        self.assertGreaterEqual(len(model_broker.MUTANTS), 20)
        for mutant, rule in model_broker.MUTANTS.items():
            with self.subTest(mutant):
                fired, caught = 0, 0
                for seed in SEEDS:
                    model = model_broker.run(seed, mutant, restarts="restart" in mutant or "synced" in mutant,
                                             retention="discards" in mutant)
                    fired += model.fired
                    caught += rule in check(model.history, OPTIONS).rules()
                self.assertGreater(fired, 0, "the mutant never did its deed")
                # Some deeds can be told from what is legal only now and then.
                self.assertGreaterEqual(caught, 3, f"caught in {caught} of {len(SEEDS)} runs")


if __name__ == "__main__":
    unittest.main()
