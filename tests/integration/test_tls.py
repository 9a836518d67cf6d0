#!/usr/bin/python3
"""TLS on both ports: what is refused, who is let in, and that new certificates are taken without anybody noticing.

The two ports have two TLS libraries (GnuTLS, OpenSSL); every rule is tested on both, with the openssl command and Python's ssl.

Ownership: a case owns its brokers and connections; certificates are made once, in a directory that goes away at the end.
Units: seconds.
Errors: unittest.
Callers: ctest, as integration.tls.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import types
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, memory_bound, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case  # noqa: E402
from certs import Authority, Pair, serial  # noqa: E402
from v1client import V1Client, V1Error  # noqa: E402
from wsclient import WsClient, WsClosed, WsError  # noqa: E402

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STAGES = ("ingest", "dispatcher")
STRONG = ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305")
WEAK = ("AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384",
        "DHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CAMELLIA128-SHA256", "ECDHE-ARIA128-GCM-SHA256")


def setUpModule():
    Files.directory = tempfile.mkdtemp(prefix="cmq-tls-")
    Files.authority = Authority(Files.directory)
    Files.server = Files.authority.issue_server("server", "rsa")


def tearDownModule():
    shutil.rmtree(Files.directory)


class Files:
    """Shared by all cases; nobody writes them after setUpModule."""

    directory = authority = server = None


def settings_of(server, **more):
    return {"tls.cert_file": server.cert, "tls.key_file": server.key,
            **{name.replace("__", "."): value for name, value in more.items()}}


def read_all(sock):
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def ask(port, context, timeout=WAIT_S):
    """The answer to REQUEST; b"" if there was none, whichever way the peer ended it."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as raw, \
                context.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(REQUEST)
            return read_all(sock)
    except TimeoutError:
        raise
    except (ssl.SSLError, ConnectionError):
        return b""


def s_client(port, *args, text=REQUEST.decode(), quiet=True):
    """What `openssl s_client` printed; its exit code is about the handshake, the answer about the rest."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{HOST}:{port}", "-CAfile", Files.authority.cert,
         *(["-quiet"] if quiet else []), *args],
        input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def is_answered(text):
    return "HTTP/1." in text and " 200 " in text


class Lax:
    """An `openssl s_server` that takes everything: shows that a client could have, where ours refuse."""

    def __init__(self):
        self.child = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"{HOST}:0", "-cert", Files.server.cert, "-key", Files.server.key, "-www",
             "-cipher", "ALL:@SECLEVEL=0", "-client_renegotiation"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.child.stdout:
            if line.startswith("ACCEPT"):
                self.port = int(line.rsplit(":", 1)[1])
                return
        raise RuntimeError("openssl s_server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        return False


class TlsCase(Case):
    """A case whose brokers speak TLS."""

    def tls_broker(self, tls=None, server=None, **settings):
        return self.broker(settings=settings_of(server or Files.server, **settings), tls=tls or Files.authority.context())

    def ports(self, broker):
        """(stage, port) of both."""
        return ("ingest", broker.http_port), ("dispatcher", broker.ws_port)

    def failed(self, broker, stage):
        return self.counters(broker, stage)["tls_failed"]

    def log_lines(self, broker, stage, *parts):
        with open(broker.log_path(broker.processes[stage, 0]), encoding="ascii") as log:
            return [line for line in log if all(part in line for part in parts)]


class Negotiation(TlsCase):
    """What a handshake may agree on."""

    def test_tls_1_2_and_1_3_are_spoken_and_nothing_before(self):
        broker = self.tls_broker()
        with Lax() as lax:
            for _, port in self.ports(broker):
                for version in ("-tls1_2", "-tls1_3"):
                    self.assertTrue(is_answered(s_client(port, version)), version)
                for version in ("-tls1", "-tls1_1"):
                    old = (version, "-cipher", "ALL:@SECLEVEL=0")
                    self.assertTrue(is_answered(s_client(lax.port, *old, text="GET / HTTP/1.0\r\n\r\n")), version)
                    self.assertFalse(is_answered(s_client(port, *old)), version)

    def test_suites_without_forward_secrecy_or_aead_are_refused(self):
        broker = self.tls_broker()
        with Lax() as lax:
            for stage, port in self.ports(broker):
                for suite in STRONG:
                    self.assertTrue(is_answered(s_client(port, "-tls1_2", "-cipher", suite)), suite)
                before = self.failed(broker, stage)
                for suite in WEAK:
                    weak = ("-tls1_2", "-cipher", suite + ":@SECLEVEL=0")
                    self.assertTrue(is_answered(s_client(lax.port, *weak, text="GET / HTTP/1.0\r\n\r\n")), suite)
                    self.assertFalse(is_answered(s_client(port, *weak)), suite)
                wait_until(lambda: self.failed(broker, stage) - before == len(WEAK), WAIT_S, "all counted")
                self.assertFalse(is_answered(s_client(port, "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256")))
                for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
                    self.assertTrue(is_answered(s_client(port, "-tls1_3", "-ciphersuites", suite)), suite)

    def test_the_server_chooses_the_suite_that_processors_have(self):
        broker = self.tls_broker()
        context = Files.authority.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join(reversed(STRONG)))
        for _, port in self.ports(broker):
            with socket.create_connection((HOST, port), timeout=WAIT_S) as raw, \
                    context.wrap_socket(raw, server_hostname="localhost") as sock:
                self.assertEqual(STRONG[0], sock.cipher()[0])

    def test_the_chain_comes_with_the_certificate(self):
        between = Files.authority.issue("between", extensions="basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n")
        leaf = Authority(Files.directory, "leaf-issuer", between).issue_server("below")
        with open(leaf.cert, "a", encoding="ascii") as chain, open(between.cert, encoding="ascii") as above:
            chain.write(above.read())
        broker = self.tls_broker(server=leaf)
        for _, port in self.ports(broker):
            self.assertTrue(ask(port, Files.authority.context()).startswith(b"HTTP/1.1 200"))

    def test_http_1_1_is_the_only_protocol(self):
        broker = self.tls_broker()
        context = Files.authority.context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        for _, port in self.ports(broker):
            with socket.create_connection((HOST, port), timeout=WAIT_S) as raw, \
                    context.wrap_socket(raw, server_hostname="localhost") as sock:
                self.assertEqual("http/1.1", sock.selected_alpn_protocol())
            self.assertTrue(ask(port, context).startswith(b"HTTP/1.1 200"))

    def renegotiate(self, port):
        """What is printed when a client asks for a new handshake, and then for a page."""
        child = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"{HOST}:{port}", "-CAfile", Files.authority.cert, "-tls1_2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        limit = threading.Timer(60, child.kill)
        limit.start()
        text = ""
        try:
            child.stdin.write("R\n")  # a command only if it comes alone
            child.stdin.flush()
            while "RENEGOTIATING" not in text:
                line = child.stdout.readline()
                self.assertTrue(line, text)
                text += line
            child.stdin.write(REQUEST.decode())
            child.stdin.flush()
            while not is_answered(text) and (line := child.stdout.readline()):  # the end of its input would end it
                text += line
        except BrokenPipeError:
            pass
        finally:
            limit.cancel()
            child.kill()
            child.communicate()
        return text

    def test_renegotiation_is_refused(self):
        broker = self.tls_broker()
        with Lax() as lax:
            self.assertTrue(is_answered(self.renegotiate(lax.port)))
        for _, port in self.ports(broker):
            self.assertFalse(is_answered(self.renegotiate(port)))
            self.assertTrue(is_answered(s_client(port, "-tls1_2")))

    def test_no_session_is_resumed_so_there_is_no_early_data(self):
        broker = self.tls_broker()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = Files.authority.context()
            context.minimum_version = context.maximum_version = version
            for _, port in self.ports(broker):
                session = None
                for _ in range(2):
                    with socket.create_connection((HOST, port), timeout=WAIT_S) as raw, \
                            context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                        sock.sendall(REQUEST)
                        self.assertTrue(read_all(sock).startswith(b"HTTP/1.1 200"))
                        self.assertFalse(sock.session_reused)
                        session = sock.session
                        self.assertFalse(session is not None and session.has_ticket)


class Strangers(TlsCase):
    """What comes to the ports and is no TLS, or never becomes it."""

    def test_clear_text_gets_no_word_of_http(self):
        broker = self.tls_broker()
        for stage, port in self.ports(broker):
            before = self.failed(broker, stage)
            with socket.create_connection((HOST, port), timeout=WAIT_S) as sock:
                sock.sendall(REQUEST)
                try:
                    self.assertNotIn(b"HTTP", read_all(sock))
                except ConnectionResetError:
                    pass
            wait_until(lambda: self.failed(broker, stage) == before + 1, WAIT_S, "counted")

    def test_a_handshake_that_never_ends_is_ended(self):
        broker = self.tls_broker(ingest__head_ms=500)
        hello = ssl.MemoryBIO()
        begun = Files.authority.context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            begun.do_handshake()
        first = hello.read()
        for stage, port in self.ports(broker):
            before = self.failed(broker, stage)
            with broker.dial(port, WAIT_S) as whole, socket.create_connection((HOST, port), timeout=WAIT_S) as half, \
                    socket.create_connection((HOST, port), timeout=WAIT_S) as answered:
                half.sendall(first[:len(first) // 2])
                answered.sendall(first)  # the server's turn comes, ours never again
                for sock in half, answered:
                    sock.settimeout(60)
                    try:
                        read_all(sock)
                    except ConnectionResetError:
                        pass
                if stage == "ingest":  # whose time for a first request is idle_s, not what a handshake has
                    whole.sendall(REQUEST)
                    self.assertTrue(read_all(whole).startswith(b"HTTP/1.1 200"))
            wait_until(lambda: self.failed(broker, stage) == before + 2, WAIT_S, "counted")

    def test_who_only_looks_whether_somebody_listens_is_no_failure(self):
        broker = self.tls_broker()
        for stage, port in self.ports(broker):
            for _ in range(3):
                socket.create_connection((HOST, port), timeout=WAIT_S).close()
            self.assertTrue(ask(port, broker.tls).startswith(b"HTTP/1.1 200"))
            self.assertEqual(0, self.failed(broker, stage))

    def test_a_refusal_while_the_body_is_coming_goes_through_tls(self):
        broker = self.tls_broker()
        with broker.dial(broker.http_port, WAIT_S) as sock:
            sock.sendall(b"POST /input HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 99999999999\r\n\r\n" + b"x" * 100000)
            answer = read_all(sock)  # SSLEOFError if the end came without the protocol's own
        self.assertTrue(answer.startswith(b"HTTP/1.1 413"), answer)


class Clients(TlsCase):
    """Certificates of clients."""

    @classmethod
    def setUpClass(cls):
        authority = Files.authority
        other = Authority(Files.directory, "other")
        cls.good = authority.issue("good", extensions="extendedKeyUsage=clientAuth\n")
        cls.bad = {
            "expired": authority.issue("expired", days=-1),
            "of itself": authority.issue("itself", itself=True),
            "of another authority": other.issue("stranger"),
            "of another authority of the same name": Authority(
                tempfile.mkdtemp(dir=Files.directory)).issue("forged"),
            "for servers": authority.issue("only-server", extensions="extendedKeyUsage=serverAuth\n"),
        }

    def asking(self, mode):
        return self.tls_broker(Files.authority.context(self.good), tls__client_ca_file=Files.authority.cert,
                               tls__client_cert=mode)

    def contexts(self, pair):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = Files.authority.context(pair)
            context.minimum_version = context.maximum_version = version
            yield context

    def check_bad_ones(self, broker):
        for stage, port in self.ports(broker):
            before = self.failed(broker, stage)
            for what, pair in self.bad.items():
                for context in self.contexts(pair):
                    self.assertEqual(b"", ask(port, context), (what, context.maximum_version))
            wait_until(lambda: self.failed(broker, stage) == before + 2 * len(self.bad), WAIT_S, "all counted")

    def test_required_means_a_valid_one(self):
        broker = self.asking("required")
        for _, port in self.ports(broker):
            for context in self.contexts(self.good):
                self.assertTrue(ask(port, context).startswith(b"HTTP/1.1 200"))
            for context in self.contexts(None):
                self.assertEqual(b"", ask(port, context))
        self.check_bad_ones(broker)

    def test_optional_means_none_or_a_valid_one(self):
        broker = self.asking("optional")
        for _, port in self.ports(broker):
            for pair in (self.good, None):
                for context in self.contexts(pair):
                    self.assertTrue(ask(port, context).startswith(b"HTTP/1.1 200"))
        self.check_bad_ones(broker)

    def test_none_does_not_ask(self):
        broker = self.tls_broker()
        for _, port in self.ports(broker):
            self.assertIn("No client certificate CA names sent", s_client(port, "-tls1_2", quiet=False))
            self.assertTrue(ask(port, Files.authority.context(self.bad["of itself"])).startswith(b"HTTP/1.1 200"))


class Names(TlsCase):
    """What the name in a client's certificate may do."""

    def named(self, mode, *entries):
        """A broker with rights for certificates: (name of the entry, certificate's name, words of ciphermqctl token create)."""
        home = tempfile.mkdtemp(dir=Files.directory)
        broker = Broker(settings=settings_of(
            Files.server, tokens__file=os.path.join(home, "tokens"), tls__client_ca_file=Files.authority.cert,
            tls__client_cert=mode), tls=Files.authority.context(Files.authority.issue("prober")))
        self.addCleanup(broker.abandon)
        broker.prepare()
        for name, certificate, *words in entries:
            broker.ctl("token", "create", name, "--certificate", certificate, *words)
        for stage in ("ingest", "encryptor", "dispatcher"):
            broker.spawn(stage, 0)
        broker.wait_ready()
        return broker

    def as_client(self, broker, pair):
        """Requests of this client: (status of a POST to the topic, what subscribing says)."""
        context = Files.authority.context(pair)

        def publish(topic):
            connection = http.client.HTTPSConnection(HOST, broker.http_port, timeout=WAIT_S, context=context)
            connection.request("POST", f"/v1/topics/{topic}", b"x", {"Content-Type": "text/plain"})
            status = connection.getresponse().status
            connection.close()
            return status

        def subscribe(topic):
            try:
                client = V1Client(HOST, broker.ws_port, timeout=WAIT_S, tls=context)
            except (WsError, WsClosed, V1Error) as error:
                return type(error).__name__
            try:
                client.subscribe(topic)
                return "ok"
            except V1Error as error:
                return error.code
            finally:
                client.close()

        return publish, subscribe

    def test_rights_go_by_the_common_name_or_the_first_dns_name(self):
        issue = Files.authority.issue
        by_subject = issue("by-subject", "/O=example/CN=billing")
        by_dns = issue("by-dns", "/O=example", extensions="subjectAltName=IP:10.0.0.1,DNS:audit.example.com,DNS:billing\n")
        nobody = issue("nobody", "/CN=somebody-else", extensions="subjectAltName=DNS:billing\n")
        blank = issue("blank", "/CN=Billing Service")
        two_names = issue("two-names", "/CN=billing/CN=audit.example.com")
        odd = issue("odd", "/CN=bill,ing")
        broker = self.named("required", ("billing", "billing", "--publish", "orders.>", "--subscribe", "orders.>"),
                            ("audit", "audit.example.com", "--subscribe", "orders.eu"),
                            ("service", "Billing Service", "--publish", "orders.eu", "--subscribe", "orders.eu"))
        publish, subscribe = self.as_client(broker, blank)
        self.assertEqual((200, "ok"), (publish("orders.eu"), subscribe("orders.eu")))
        publish, subscribe = self.as_client(broker, by_subject)
        self.assertEqual((200, 403), (publish("orders.eu"), publish("other")))
        self.assertEqual(("ok", "forbidden"), (subscribe("orders.*"), subscribe("other")))
        publish, subscribe = self.as_client(broker, by_dns)
        self.assertEqual(403, publish("orders.eu"))
        self.assertEqual(("ok", "forbidden"), (subscribe("orders.eu"), subscribe("orders.us")))
        for pair in nobody, two_names, odd:
            publish, subscribe = self.as_client(broker, pair)
            self.assertEqual(401, publish("orders.eu"), pair.cert)
            self.assertNotIn(subscribe("orders.eu"), ("ok", "forbidden"), pair.cert)

    def test_a_revoked_name_loses_its_rights_on_open_connections(self):
        pair = Files.authority.issue("leaver")
        broker = self.named("optional", ("leaver", "leaver", "--publish", "a", "--subscribe", "a"))
        context = Files.authority.context(pair)
        connection = http.client.HTTPSConnection(HOST, broker.http_port, timeout=WAIT_S, context=context)
        self.addCleanup(connection.close)
        client = V1Client(HOST, broker.ws_port, timeout=WAIT_S, tls=context)
        self.addCleanup(client.close)
        client.subscribe("a")

        def status():
            connection.request("POST", "/v1/topics/a", b"x", {"Content-Type": "text/plain"})
            response = connection.getresponse()
            response.read()
            return response.status

        self.assertEqual(200, status())
        broker.ctl("token", "revoke", "leaver")
        wait_until(lambda: status() == 401, WAIT_S, "the HTTP port refuses")
        with self.assertRaises(WsClosed) as closed:
            while True:
                client.ws.receive(WAIT_S)
        self.assertEqual(3502, closed.exception.code)


class Reload(TlsCase):
    """New files while it runs."""

    def setUp(self):
        super().setUp()
        self.directory = tempfile.mkdtemp(dir=Files.directory)
        self.live = Pair(os.path.join(self.directory, "cert.pem"), os.path.join(self.directory, "key.pem"))
        self.put(Files.server)

    def put(self, pair):
        """As tools that renew certificates do: each file aside, then renamed; the key last."""
        for source, target in zip(pair, self.live):
            shutil.copyfile(source, target + ".new")
            os.chmod(target + ".new", 0o600)
            os.replace(target + ".new", target)

    def shown(self, port):
        with socket.create_connection((HOST, port), timeout=WAIT_S) as raw, \
                Files.authority.context().wrap_socket(raw, server_hostname="localhost") as sock:
            return serial(sock.getpeercert(True))

    def serial_of(self, pair):
        with open(pair.cert, encoding="ascii") as text:
            return serial(text.read())

    def test_new_files_are_shown_to_new_connections_and_open_ones_go_on(self):
        broker = self.tls_broker(server=self.live)
        publisher, subscriber = self.http(broker), self.v1(broker)
        mine = subscriber.subscribe("orders", since="earliest")
        publisher.publish("orders", "before")
        sockets = publisher.connection.sock, subscriber.ws._sock
        renewed = Files.authority.issue_server("renewed")  # and of another kind: ECDSA after RSA
        self.put(renewed)
        for _, port in self.ports(broker):
            wait_until(lambda: self.shown(port) == self.serial_of(renewed), WAIT_S, "the new certificate")
            # Not the old one beside it, for clients that would rather have that.
            self.assertFalse(is_answered(s_client(port, "-tls1_2", "-cipher", STRONG[0])))
        publisher.publish("orders", "after")
        self.assertEqual(["before", "after"], [item["data"] for item in subscriber.items(mine, 2)])
        self.assertEqual(sockets, (publisher.connection.sock, subscriber.ws._sock))

    def test_bad_files_change_nothing_and_are_said_once(self):
        broker = self.tls_broker(server=self.live)
        stranger = Files.authority.issue_server("stranger-server")
        self.put(Pair(Files.server.cert, stranger.key))
        for stage, port in self.ports(broker):
            wait_until(lambda: self.log_lines(broker, stage, "ev=refused", "what=tls"), WAIT_S, "a line about it")
            self.assertEqual(self.serial_of(Files.server), self.shown(port))
        renewed = Files.authority.issue_server("renewed-later", "rsa")
        self.put(renewed)
        for stage, port in self.ports(broker):
            wait_until(lambda: self.shown(port) == self.serial_of(renewed), WAIT_S, "the new certificate")
            lines = self.log_lines(broker, stage, "ev=refused", "what=tls")
            self.assertEqual(1, len(lines), lines)
            self.assertIn("is not the key of the certificate", lines[0])
            self.assertIn("level=error", lines[0])
            self.assertEqual(1, len(self.log_lines(broker, stage, "ev=reloaded", "what=tls")))

    def test_sighup_reads_the_files_again(self):
        broker = self.tls_broker(server=self.live)
        for stage in STAGES:
            broker.signal(stage, 0, signal.SIGHUP)
            wait_until(lambda: self.log_lines(broker, stage, "ev=reloaded", "what=tls"), WAIT_S, "read again")
        for _, port in self.ports(broker):
            self.assertTrue(ask(port, broker.tls).startswith(b"HTTP/1.1 200"))

    def test_new_authorities_count_for_new_connections(self):
        other = Authority(Files.directory, "next-authority")
        ours, theirs = Files.authority.issue("ours"), other.issue("theirs")
        trusted = os.path.join(self.directory, "ca.pem")
        shutil.copyfile(Files.authority.cert, trusted)
        broker = self.tls_broker(Files.authority.context(ours), tls__client_ca_file=trusted, tls__client_cert="required")
        for _, port in self.ports(broker):
            self.assertEqual(b"", ask(port, Files.authority.context(theirs)))
        shutil.copyfile(other.cert, trusted + ".new")
        os.replace(trusted + ".new", trusted)
        for _, port in self.ports(broker):
            wait_until(lambda: ask(port, Files.authority.context(theirs)), WAIT_S, "the new authority")
            self.assertEqual(b"", ask(port, Files.authority.context(ours)))


class Start(TlsCase):
    """What keeps a stage from starting."""

    def refusal(self, stage, server, *words, **more):
        """The last words of a stage that does not start with these settings and words of its command line."""
        broker = Broker(settings=settings_of(server, **more))
        self.addCleanup(broker.abandon)
        broker.prepare()
        done = subprocess.run([broker.program(stage), "--config", broker.config, *words], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(78, done.returncode, done.stderr)
        return done.stderr

    def copy(self, name, source, mode=0o600):
        path = os.path.join(tempfile.mkdtemp(dir=Files.directory), name)
        shutil.copyfile(source, path)
        os.chmod(path, mode)
        return path

    def test_a_key_that_others_may_read_or_change_is_refused(self):
        for stage in STAGES:
            for mode, words in ((0o604, "everybody may read the key"), (0o620, "group or others may write it"),
                                (0o602, "group or others may write it")):
                key = self.copy("key.pem", Files.server.key, mode)
                text = self.refusal(stage, Pair(Files.server.cert, key))
                self.assertIn(f"tls.key_file: {key} has mode {mode:04o}", text)
                self.assertIn(words, text)

    def test_a_key_for_the_group_of_the_stages_will_do(self):
        broker = self.tls_broker(server=Pair(Files.server.cert, self.copy("key.pem", Files.server.key, 0o640)))
        for _, port in self.ports(broker):
            self.assertTrue(ask(port, broker.tls).startswith(b"HTTP/1.1 200"))

    def test_files_that_are_not_what_they_should_be_are_named(self):
        other = Files.authority.issue_server("other-server")
        empty = os.path.join(Files.directory, "empty.pem")
        with open(empty, "w", encoding="ascii"):
            pass
        cases = ((Pair(Files.server.cert, other.key), {}, "is not the key of the certificate in"),
                 (Pair("/nonexistent/cert", Files.server.key), {}, "tls.cert_file: there is no file /nonexistent/cert"),
                 (Pair(Files.directory, Files.server.key), {}, "is not a regular file"),
                 (Pair(empty, Files.server.key), {}, "has 0 bytes"),
                 (Pair(Files.server.key, Files.server.key), {}, "in PEM"),
                 (Files.server, {"tls__client_ca_file": Files.server.key, "tls__client_cert": "required"},
                  "tls.client_ca_file: "))
        for stage in STAGES:
            for pair, more, words in cases:
                with self.subTest(stage=stage, words=words):
                    self.assertIn(words, self.refusal(stage, pair, **more))

    def test_beyond_loopback_it_takes_tls_and_tokens(self):
        for stage in STAGES:
            text = self.refusal(stage, Files.server, "--set", f"{stage}.listen=0.0.0.0")
            self.assertIn("without TLS and tokens only loopback is allowed; listen on 127.0.0.1", text)
            self.assertIn("or set tls.cert_file, tls.key_file and tokens.file", text)


class Traffic(TlsCase):
    """The broker's work, over TLS."""

    def test_twenty_thousand_messages_are_durable_and_reach_every_kind_of_consumer(self):
        broker = self.tls_broker()
        publisher, root = self.http(broker), self.root(broker)
        subscribers = [self.v1(broker, form) for form in ("json", "msgpack")]
        numbers = [client.subscribe("default", since="latest") for client in subscribers]
        contents = [f"message {i:05} " + "x" * 100 for i in range(20000)]
        for round_ in range(3):
            reply = publisher.post("/input/batch", {"messages": [{"content": text} for text in contents]})
            self.assertEqual((200, 20000, "durable"), (reply.status, reply.body["count"], reply.body["ack"]), round_)
            for client, number in zip(subscribers, numbers):
                self.same(client.items(number, 20000), contents, reply.body["id"])
        got = []
        while len(got) < 60000:
            got += json.loads(root.receive(WAIT_S))
        self.assertEqual(contents * 3, got)
        self.stop(broker)

    def test_group_acks_go_through(self):
        broker = self.tls_broker()
        publisher, member = self.http(broker), self.v1(broker)
        number = member.consume("jobs", "workers", credit=100)
        publisher.publish("jobs", *[f"job {i}" for i in range(1000)])
        done = []
        while len(done) < 1000:
            for item in member.items(number, 1):
                done.append(item["data"])
                member.ack("workers", [item["id"]])
        self.assertEqual([f"job {i}" for i in range(1000)], done)

    def test_large_bodies_come_in_pieces_and_large_messages_leave_whole(self):
        broker = self.tls_broker(dispatcher__frame_bytes_max=4096)
        client = self.v1(broker)
        number = client.subscribe("large", since="earliest")
        large = "\u00e4" * 400000
        self.http(broker).publish("large", large)
        # The end of a record lies anywhere in what the library reads.
        with broker.dial(broker.http_port, WAIT_S) as sock:
            body = b"y" * 300000
            sock.sendall(b"POST /v1/topics/large HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                         b"Content-Length: 300000\r\n\r\n")
            at = 0
            for size in [1, 16383, 16384, 16385, 5, 32768, 100000]:
                sock.sendall(body[at:at + size])
                at += size
            sock.sendall(body[at:])
            self.assertTrue(read_all(sock).startswith(b"HTTP/1.1 200"))
        self.assertEqual([large, "y" * 300000], [item["data"] for item in client.items(number, 2)])

    def test_curl_is_served_on_both_ports(self):
        broker = self.tls_broker()

        def curl(*words):
            done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-m", "60", "--cacert", Files.authority.cert, *words],
                                  capture_output=True, text=True, timeout=90, check=False)
            self.assertEqual(0, done.returncode, done.stderr)
            return done.stdout

        large = os.path.join(Files.directory, "large")
        with open(large, "w", encoding="ascii") as out:
            out.write("z" * 1000000)
        url = f"https://{HOST}:{broker.http_port}/v1/topics/curl"
        # It asks first whether it may send (Expect: 100-continue), and would rather speak HTTP/2.
        for words in ("-H", "Expect: 100-continue", "--data-binary", "@" + large), ("--http2", "-d", "short"):
            self.assertEqual("durable", json.loads(curl("-H", "Content-Type: text/plain", *words, url))["ack"])
        page = f"https://{HOST}:{broker.ws_port}/t/curl/json?since=earliest&limit=2"
        items = [json.loads(line) for line in curl(page).splitlines()]
        self.assertEqual([1000000, "short"], [len(items[0]["data"]), items[1]["data"]])

    def test_pipelined_requests_in_one_record_are_all_answered(self):
        broker = self.tls_broker()
        one = (b"POST /v1/topics/many HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
        with broker.dial(broker.http_port, WAIT_S) as sock:
            sock.sendall(one * 100 + REQUEST)
            answer = read_all(sock)
        self.assertEqual(101, answer.count(b"HTTP/1.1 200"))

    def test_commands_that_fill_records_are_all_carried_out(self):
        broker = self.tls_broker()
        client = self.v1(broker)
        # Frames end anywhere in a record, and a record is larger than what the library reads at once. There are so many
        # that the session stops reading until its replies are taken: what is left in the TLS library must not be forgotten.
        gathered, sock = bytearray(), client.ws._sock
        client.ws._sock = types.SimpleNamespace(sendall=gathered.extend)
        numbers = [client.send("ping", {}) for _ in range(20000)]
        client.ws._sock = sock
        sock.sendall(gathered)
        for number in numbers:
            client.reply(number)

    def test_a_slow_reader_costs_a_frame_and_is_closed_when_it_takes_nothing(self):
        broker = self.broker(
            settings=settings_of(Files.server, dispatcher__write_timeout_ms=4000, dispatcher__frame_bytes_max=1 << 20),
            env={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0"},
            tls=Files.authority.context())
        publisher = self.http(broker)
        slow = WsClient(HOST, broker.ws_port, timeout=WAIT_S, receive_buffer=4096, tls=broker.tls)
        self.addCleanup(slow.end)
        before = self.anonymous_bytes(broker)
        for i in range(30):
            publisher.publish("default", *[f"{i:03}-{n:04}-" + "x" * 1000 for n in range(1000)])
        wait_until(lambda: self.counters(broker)["clients_dropped"] == 1, 60, "the slow one is closed")
        # 30 MB wait; held are a frame, its copy in the library, and the open records.
        self.assertLess(self.anonymous_bytes(broker) - before, memory_bound(broker.build, 12 << 20))
        # Who is slow but reads gets everything, in frames that the socket takes piece by piece.
        patient = WsClient(HOST, broker.ws_port, timeout=WAIT_S, receive_buffer=4096, tls=broker.tls)
        self.addCleanup(patient.close)
        wait_until(lambda: self.drain(patient) and broker.delivered_all(), 60, "the rest is delivered")

    def drain(self, client):
        try:
            client.receive(0.2)
        except TimeoutError:
            pass
        return True

    def anonymous_bytes(self, broker):
        with open(f"/proc/{broker.processes['dispatcher', 0].child.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["RssAnon"].split()[0]) << 10


if __name__ == "__main__":
    unittest.main(verbosity=2)
