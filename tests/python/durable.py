"""What must be true of messages that were acknowledged as kept, and who checks it.

`Publisher` writes into rooms, several messages under way at once, and repeats each with the same
clientId until it is acknowledged, through any number of ends of the engine. `judge` compares what
was acknowledged with what the store has afterwards and sorts the faults by kind. Nothing here
starts or ends an engine.
"""

import itertools
import json
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from urllib.parse import quote

import websocket
from engine import Engine
from plain import dial

UNDER_WAY = 6
SILENT_S_MAX = 30
KINDS = ("lost", "changed", "duplicate", "reordered", "phantom", "gap", "missing")


@dataclass
class Write:
    """One message from its first sending to its acknowledgement; times are of one clock."""

    client_id: str
    room: str
    body: object
    sent: int = 0
    tries: int = 0
    acked: int = 0
    id: str = ""
    seq: int = 0


class Publisher(threading.Thread):
    """Runs until `enough` is called and everything is acknowledged, or something is wrong."""

    clock = itertools.count(1)

    def __init__(self, port, name, rooms, seed):
        super().__init__(daemon=True)
        self.port, self.user, self.rooms = port, name, rooms
        self.random = random.Random(f"{seed}-{name}")
        self.writes, self.again = [], deque()
        self.sessions, self.refusals, self.faults = 0, 0, []
        self._enough = threading.Event()

    def enough(self):
        self._enough.set()

    def run(self):
        while not self.faults and (self.again or not self._enough.is_set()):
            try:
                self._session()
            except (OSError, websocket.WebSocketException):
                time.sleep(0.02)

    def _session(self):
        socket, under_way, heard = dial(self.port, SILENT_S_MAX), {}, {}
        try:
            say(socket, "connect", {"username": self.user})
            for number, room in enumerate(self.rooms):
                say(socket, "join", {"room": room}, number + 1)
            joined = 0
            while joined < len(self.rooms):
                told = hear(socket)
                joined += told["event"] == "ack"
                if told["event"] == "ack" and not told["data"]["ok"]:
                    return
            self.sessions += 1
            while self._fill(socket, under_way):
                self._take(hear(socket), under_way, heard)
        finally:
            left = [*under_way.values(), *self.again]
            self.again = deque(sorted(left, key=lambda it: it.sent))
            socket.shutdown()

    def _fill(self, socket, under_way):
        while len(under_way) < UNDER_WAY and (write := self._next()):
            write.sent = write.sent or next(self.clock)
            write.tries += 1
            request = 1000 + next(self.clock)
            under_way[request] = write
            data = {"room": write.room, "body": write.body, "clientId": write.client_id}
            say(socket, "message", data, request)
        return under_way

    def _next(self):
        if self.again:
            return self.again.popleft()
        if self._enough.is_set():
            return None
        number = len(self.writes)
        body = {"by": self.user, "n": number, "pad": "x" * self.random.randrange(300)}
        write = Write(f"{self.user}-{number}", self.random.choice(self.rooms), body)
        self.writes.append(write)
        return write

    def _take(self, told, under_way, heard):
        data = told.get("data")
        if told["event"] == "message":
            room, seq = data["room"], data["seq"]
            if seq != heard.setdefault(room, seq - 1) + 1:
                self.faults.append(f"{room}: {seq} was delivered after {heard[room]}")
            heard[room] = seq
        elif told["event"] == "ack" and told["id"] in under_way:
            write = under_way.pop(told["id"])
            if data["ok"]:
                write.acked, write.id, write.seq = next(self.clock), data["id"], data["seq"]
            elif data["error"]["code"] == "unavailable":
                self.refusals += 1
                self.again.append(write)
                time.sleep(0.05)
            else:
                self.faults.append(f"{write.client_id}: {data}")


def say(socket, event, data, request=None):
    socket.send(json.dumps({"event": event, "data": data} | ({"id": request} if request else {})))


def hear(socket):
    text = socket.recv()
    if not text:
        raise ConnectionError("the connection has ended")
    return json.loads(text)


def stored(engine: Engine, room, limit=100):
    """Every message of a room by rising seq, from the pages of the HTTP interface."""
    found, before = [], ""
    while True:
        path = f"/api/rooms/{quote(room, safe='')}/messages?limit={limit}{before}"
        page = engine.json(path)
        assert page.get("complete", True), (path, "says that messages are missing")
        found += page["messages"]
        if not page["more"]:
            return found[::-1]
        before = f"&before={page['messages'][-1]['seq']}"


def judge(writes, kept_by_room):
    """Faults by kind: lists of texts. `kept_by_room`: what each room has, by rising seq.

    `missing` counts what was never acknowledged: no fault of the engine unless it was up.
    """
    faults = {kind: [] for kind in KINDS}
    faults["missing"] = [it.client_id for it in writes if not it.acked]
    by_client = {it.client_id: it for it in writes}
    for room, kept in kept_by_room.items():
        _judge_room(room, kept, by_client, faults)
    by_place = {(room, it["seq"]): it for room, kept in kept_by_room.items() for it in kept}
    for write in (it for it in writes if it.acked):
        found = by_place.get((write.room, write.seq))
        if found is None:
            faults["lost"].append(f"{write} is acknowledged and not there")
        elif (found["id"], found.get("clientId")) != (write.id, write.client_id):
            faults["changed"].append(f"{write} is acknowledged, and there is {found}")
    for room in kept_by_room:
        _judge_order([it for it in writes if it.room == room and it.acked], faults)
    return faults


def _judge_room(room, kept, by_client, faults):
    seqs = [it["seq"] for it in kept]
    if seqs != list(range(1, len(kept) + 1)):
        gap = next(want for want, seq in enumerate([*seqs, -1], 1) if want != seq)
        faults["gap"].append(f"{room}: {gap} is not where it should be, of {len(seqs)}")
    for key in ("id", "clientId"):
        counts = Counter(it.get(key) for it in kept)
        twice = [f"{room}: {key} {it} {n} times" for it, n in counts.items() if it and n > 1]
        faults["duplicate"] += twice
    bodies = Counter(json.dumps(it["body"], sort_keys=True) for it in kept)
    faults["duplicate"] += [f"{room}: body {it} {n} times" for it, n in bodies.items() if n > 1]
    for it in kept:
        write = by_client.get(it.get("clientId"))
        if write is None or not write.sent or (write.room, write.body) != (room, it["body"]):
            faults["phantom"].append(f"{room}: nobody wrote {it}")


def _judge_order(acked, faults):
    """Whatever was sent after another message was acknowledged must stand behind it."""
    by_ack = iter(sorted(acked, key=lambda it: it.acked))
    before, last = next(by_ack, None), None
    for write in sorted(acked, key=lambda it: it.sent):
        while before is not None and before.acked < write.sent:
            last = max(last or before, before, key=lambda it: it.seq)
            before = next(by_ack, None)
        if last and last.seq > write.seq:
            faults["reordered"].append(f"{write} was sent after {last} was acknowledged")
