"""A small WebSocket client (RFC 6455), enough to consume frames fast and to die in ugly ways.

Ownership: a client owns its socket.
Units: seconds, bytes.
Errors: OSError for the network, WsError for a peer that breaks the protocol, WsClosed for an orderly close.
Callers: one thread a client.
"""

import base64
import hashlib
import os
import socket
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
FRAME_BYTES_MAX = 64 * 1024 * 1024
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WsError(Exception):
    """The peer broke the protocol."""


class WsClosed(Exception):
    """The peer closed in order; code may be None."""

    def __init__(self, code):
        super().__init__(f"closed with {code}")
        self.code = code


class WsClient:
    """Connects in the constructor. receive() returns whole messages."""

    def __init__(self, host, port, path="/", timeout=5.0, receive_buffer=None, subprotocol=None,
                 tls=None, headers=(), source=None):
        self._buffer = bytearray()
        self._parts = []  # of a message whose last fragment has not come
        self._closed = None  # the peer's close, which ends every later read, too
        self.opcode = None  # TEXT or BINARY, of the message that came last
        self.subprotocol = None  # that the server chose
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._sock.settimeout(timeout)
            if source:
                self._sock.bind((source, 0))
            self._sock.connect((host, port))
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:  # an ssl.SSLContext
                self._sock = tls.wrap_socket(self._sock, server_hostname=host)
            self._upgrade(host, port, path, subprotocol, headers)
        except BaseException:
            self._sock.close()
            raise

    def fileno(self):
        return self._sock.fileno()

    def _upgrade(self, host, port, path, subprotocol, headers):
        key = base64.b64encode(os.urandom(16))
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key.decode()}", "Sec-WebSocket-Version: 13"]
        if subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        lines += headers
        self._sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).lower()
        if not head.startswith(b"HTTP/1.1 101") or accept not in head.lower():
            raise WsError(head.split(b"\r\n", 1)[0].decode("latin-1"))
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"sec-websocket-protocol":
                self.subprotocol = value.strip().decode("latin-1")

    def _fill(self):
        data = self._sock.recv(262144)
        if not data:
            raise ConnectionResetError("end of stream")
        self._buffer += data

    def _frame(self):
        """Takes one frame from the buffer: (final, opcode, payload), or None while it is not whole."""
        data = self._buffer
        if len(data) < 2:
            return None
        length, head = data[1] & 127, 2
        if length == 126:
            head = 4
        elif length == 127:
            head = 10
        if len(data) < head:
            return None
        if head == 4:
            length = struct.unpack_from(">H", data, 2)[0]
        elif head == 10:
            length = struct.unpack_from(">Q", data, 2)[0]
        if length > FRAME_BYTES_MAX or data[1] & 128 or data[0] & 0x70:
            raise WsError("bad frame head")
        if len(data) < head + length:
            return None
        final, opcode = bool(data[0] & 128), data[0] & 15
        payload = bytes(memoryview(data)[head:head + length])
        del data[:head + length]
        return final, opcode, payload

    def messages(self):
        """Every message that has come whole, as bytes, without reading; answers pings. Ends when there is no more."""
        if self._closed:
            raise self._closed
        frame = self._frame()
        while frame:
            final, opcode, payload = frame
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                self._closed = WsClosed(struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else None)
                raise self._closed
            elif (opcode == 0) == bool(self._parts) and opcode in (0, TEXT, BINARY):
                self._parts.append(payload)
                self.opcode = opcode or self.opcode
                if final:
                    parts, self._parts = self._parts, []
                    yield b"".join(parts)
            elif opcode != PONG:
                raise WsError(f"unexpected opcode {opcode}")
            frame = self._frame()

    def read(self, timeout=None):
        """One recv() into the buffer; for use before messages(), when the socket is readable."""
        self._sock.settimeout(timeout)
        self._fill()

    def receive(self, timeout=None):
        """The next whole message, as bytes. TimeoutError when nothing comes for so long."""
        while True:
            for message in self.messages():
                return message
            self.read(timeout)

    def send(self, payload, opcode=TEXT):
        """One masked frame."""
        mask = os.urandom(4)
        length = len(payload)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, length)
        # All at once: one integer for the payload, one for the repeated mask.
        repeated = (mask * (length // 4 + 1))[:length]
        body = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
        self._sock.sendall(head + mask + body)

    def ask_close(self):
        """Sends the close frame; what the peer had sent before its own is still to be read."""
        self.send(struct.pack(">H", 1000), CLOSE)

    def end(self):
        """Closes the socket, nothing else."""
        self._sock.close()

    def close(self):
        """An orderly close: the close frame, then the end of the stream. Does not wait for the peer's close frame."""
        try:
            self.ask_close()
        except OSError:
            pass
        self._sock.close()

    def drop(self):
        """Ends the connection with a reset, as a killed client with unread data does."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
