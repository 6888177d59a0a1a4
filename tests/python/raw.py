"""WebSocket and HTTP by hand, over a plain socket: says exactly the bytes a test wants said."""

import os
import socket
import struct
import time
from dataclasses import dataclass

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PATH = "/socket.io/?EIO=4&transport=websocket"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def request(path=PATH, method="GET", version="HTTP/1.1", drop=(), extra=(), **headers):
    """The bytes of a handshake; `drop` leaves headers out, `headers` replace them (`_` is `-`)."""
    fields = {
        "Host": "localhost",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} {version}".rstrip()]
    lines += [f"{name}: {value}" for name, value in fields.items() if name not in drop]
    return "\r\n".join([*lines, *extra, "", ""]).encode("latin-1")


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=True, length=None):
    """One frame. `length` overrides what the header says: (byte, extended bytes)."""
    payload = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if length is not None:
        size, extended = length
    elif len(payload) < 126:
        size, extended = len(payload), b""
    elif len(payload) < 65536:
        size, extended = 126, struct.pack(">H", len(payload))
    else:
        size, extended = 127, struct.pack(">Q", len(payload))
    head = bytes([first, (0x80 if mask else 0) | size]) + extended
    if not mask:
        return head + payload
    key = os.urandom(4)
    stream = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + key + masked.to_bytes(len(payload), "big")


@dataclass
class Closed:
    """How a connection ended: the code of the close frame (1005: none in it; 1006: no frame)."""

    code: int
    reason: str = ""


class Raw:
    """One connection. `recv` yields messages, answers nothing, and returns `Closed` at the end."""

    def __init__(self, port, timeout=5, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def try_send(self, data):
        """For bytes that the engine need not wait for: it may have closed already."""
        try:
            self.send(data)
        except OSError:
            pass

    def text(self, payload):
        self.send(frame(TEXT, payload))

    def reset(self):
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        self.buffer += data
        return bool(data)

    def _take(self, count):
        while len(self.buffer) < count:
            if not self._more():
                return None
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self):
        """(status, headers) of the answer, (None, {}) where there is none."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None, {}
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        return int(first.split(" ")[1]), headers

    def rest(self):
        """Everything until the connection ends."""
        while self._more():
            pass
        return self.buffer

    def answer(self):
        """(status, headers, body) of an HTTP answer; what follows it stays to be read."""
        status, headers = self.head()
        if status in (None, 101) or "content-length" not in headers:
            return status, headers, b""
        return status, headers, self._take(int(headers["content-length"]))

    def recv(self):
        """(opcode, payload) of the next frame, or `Closed`."""
        head = self._take(2)
        if head is None:
            return Closed(1006)
        assert not head[1] & 0x80, "a server must not mask"
        assert not head[0] & 0x70, "no extension was agreed"
        size = head[1] & 0x7F
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(self._take(width), "big")
        payload = self._take(size)
        if payload is None:
            return Closed(1006)
        if head[0] & 0x0F == CLOSE:
            if len(payload) < 2:
                return Closed(1005)
            return Closed(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        return head[0] & 0x0F, payload

    def recv_text(self):
        """The next text that is not a ping of Engine.IO's."""
        while True:
            got = self.recv()
            if isinstance(got, Closed):
                return got
            if got[0] == TEXT and got[1] != b"2":
                return got[1].decode()

    def until_closed(self, seconds=5):
        """Reads on to the close; fails if the connection is still open after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                got = self.recv()
            except TimeoutError:
                raise AssertionError(f"still open after {seconds} s") from None
            if isinstance(got, Closed):
                return got
            assert time.monotonic() < deadline, f"still talking after {seconds} s"

    def assert_ended(self, seconds=5):
        """Once the close frame is answered the TCP connection ends too."""
        self.try_send(frame(CLOSE, b"\x03\xe8"))
        self.socket.settimeout(seconds)
        try:
            self.rest()
        except TimeoutError:
            raise AssertionError(f"TCP still open {seconds} s after the close") from None


def open_websocket(port, **options):
    """A connection after the handshake and Engine.IO's open packet."""
    raw = Raw(port, **options)
    raw.send(request())
    status, headers = raw.head()
    assert status == 101 and headers["sec-websocket-accept"] == ACCEPT
    opened = raw.recv_text()
    assert opened.startswith('0{"sid":'), opened
    return raw


def open_socketio(port, auth="", **options):
    """A connection that has joined the main namespace."""
    raw = open_websocket(port, **options)
    raw.text("40" + auth)
    connected = raw.recv_text()
    assert not isinstance(connected, Closed) and connected.startswith('40{"sid":"'), connected
    return raw
