"""The dashboard in a real browser: what it shows is what the metrics say, a test message arrives, a dead stage turns red and
green again; light and dark, keyboard, a phone's width. Screenshots are left in BUILD/screenshots."""

import contextlib
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402
from browser import Browser  # noqa: E402
from home import SOURCES, Home  # noqa: E402
from tokens import TokenFile  # noqa: E402
from wsclient import WsClient  # noqa: E402
from v1client import V1Client  # noqa: E402

TAB, ENTER, ESCAPE = 9, 13, 27


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


class Operate(unittest.TestCase):
    """A broker under its real supervisord, with tokens and the agent of deploy/supervisord.conf."""

    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.mkdtemp(prefix="cmq-operate-")
        cls.addClassCleanup(shutil.rmtree, cls.place)
        cls.tokens = TokenFile(cls.place)
        cls.home = Home(find_build(), settings={"tokens.file": cls.tokens.path, "agent.jobs_rate_max": 100}).start()
        cls.addClassCleanup(cls.home.stop)
        cls.admin = cls.tokens.add("ops-1", admin=True, subscribe=">")
        cls.looker = cls.tokens.add("looker", subscribe=">")
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def page(self, token):
        page = self.browser.open(f"http://{HOST}:{self.home.ws_port}/")
        page.wait("document.querySelector('#token-title').textContent === 'This broker wants a token'")
        page.evaluate(f"document.querySelector('#token-text').value = {json.dumps(token)}")
        page.evaluate("document.querySelector('#token button').click()")
        page.wait("document.querySelectorAll('#instances tr').length >= 3")
        return page

    @staticmethod
    def told(page, words):
        return page.wait(f"document.querySelector('#operation').textContent.includes({json.dumps(words)}) && "
                         "document.querySelector('#operation').textContent")

    @staticmethod
    def click(page, stage, what):
        """The button, then its question."""
        button = f"document.querySelector('.operate[data-stage={stage}] [data-do={what}]')"
        page.wait(f"{button}.closest('.operate').hidden === false && !{button}.disabled")
        page.evaluate(f"{button}.click()")
        page.wait("document.activeElement.id === 'sure-yes'")
        page.evaluate("document.querySelector('#sure-yes').click()")

    def pids(self, stage):
        return [one["pid"] for one in self.home.status()["instances"] if one["stage"] == stage and one["alive"]]

    def log(self, name):
        with open(os.path.join(self.home.directory, "log", name), encoding="utf-8") as log:
            return log.read()

    def command(self, token, operation):
        """The answer to one operation on the board's WebSocket."""
        client = WsClient(HOST, self.home.ws_port, "/v1/status", subprotocol="ciphermq.status.json",
                          headers=["Authorization: Bearer " + token])
        try:
            client.send(json.dumps({"operate": operation}).encode())
            while True:
                said = json.loads(client.receive(20))
                if "operation" in said:
                    return said["operation"]
        finally:
            client.close()

    def ask(self, request, directory=None):
        """All that the agent says to these bytes."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(os.path.join(directory or os.path.join(self.home.directory, "run"), "agent.sock"))
            said = b""
            try:
                client.sendall(request)
            except BrokenPipeError:
                pass  # it was refused before it said anything
            try:
                while piece := client.recv(65536):
                    said += piece
            except ConnectionResetError:
                pass  # it was closed before all was read; what it was told came first
        return [json.loads(line) for line in said.splitlines()]

    def test_1_without_the_right_admin_there_is_no_button_and_no_way_around(self):
        page = self.page(self.looker)
        self.told(page, "no right admin")
        self.assertEqual(page.evaluate("[...document.querySelectorAll('.operate')].filter((one) => !one.hidden).length"), 0)
        before = self.pids("encryptor")
        for operation in ({"do": "restart", "stage": "encryptor", "instance": None}, {"do": "watch"},
                          {"do": "scale", "stage": "ingest", "count": 2}):
            self.assertEqual(self.command(self.looker, operation)["state"], "denied")
        self.assertEqual(self.pids("encryptor"), before)
        self.assertNotIn("ev=operation", self.log("agent.log"))

    def test_2_encryptor_is_restarted_and_scaled_from_the_page(self):
        page = self.page(self.admin)
        before = self.pids("encryptor")
        self.click(page, "encryptor", "restart")
        self.assertIn("restart encryptor, asked by ops-1: done", self.told(page, "done"))
        after = self.pids("encryptor")
        self.assertEqual(len(after), 1)
        self.assertNotEqual(after, before)
        page.wait(f"before.instances.some((one) => one.stage === 'encryptor' && one.alive && one.pid === {after[0]})")
        self.click(page, "encryptor", "more")
        self.told(page, "scale encryptor to 2, asked by ops-1: done: encryptor: 2 running")
        self.assertEqual(self.home.alive("encryptor"), [0, 1])
        page.wait("document.querySelectorAll('#stage-encryptor li:not(.down)').length === 2")
        page.size(360, 740, phone=True)
        self.assertLessEqual(page.evaluate("document.scrollingElement.scrollWidth"), 360)
        page.screenshot(shots("operate-phone"))
        page.size(1200, 900)
        self.click(page, "encryptor", "less")
        self.told(page, "scale encryptor to 1, asked by ops-1: done: encryptor: 1 running")
        self.assertEqual(self.home.alive("encryptor"), [0])
        for name in ("agent.log", "dispatcher-0.log"):
            self.assertRegex(self.log(name), r"ev=operation .*by=\S*ops-1\S* do=scale stage=encryptor count=2 state=")
            self.assertNotIn(self.admin, self.log(name))

    def test_2_keyboard_is_enough_to_restart_and_to_change_ones_mind(self):
        page = self.page(self.admin)
        button = "document.querySelector('.operate[data-stage=ingest] [data-do=restart]')"
        page.wait(f"{button}.closest('.operate').hidden === false && !{button}.disabled")
        page.evaluate("document.activeElement.blur()")
        for _ in range(30):
            page.key("Tab", TAB)
            if page.evaluate(f"document.activeElement === {button}"):
                break
        self.assertTrue(page.evaluate(f"document.activeElement === {button}"))
        before = self.pids("ingest")
        page.key("Enter", ENTER, "\r")
        page.wait("document.activeElement.id === 'sure-yes'")
        page.key("Escape", ESCAPE)
        page.wait(f"document.querySelector('#sure').hidden && document.activeElement === {button}")
        self.assertEqual(self.pids("ingest"), before)
        page.key("Enter", ENTER, "\r")
        page.wait("document.activeElement.id === 'sure-yes'")
        page.key("Enter", ENTER, "\r")
        self.told(page, "restart ingest, asked by ops-1: done")
        self.assertNotEqual(self.pids("ingest"), before)

    def test_3_page_hears_the_end_of_a_restart_of_its_own_dispatcher(self):
        page = self.page(self.admin)
        before = self.pids("dispatcher")
        self.click(page, "dispatcher", "restart")
        self.told(page, "restart dispatcher, asked by ops-1: done")
        self.assertNotEqual(self.pids("dispatcher"), before)

    def test_4_right_is_asked_for_at_each_command(self):
        self.assertEqual(self.command(self.admin, {"do": "stop", "stage": "encryptor"})["state"], "refused")
        self.assertEqual(self.command(self.admin, {"do": "scale", "stage": "encryptor", "count": 9})["state"], "refused")
        self.assertIn(self.command(self.admin, {"do": "watch"})["state"], ("idle", "done"))

    def test_5_agent_refuses_what_it_does_not_understand(self):
        for request in (b"\n", b"restart encryptor\n", b'{"do":"scale","stage":"ingest","count":9}\n', b"\xff\0\n",
                        b'{"do":"restart","stage":"ingest:0"}\n', b"x" * 5000):
            self.assertEqual([one["state"] for one in self.ask(request)], ["refused"], request)
        self.assertIn(self.ask(b'{"do":"watch"}\n')[0]["state"], ("idle", "done"))

    def test_5_agent_does_one_operation_at_a_time(self):
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(os.path.join(self.home.directory, "run", "agent.sock"))
            first.sendall(b'{"do":"restart","stage":"ingest","instance":0}\n')
            self.assertIn(b'"running"', first.recv(1024))
            self.assertEqual(self.ask(b'{"do":"restart","stage":"ingest"}\n')[0]["state"], "refused")
            self.assertEqual(self.ask(b'{"do":"watch"}\n')[-1]["state"], "done")

    @contextlib.contextmanager
    def agent(self, directory, *settings, tools=None):
        """An agent of our own with its socket in the directory; it finds supervisorctl in `tools` first."""
        words = [os.path.join(find_build(), "deploy", "ctl", "ciphermqctl"), "--config", self.home.config,
                 "--set", f"common.run_dir={directory}"]
        words += [word for setting in settings for word in ("--set", setting)]
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"} if tools else None
        agent = subprocess.Popen([*words, "agent", "--supervisor-conf", "/nonexistent"], stderr=subprocess.PIPE, text=True,
                                 env=environment)
        try:
            self.assertIn("ev=ready", agent.stderr.readline())
            yield agent
        finally:
            agent.terminate()
            agent.communicate(timeout=20)

    @contextlib.contextmanager
    def endless_supervisor(self):
        """A directory with a supervisorctl that never ends, and the file that has the ids of those that were started."""
        with tempfile.TemporaryDirectory() as tools:
            program, started = os.path.join(tools, "supervisorctl"), os.path.join(tools, "started")
            with open(program, "w", encoding="ascii") as out:
                out.write(f"#!/bin/sh\necho $$ >>{started}\nexec sleep 600\n")
            os.chmod(program, 0o755)
            try:
                yield tools, started
            finally:
                for pid in self.running(started):
                    os.kill(pid, signal.SIGKILL)

    @staticmethod
    def running(started):
        with open(started, encoding="ascii") as pids:
            return [pid for pid in map(int, pids) if os.path.exists(f"/proc/{pid}")]

    def test_5_agent_obeys_one_user_and_so_many_operations_a_minute(self):
        foreign = "nobody" if os.getuid() != pwd.getpwnam("nobody").pw_uid else "root"
        for settings, request, said in ((f"agent.user={foreign}", b'{"do":"watch"}\n', "agent.user"),
                                        ("agent.request_ms=10", b"", "agent.request_ms"),
                                        ("agent.jobs_rate_max=1", b'{"do":"scale","stage":"ingest","count":1}\n', "rate_max")):
            with tempfile.TemporaryDirectory() as directory:
                with self.agent(directory, settings) as agent:
                    answers = [self.ask(request, directory), self.ask(request, directory)]
                    self.assertEqual(answers[1][0]["state"], "refused")
                    self.assertIn(said, answers[1][0]["text"])
                self.assertEqual(agent.returncode, 0)
                self.assertNotIn("agent.sock", os.listdir(directory))

    def test_5_agent_has_so_many_connections(self):
        with tempfile.TemporaryDirectory() as directory, self.agent(directory, "agent.connections_max=1"), \
                socket.socket(socket.AF_UNIX) as first:
            first.connect(os.path.join(directory, "agent.sock"))
            [said] = self.ask(b'{"do":"watch"}\n', directory)
            self.assertEqual("refused", said["state"])
            self.assertIn("agent.connections_max", said["text"])
            first.sendall(b'{"do":"watch"}\n')
            self.assertIn(b'"idle"', first.recv(1024))

    def test_5_agent_ends_an_operation_that_takes_too_long(self):
        with tempfile.TemporaryDirectory() as directory, self.endless_supervisor() as (tools, started), \
                self.agent(directory, "agent.job_ms=1000", tools=tools):
            said = self.ask(b'{"do":"restart","stage":"ingest"}\n', directory)
            self.assertEqual(["running", "failed"], [said[0]["state"], said[-1]["state"]])
            self.assertIn("agent.job_ms", said[-1]["text"])
            wait_until(lambda: not self.running(started), 10, "what it had started is gone")
            self.assertEqual("failed", self.ask(b'{"do":"watch"}\n', directory)[-1]["state"])

    def supervise(self, word):
        lib = f". {SOURCES}/deploy/lib.sh; cmq_home_env; cmq_stop_env; cmq_super"
        subprocess.run(["bash", "-c", f"{lib} {word} agent"], check=True, capture_output=True, timeout=60,
                       env={**os.environ, "CIPHERMQ_HOME": self.home.directory, "CIPHERMQ_BUILD": self.home.build})
        if word == "start":
            wait_until(self.answers, 20, "the agent answers")

    def answers(self):
        try:
            return bool(self.ask(b'{"do":"watch"}\n'))
        except OSError:
            return False

    def test_6_page_names_the_fix_when_no_agent_runs(self):
        page = self.page(self.admin)
        page.wait("!document.querySelector('.operate').hidden")
        self.supervise("stop")
        self.click(page, "encryptor", "restart")
        self.assertIn("ciphermq-agent", self.told(page, "no agent runs"))
        page.wait("[...document.querySelectorAll('.operate')].every((one) => one.hidden)")
        self.supervise("start")

    def test_6_page_is_told_that_the_agent_died_and_the_next_one_does_it(self):
        page = self.page(self.admin)
        before = self.pids("encryptor")
        self.supervise("stop")
        with self.endless_supervisor() as (tools, _), self.agent(os.path.join(self.home.directory, "run"), tools=tools) as agent:
            self.click(page, "encryptor", "restart")
            self.told(page, "restart encryptor, asked by ops-1: running")
            agent.kill()
            self.told(page, "the agent ended before the operation did")
        self.supervise("start")
        self.click(page, "encryptor", "restart")
        self.told(page, "restart encryptor, asked by ops-1: done")
        self.assertNotEqual(self.pids("encryptor"), before)

    def test_7_revoked_token_operates_no_more(self):
        page = self.page(self.admin)
        page.wait("!document.querySelector('.operate').hidden")
        self.tokens.revoke("ops-1")
        page.wait("[...document.querySelectorAll('.operate')].every((one) => one.hidden)")


class Open(unittest.TestCase):
    def test_without_tokens_the_page_only_looks(self):
        with Broker(find_build()) as broker:
            client = WsClient(HOST, broker.ws_port, "/v1/status", subprotocol="ciphermq.status.json")
            client.send(json.dumps({"operate": {"do": "watch"}}).encode())
            said = {}
            while "operation" not in said:
                said = json.loads(client.receive(20))
            client.close()
            self.assertEqual(said["operation"]["state"], "denied")
            self.assertIn("tokens.file", said["operation"]["text"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
