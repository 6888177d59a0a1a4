"""Engine.IO's long-polling by hand: requests as bytes, sessions over connections that are kept."""

import json

from raw import Raw

PATH = "/socket.io/?EIO=4&transport=polling"
SEPARATOR = "\x1e"
# The client's side of an upgrade, in which the session's id follows.
UPGRADE = "/socket.io/?EIO=4&transport=websocket&sid="


def get(target=PATH, *lines, method="GET", version="HTTP/1.1", host="localhost"):
    return "\r\n".join([f"{method} {target} {version}", f"Host: {host}", *lines, "", ""]).encode()


def post(target, body, *lines):
    """A POST whose length is declared, unless `lines` say how long it is."""
    body = body.encode() if isinstance(body, str) else body
    lines = lines or (f"Content-Length: {len(body)}",)
    return get(target, "Content-Type: text/plain;charset=UTF-8", *lines, method="POST") + body


def chunked(body, size=1000):
    body = body.encode() if isinstance(body, str) else body
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Session:
    """A polling session: one connection for its GETs, one for its POSTs."""

    def __init__(self, port, path="/socket.io/", timeout=5):
        self.gets, self.posts = Raw(port, timeout), Raw(port, timeout)
        self.port = port
        self.gets.send(get(f"{path}?EIO=4&transport=polling"))
        status, _, body = self.gets.answer()
        assert status == 200 and body.startswith(b"0{"), (status, body)
        self.sid = json.loads(body[1:])["sid"]
        self.target = f"{path}?EIO=4&transport=polling&sid={self.sid}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gets.socket.close()
        self.posts.socket.close()

    def poll(self):
        """(status, body) of a GET."""
        self.gets.send(get(self.target))
        return self.answer()

    def answer(self):
        """(status, body) of a GET that was sent before."""
        status, _, body = self.gets.answer()
        return status, body

    def say(self, body, *lines):
        """(status, body) of a POST."""
        self.posts.try_send(post(self.target, body, *lines))
        status, _, answer = self.posts.answer()
        return status, answer

    def connect(self, auth=""):
        """Joins the main namespace."""
        assert self.say("40" + auth) == (200, b"ok")
        status, body = self.poll()
        assert status == 200 and body.startswith(b'40{"sid":"'), (status, body)
        return self

    def works(self):
        """Asks for something and fetches the answer."""
        assert self.say('427["nope"]') == (200, b"ok")
        got = b""
        while b"437[" not in got:
            status, got = self.poll()
            assert status == 200, (status, got)
            if got == b"2":
                assert self.say("3") == (200, b"ok")

    def ended(self):
        """Nothing is left of it: what its id asks is refused."""
        for _ in range(20):
            with Raw(self.port) as raw:
                raw.send(get(self.target))
                status, _, body = raw.answer()
                if status == 400:
                    return
                assert status == 200, (status, body)
        raise AssertionError("the session is still there")
