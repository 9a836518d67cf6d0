"""The v1 client's own parts: the codec against published bytes, and the sorting of replies and pushes."""

import base64
import hashlib
import os
import socket
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import packing  # noqa: E402
from v1client import FORMATS, V1Client, V1Error  # noqa: E402
from wsclient import GUID, WsError  # noqa: E402

VECTORS = (  # of the MessagePack specification's formats
    (None, "c0"), (True, "c3"), (0, "00"), (127, "7f"), (128, "cc80"), (65535, "cdffff"), (1 << 32, "cf0000000100000000"),
    (-1, "ff"), (-32, "e0"), (-33, "d0df"), (-129, "d1ff7f"), (-(1 << 63), "d38000000000000000"), (1.5, "cb3ff8000000000000"),
    ("", "a0"), ("a", "a161"), ("a" * 32, "d920" + "61" * 32), (b"\x00\xff", "c40200ff"), ([1, [2]], "92019102"),
    ({"a": {}}, "81a16180"), (["x"] * 16, "dc0010" + "a178" * 16),
)


class Codec(unittest.TestCase):
    def test_known_values_have_the_known_bytes(self):
        for value, text in VECTORS:
            self.assertEqual(text, packing.packb(value).hex(), value)
            self.assertEqual(value, packing.unpackb(bytes.fromhex(text)))

    def test_cut_long_and_unknown_bytes_are_refused(self):
        for _value, text in VECTORS:
            data = bytes.fromhex(text)
            for end in range(len(data)):
                with self.assertRaises(ValueError):
                    packing.unpackb(data[:end])
            with self.assertRaises(ValueError):
                packing.unpackb(data + b"\x00")
        for text in ("c1", "d4010203", "91" * 40 + "00", "ddffffffff"):
            with self.assertRaises(ValueError):
                packing.unpackb(bytes.fromhex(text))


def serve(listener, form, frames, protocol=None):
    """One connection: the upgrade, then a reply for each command, with `frames` before the last one."""
    sock, _ = listener.accept()
    with sock:
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        sock.sendall(f"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {accept}\r\n"
                     f"Sec-WebSocket-Protocol: {protocol or 'ciphermq.v1.' + form}\r\n\r\n".encode())
        opcode, encode, _decode = FORMATS[form]
        for frame in ({"id": 1, "ok": {"version": "x"}}, *frames):
            data = encode(frame)
            sock.sendall(bytes([0x80 | opcode, len(data)]) + data)
        while sock.recv(4096):
            pass


class Client(unittest.TestCase):
    def client(self, frames, form="json", protocol=None):
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(listener, form, frames, protocol), daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(listener.close)
        client = V1Client("127.0.0.1", listener.getsockname()[1], form)
        self.addCleanup(client.close)
        return client

    def test_replies_and_pushes_are_told_apart_in_both_formats(self):
        for form in FORMATS:
            with self.subTest(form):
                octets = {"data_base64": "AAE="} if form == "json" else {"data": b"\0\1"}
                client = self.client([{"msgs": {"sub": 2, "topic": "t", "items": [{"id": "1-0", **octets}]}}, {},
                                      {"gap": {"sub": 3, "from": "1-0", "to": "2-0", "reason": "slow"}},
                                      {"id": None, "error": {"code": "bad_id", "message": "m"}},
                                      {"id": 2, "error": {"code": "limit", "message": "n"}}], form)
                with self.assertRaises(V1Error) as caught:
                    client.ping()
                self.assertEqual("limit", caught.exception.code)
                self.assertEqual("slow", client.gap(3)["reason"])
                self.assertEqual([{"id": "1-0", "data": b"\0\1", "topic": "t"}], client.items(2, 1))
                self.assertEqual(("bad_id", "m"), client.error())
                self.assertEqual((1, []), (client.heartbeats, client.quiet(0.01)))

    def test_other_subprotocol_and_a_second_reply_are_faults_of_the_server(self):
        with self.assertRaises(WsError):
            self.client([], protocol="chat")
        with self.assertRaises(WsError):
            self.client([{"id": 2, "ok": {}}, {"id": 2, "ok": {}}, {"id": 3, "ok": {}}]).reply(3)


if __name__ == "__main__":
    unittest.main()
