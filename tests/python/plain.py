"""A client on `/ws`: the same events as plain JSON, one connection, no reconnecting.

Owns its socket and the thread that reads it. `call` waits for the answer of one request, `say`
does not; what the engine sends besides lies in `messages` and `others`, in the order it came.
"""

import itertools
import json
import threading
from concurrent.futures import Future

import websocket


def dial(port, timeout=10):
    """A bare connection, before CONNECT."""
    return websocket.create_connection(
        f"ws://127.0.0.1:{port}/ws",
        timeout=timeout,
        subprotocols=["throng.json.v1"],
        enable_multithread=True,
        skip_utf8_validation=True,
    )


class Plain:
    """`with` it, or `close` it."""

    def __init__(self, port, name=None, timeout=30):
        self.timeout = timeout
        self.messages, self.others = [], []
        self._ids, self._answers = itertools.count(1), {}
        self._socket = dial(port, timeout)
        self.put("connect", {"username": name} if name else {})
        first = json.loads(self._socket.recv())
        if first["event"] != "connect":
            self._socket.close()
            raise PermissionError(first)
        self.sid = first["data"]["sid"]
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close(timeout=1)
        self._thread.join(10)

    def put(self, event, data, request=None):
        text = {"event": event, "data": data} | ({"id": request} if request else {})
        self.put_text(json.dumps(text))

    def put_text(self, text):
        """For what Python's own JSON would write in another way."""
        self._socket.send(text)

    def say(self, event, data):
        """A future of the answer; ConnectionError if the connection ends before it."""
        request, answer = next(self._ids), Future()
        self._answers[request] = answer
        self.put(event, data, request)
        return answer

    def call(self, event, data, timeout=None):
        return self.say(event, data).result(timeout or self.timeout)

    def ok(self, event, data, timeout=None):
        """The answer, which must not be an error."""
        answer = self.call(event, data, timeout)
        assert answer["ok"], (event, answer)
        return answer

    def refused(self, event, data, code):
        """The request must be answered with this error."""
        answer = self.call(event, data)
        assert not answer["ok"] and answer["error"]["code"] == code, (event, answer)
        return answer["error"]["message"]

    def write(self, room, body, client_id=None):
        more = {"clientId": client_id} if client_id else {}
        return self.ok("message", {"room": room, "body": body} | more)

    def bodies(self, room):
        """What was delivered of a room so far."""
        return [it["body"] for it in list(self.messages) if it["room"] == room]

    def _read(self):
        try:
            while text := self._socket.recv():
                self._take(json.loads(text))
        except (OSError, websocket.WebSocketException, ValueError, AttributeError):
            pass
        for answer in list(self._answers.values()):
            answer.set_exception(ConnectionError("the connection has ended"))

    def _take(self, message):
        event, data = message["event"], message.get("data")
        if event == "ack":
            self._answers.pop(message["id"]).set_result(data)
        elif event == "message":
            self.messages.append(data)
        else:
            self.others.append(message)
