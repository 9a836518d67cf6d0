#!/usr/bin/python3
"""deploy/cmq_ws.py: a small WebSocket client with Python's own library only. Prints one line of JSON a message.

usage: cmq_ws.py [ws://HOST:PORT/ | wss://HOST:PORT/]
           the root endpoint: contents of topic "default", shared with every other client there (group "default")
       cmq_ws.py --subscribe TOPIC [--since earliest|latest|ID] [--count N] [ws://HOST:PORT]
           everything of a topic or pattern, from where you say; gaps are printed as they come
       cmq_ws.py --consume TOPIC --group NAME [--count N] [ws://HOST:PORT]
           the messages of a consumer group, each acknowledged once it is printed
wss: --ca FILE says whom to trust (else the system's authorities), --cert FILE and --key FILE show a certificate.
A token is read from --token-file FILE or from CIPHERMQ_TOKEN; it is not taken from the command line, which others can see.
"""

import argparse
import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import sys
import time
import urllib.parse

WAIT_S = 10.0
OP_TEXT, OP_CLOSE, OP_PING, OP_PONG = 1, 8, 9, 10


class WebSocketError(Exception):
    """The other side did not do what it should; the text is for the user."""


class WebSocket:
    """Just enough of RFC 6455 for a client: text messages in, pong and close out."""

    def __init__(self, host, port, path="/", protocol=None, tls=None, token=None):
        self.data = b""
        self.sock = socket.create_connection((host, port), timeout=WAIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=host)
        key = base64.b64encode(os.urandom(16)).decode()
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{f'Sec-WebSocket-Protocol: {protocol}' + chr(13) + chr(10) if protocol else ''}"
            f"{f'Authorization: Bearer {token}' + chr(13) + chr(10) if token else ''}\r\n".encode()
        )
        while b"\r\n\r\n" not in self.data:
            self._more()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if " 101 " not in lines[0] or fields.get("sec-websocket-accept") != base64.b64encode(accept).decode():
            raise WebSocketError(f"the WebSocket port did not accept the upgrade: {lines[0]}")

    def _more(self):
        chunk = self.sock.recv(65536)
        if not chunk:
            raise WebSocketError("the WebSocket port closed the connection")
        self.data += chunk

    def _take(self, count):
        while len(self.data) < count:
            self._more()
        part, self.data = self.data[:count], self.data[count:]
        return part

    def _send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        size = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
        self.sock.sendall(struct.pack("!B", 0x80 | opcode) + size + mask + masked)

    def receive(self, deadline=None):
        """The next text message, put together from its fragments. Without a deadline it waits for ever."""
        message = b""
        while True:
            self.sock.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
            first, second = self._take(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self._take(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._take(8))
            payload = self._take(length)
            opcode = first & 0x0F
            if opcode == OP_PING:
                self._send(OP_PONG, payload)
            elif opcode == OP_CLOSE:
                raise WebSocketError("the dispatcher closed the connection")
            elif opcode in (0, OP_TEXT):
                message += payload
                if first & 0x80:
                    return message.decode()

    def send(self, text):
        """One text message."""
        self._send(OP_TEXT, text.encode())

    def close(self):
        """Says goodbye, so that the dispatcher does not wait for us."""
        self._send(OP_CLOSE, struct.pack("!H", 1000))
        self.sock.close()


def tls_context(ca=None, cert=None, key=None):
    """What wss:// needs. ca: a file of certificates that are trusted, authorities or the server's own."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if cert:
        context.load_cert_chain(cert, key)
    return context


def read_token(path):
    if not path:
        return os.environ.get("CIPHERMQ_TOKEN")
    with open(path, encoding="ascii") as text:
        return text.read().strip()


def show(value):
    print(json.dumps(value, ensure_ascii=False), flush=True)


def command(client, number, name, fields):
    """Sends one command and returns what its reply says; pushes that come before it are not expected here."""
    client.send(json.dumps({"id": number, name: fields}))
    while True:
        reply = json.loads(client.receive(time.monotonic() + WAIT_S))
        if reply.get("id") == number:
            break
    if "error" in reply:
        raise WebSocketError(f"{name}: {reply['error']['message']}")
    return reply["ok"]


def root(client):
    while True:
        for message in json.loads(client.receive()):
            show(message)


def follow(client, args):
    """A subscription or a member of a group."""
    command(client, 1, "connect", {})
    if args.group:
        client.send(json.dumps({"id": 2, "consume": {"topic": args.consume, "group": args.group}}))
    else:
        client.send(json.dumps({"id": 2, "subscribe": {"topic": args.subscribe, "since": args.since}}))
    left = args.count
    while left is None or left > 0:
        frame = json.loads(client.receive())
        if "error" in frame:
            raise WebSocketError(frame["error"]["message"])
        if "gap" in frame:
            show(frame)
        if "msgs" not in frame:
            continue
        items = frame["msgs"]["items"][:left]
        for item in items:
            show({"topic": frame["msgs"]["topic"], **item})
        left = None if left is None else left - len(items)
        if args.group:
            ids = [f"{item['id']}:{item['attempt']}" for item in items]
            for start in range(0, len(ids), 1000):
                client.send(json.dumps({"id": 3, "ack": {"group": args.group, "ids": ids[start : start + 1000]}}))
    if args.group:  # the last acknowledgement is durable when its reply is here
        command(client, 4, "ping", {})
        command(client, 5, "unsubscribe", {"id": 2})


def main():
    parser = argparse.ArgumentParser(prog="cmq_ws.py", description="prints messages of CipherMQ, one line of JSON each")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8080/", metavar="ws://HOST:PORT/")
    parser.add_argument("--subscribe", metavar="TOPIC", help="everything of a topic or pattern")
    parser.add_argument("--since", default="latest", help="earliest, latest, or the id of the last message that you have")
    parser.add_argument("--consume", metavar="TOPIC", help="as a member of --group")
    parser.add_argument("--group", metavar="NAME")
    parser.add_argument("--count", type=int, help="end after so many messages")
    parser.add_argument("--ca", metavar="FILE", help="wss: certificates that are trusted, PEM")
    parser.add_argument("--cert", metavar="FILE", help="wss: our certificate, PEM")
    parser.add_argument("--key", metavar="FILE", help="wss: its key, PEM")
    parser.add_argument("--token-file", metavar="FILE", help="the token, alone in a file")
    args = parser.parse_args()
    url = urllib.parse.urlsplit(args.url)
    if url.scheme not in ("ws", "wss") or not url.hostname:
        parser.error("the address must look like ws://127.0.0.1:8080/ or wss://...")
    about = {"tls": tls_context(args.ca, args.cert, args.key) if url.scheme == "wss" else None,
             "token": read_token(args.token_file)}
    port = url.port or (443 if url.scheme == "wss" else 80)
    if (args.consume is None) != (args.group is None) or (args.consume and args.subscribe):
        parser.error("give --subscribe TOPIC, or --consume TOPIC with --group NAME")
    if args.subscribe or args.consume:
        follow(WebSocket(url.hostname, port, "/v1/ws", "ciphermq.v1.json", **about), args)
    else:
        root(WebSocket(url.hostname, port, url.path or "/", **about))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except (WebSocketError, OSError) as error:
        sys.exit(f"cmq_ws: {error}")
