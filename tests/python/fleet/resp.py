"""Redis's protocol, as little of it as tests need: write commands, read values, ask one server.

`Reader` takes bytes as they come and gives whole values with their ends, of RESP2 and RESP3.
"""

import socket


class RedisError(Exception):
    """An error that Redis answered."""


class Push(list):
    """A value that answers no command."""


class _Incomplete(Exception):
    pass


def command(*args):
    """The bytes of a command."""
    parts = [it if isinstance(it, bytes) else str(it).encode() for it in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(it), it) for it in parts)


class Reader:
    """Values from bytes that come in pieces."""

    def __init__(self):
        self._buffer, self._at = bytearray(), 0

    def feed(self, data):
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def values(self):
        """(value, how many bytes of the buffer follow it) of each whole value."""
        while self._at < len(self._buffer):
            try:
                value, self._at = self._value(self._at)
            except _Incomplete:
                return
            yield value, len(self._buffer) - self._at

    def _value(self, at):
        end = self._buffer.find(b"\r\n", at)
        if end < 0:
            raise _Incomplete
        kind, text, at = self._buffer[at : at + 1], bytes(self._buffer[at + 1 : end]), end + 2
        if kind in b"$=!":
            return self._bulk(kind, int(text), at)
        if kind in b"*~>%|":
            return self._many(kind, int(text), at)
        if kind == b"-":
            return RedisError(text.decode()), at
        if kind == b":":
            return int(text), at
        if kind == b"_":
            return None, at
        if kind in b"+,#(":
            return text, at
        raise ValueError(f"{kind} begins no value")

    def _bulk(self, kind, size, at):
        if size < 0:
            return None, at
        if len(self._buffer) < at + size + 2:
            raise _Incomplete
        data = bytes(self._buffer[at : at + size])
        return (RedisError(data.decode()) if kind == b"!" else data), at + size + 2

    def _many(self, kind, count, at):
        if count < 0:
            return None, at
        values = Push() if kind == b">" else []
        for _ in range(count * (2 if kind in b"%|" else 1)):
            value, at = self._value(at)
            values.append(value)
        if kind == b"|":
            return self._value(at)  # attributes belong to the value behind them
        return values, at


class Asker:
    """One connection to one server. Answers are bytes, numbers, None or lists of them."""

    def __init__(self, port, host="127.0.0.1", timeout=10, password=None, user=None):
        self._socket = socket.create_connection((host, port), timeout)
        self._reader = Reader()
        if password:
            self.ask("AUTH", *([user] if user else []), password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def ask(self, *args):
        """The answer; raises `RedisError`, or OSError where there is none."""
        self._socket.sendall(command(*args))
        return self.hear()

    def hear(self):
        """The next value that the server says."""
        for value, _ in self._reader.values():
            return self._good(value)
        while True:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("Redis has closed the connection")
            self._reader.feed(data)
            for value, _ in self._reader.values():
                return self._good(value)

    @staticmethod
    def _good(value):
        if isinstance(value, RedisError):
            raise value
        return value


def ask(port, *args, **options):
    """One question on a connection of its own."""
    with Asker(port, **options) as asker:
        return asker.ask(*args)
