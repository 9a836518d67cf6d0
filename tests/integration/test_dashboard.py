"""The dashboard in a real browser: what it shows is what the metrics say, a test message arrives, a dead stage turns red and
green again; light and dark, keyboard, a phone's width. Screenshots are left in BUILD/screenshots."""

import http.client
import json
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402
from browser import Browser  # noqa: E402
from v1client import V1Client  # noqa: E402

TAB, ENTER = 9, 13


def shots(name):
    return os.path.join(find_build(), "screenshots", name + ".png")


def publish(broker, count=1):
    client = http.client.HTTPConnection(HOST, broker.http_port, timeout=15)
    for _ in range(count):
        client.request("POST", "/v1/topics/shown", "x", {"Content-Type": "text/plain"})
        answer = client.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    client.close()


def get(broker, path, headers=None):
    client = http.client.HTTPConnection(HOST, broker.ws_port, timeout=15)
    client.request("GET", path, headers=headers or {})
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer, body


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(find_build(), encryptor=2)
        cls.broker.start()
        cls.browser = Browser()
        cls.page = cls.browser.open(f"http://{HOST}:{cls.broker.ws_port}/")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.broker.stop()

    def cell(self, instance, number):
        return self.page.evaluate(f"document.querySelector('tr[data-instance=\"{instance}\"]').children[{number}].textContent")

    def setUp(self):
        self.page.wait("document.querySelectorAll('#instances tr').length === 4")

    def test_1_numbers_are_those_of_the_metrics(self):
        publish(self.broker, 30)
        text = self.broker.ctl("metrics").stdout
        for stage in ("ingest", "dispatcher"):
            counted = re.search(rf'^ciphermq_messages_total{{stage="{stage}",instance="0"}} (\d+)$', text, re.M).group(1)
            wait_until(lambda: self.cell(f"{stage} 0", 6).replace(",", "") == counted, 10, f"{stage}: {counted} on the page")
        sealed = sum(int(value) for value in re.findall(r'^ciphermq_messages_total{stage="encryptor",instance="\d"} (\d+)$', text, re.M))
        self.assertEqual(sum(int(self.cell(f"encryptor {n}", 6).replace(",", "")) for n in (0, 1)), sealed)
        self.assertEqual(self.page.evaluate("document.querySelector('#log-health').textContent"), "ok")

    def row(self, table, first):
        """The cells of the row that begins with this text, once it is there."""
        return self.page.wait(f"(() => {{ const row = [...document.querySelectorAll('#{table} tr')].find((one) => "
                              f"one.children[0].textContent === {json.dumps(first)}); "
                              "return row && [...row.children].map((cell) => cell.textContent); })()")

    def test_1_tables_are_those_of_the_status(self):
        publish(self.broker, 7)
        with V1Client(HOST, self.broker.ws_port) as member:
            member.consume("shown", "seen")
            wait_until(lambda: any(one["topic"] == "shown" and str(one["messages"]) == self.row("topics", "shown")[2]
                                   for one in self.broker.status()["topics"]), 10, "the topic on the page")
            group = next(one for one in wait_until(lambda: self.broker.status()["groups"], 10, "the group"))
            wait_until(lambda: self.row("groups", "seen")[1:5] == ["shown", str(group["lag_records"]), str(group["pending"]),
                                                                  "1"], 10, "the group on the page")
            wait_until(lambda: self.row("clients", "board")[3].startswith(HOST), 10, "this page among the clients")

    def test_1_what_is_not_told_is_not_shown(self):
        shown = self.page.evaluate("""(() => {
          const state = structuredClone(before), kept = before;
          for (const name of ["topics", "groups", "clients", "errors"]) delete state[name];
          drawNames(state, 1);
          const hidden = ["topics", "groups", "clients", "errors"].filter((name) => $(`${name}-section`).hidden);
          state.errors = [{time_ms: 5, stage: "ingest", instance: 0, level: "warn", event: "x", text: "<b id=bad>&amp;"}];
          drawNames(state, 1);
          const result = [hidden, $("errors-section").hidden, $("errors").textContent.includes("<b id=bad>&amp;"), $("bad")];
          drawNames(kept, 1);
          return result;
        })()""")
        self.assertEqual(shown, [["topics", "groups", "clients", "errors"], False, True, None])

    def test_2_test_message_arrives(self):
        self.page.evaluate("document.querySelector('#test-text').value = 'one & <two>'")
        self.page.evaluate("document.querySelector('#test button').click()")
        told = self.page.wait("/arrived as \\d+-0 after/.test(document.querySelector('#test-result').textContent) && "
                              "document.querySelector('#test-result').textContent")
        self.assertIn("“one & <two>” arrived", told)

    def test_3_keyboard_is_enough(self):
        self.page.evaluate("document.activeElement.blur(); document.querySelector('#test-result').textContent = ''")
        for _ in range(20):
            self.page.key("Tab", TAB)
            if self.page.evaluate("document.activeElement.id") == "test-text":
                break
        self.assertEqual(self.page.evaluate("document.activeElement.id"), "test-text")
        self.page.evaluate("document.activeElement.select()")
        self.page.type("by hand")
        self.page.key("Enter", ENTER, "\r")
        told = self.page.wait("document.querySelector('#test-result').textContent.includes('arrived') && "
                              "document.querySelector('#test-result').textContent")
        self.assertIn("“by hand” arrived", told)

    def test_4_dead_stage_turns_red_and_green_again(self):
        self.page.wait("document.querySelectorAll('#stage-encryptor li:not(.down)').length === 2")
        self.broker.kill("encryptor", 0)
        self.page.wait("document.querySelectorAll('#stage-encryptor li.down').length === 1")
        self.broker.kill("encryptor", 1)
        self.page.wait("document.querySelector('#connection').textContent.includes('no encryptor')")
        self.assertEqual(self.page.evaluate("document.querySelector('#connection').className"), "state down")
        self.page.screenshot(shots("stage-down"))
        for number in (0, 1):
            self.broker.spawn("encryptor", number)
        self.page.wait("document.querySelectorAll('#stage-encryptor li:not(.down)').length === 2")
        self.page.wait("document.querySelector('#connection').textContent === 'all stages run'")
        publish(self.broker)

    def test_5_light_and_dark_and_a_phone(self):
        grounds = set()
        publish(self.broker, 50)
        for scheme in ("light", "dark"):
            self.page.scheme(scheme)
            self.page.size(1200, 900)
            grounds.add(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            self.page.screenshot(shots("dashboard-" + scheme))
        self.assertEqual(len(grounds), 2)
        self.page.size(360, 740, phone=True)
        self.assertLessEqual(self.page.evaluate("document.scrollingElement.scrollWidth"), 360)
        self.page.screenshot(shots("dashboard-phone"))
        self.page.size(1200, 900)
        self.page.scheme("light")

    def test_6_another_dispatcher_takes_over_when_this_one_dies(self):
        self.broker.kill("dispatcher", 0)
        self.page.wait("document.querySelector('#connection').textContent.includes('connection lost')")
        self.broker.spawn("dispatcher", 0)
        self.page.wait("document.querySelector('#connection').textContent === 'all stages run'")

    def test_7_browser_had_nothing_to_complain_about(self):
        # A lost connection is told to the console by the browser itself.
        self.assertEqual([text for text in self.page.complaints if "WebSocket connection to" not in text
                          and "ERR_CONNECTION_REFUSED" not in text], [])


class Files(unittest.TestCase):
    def test_page_is_for_browsers_and_takes_nothing_from_elsewhere(self):
        with Broker(find_build()) as broker:
            answer, body = get(broker, "/")
            self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/plain"))
            answer, body = get(broker, "/", {"Accept": "text/html,*/*"})
            self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/html; charset=utf-8"))
            policy = answer.getheader("Content-Security-Policy")
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(answer.getheader("X-Content-Type-Options"), "nosniff")
            self.assertNotRegex(body.decode(), r"(?i)\b(src|href)=\"(https?:)?//")
            for path, kind in (("/dashboard.js", "text/javascript; charset=utf-8"), ("/dashboard.css", "text/css; charset=utf-8")):
                answer, _ = get(broker, path)
                self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, kind))

    def test_status_is_what_the_command_says(self):
        with Broker(find_build()) as broker:
            answer, body = get(broker, "/v1/status")
            self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "application/json"))
            shown, told = json.loads(body)["state"], broker.status()
            self.assertEqual((shown["broker"], shown["live"]), (told["broker"], told["live"]))
            self.assertEqual(set(shown), set(told))


if __name__ == "__main__":
    unittest.main(verbosity=2)
