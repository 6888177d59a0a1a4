"""Clients that write and listen through every fault, on whichever host they find.

A `Client` is one user on `/ws`: it joins its rooms, hears, writes with several messages under way,
and whenever its connection ends goes to another host, says with `since` where it stands, and
repeats with the same clientId what was not acknowledged. What it saw goes to the checker.
`Traffic` is many of them, from a seed.
"""

import itertools
import json
import os
import random
import socket
import threading
import time
from collections import OrderedDict

import websocket
from engine import eventually
from fleet.checker import Checker
from plain import dial

UNDER_WAY_MAX = 8
DIAL_S_MAX = 5
SETTLED_S_MAX = 20
ENDS = (OSError, websocket.WebSocketException, ValueError, KeyError, AttributeError)


def seed():
    """Of this run; `SEED` repeats one."""
    return int(os.environ.get("SEED") or random.randrange(1 << 32))


class Client(threading.Thread):
    """`ports()` gives the hosts to choose from, the first choice is `home`."""

    connections = itertools.count(1)

    def __init__(self, checker, name, ports, rooms, seed, home=0, since=True):
        super().__init__(daemon=True)
        self.checker, self.user, self.ports, self.rooms = checker, name, ports, rooms
        self.random = random.Random(f"{seed}-{name}")
        self.since, self.home, self.next_host = since, home, home
        self.views = {room: checker.view(name, room) for room in rooms}
        self.unacked, self.requests = OrderedDict(), {}
        self.numbers = itertools.count()
        self.sessions, self.refusals, self.closes, self.sid = 0, 0, [], None
        self.others = []  # events that are no messages
        self.ready = threading.Event()
        self._lock = threading.RLock()
        self._room_to_write = threading.Semaphore(UNDER_WAY_MAX)
        self._over = threading.Event()
        self._socket, self._joins, self._request = None, {}, itertools.count(1000)

    # Its own thread.

    def run(self):
        while not self._over.is_set():
            try:
                self._session()
            except ENDS as error:
                self._ended(error)
                time.sleep(self.random.uniform(0.05, 0.25))

    def _session(self):
        ports = self.ports()
        if not ports:
            raise ConnectionError("no host is up")
        self.port = ports[self.next_host % len(ports)]
        self.next_host += 1
        self._socket, self.connection = self._dial(), next(self.connections)
        try:
            if not self._connect():
                self._join_all()
            self._repeat_all()
            self._socket.settimeout(None)
            while not self._over.is_set():
                self._take(self._hear())
        finally:
            self._socket.shutdown()

    def _dial(self):
        return dial(self.port, DIAL_S_MAX)

    def _connect(self):
        """Whether it is in its rooms already."""
        self._say("connect", {"username": self.user})
        told = self._hear()
        if told["event"] != "connect":
            raise ConnectionError(f"connect: {told}")
        self.sid = told["data"]["sid"]
        return False

    def _join_all(self):
        self._joins = dict(enumerate(self.rooms, 1))
        for number, room in self._joins.items():
            data = {"room": room, "presence": False}
            if self.since and self.views[room].position is not None:
                data["since"] = self.views[room].position
            self._say("join", data, number)
        missing = set(self._joins)
        while missing:
            told = self._hear()
            if told["event"] == "ack" and told["id"] in missing:
                missing.remove(told["id"])
                if not told["data"]["ok"]:
                    raise ConnectionError(f"join: {told['data']['error']['code']}")
                self._joined(told["id"], told["data"])
            else:
                self._take(told)

    def _joined(self, number, answer):
        view = self.views[self._joins[number]]
        view.joined(answer, view.position if self.since else None)

    def _hear(self):
        text = self._socket.recv()
        if not text:
            raise ConnectionError("the connection has ended")
        return json.loads(text)

    def _say(self, event, data, request=None):
        text = {"event": event, "data": data} | ({"id": request} if request else {})
        self._socket.send(json.dumps(text))

    def _ended(self, error):
        with self._lock:
            self.ready.clear()
            self.requests.clear()
            for write in self.unacked.values():
                if write.tries:
                    self.checker.unknown(write, answered=False)
        self.closes.append(repr(error))
        for view in self.views.values():
            view.closed(repr(error))

    def _take(self, told):
        event, data = told["event"], told.get("data")
        if event == "message":
            view = self.views.get(data["room"]) or self.checker.view(self.user, data["room"])
            view.delivered(data)
        elif event == "resync":
            self.views[data["room"]].gap(data["lastSeq"])
        elif event == "ack":
            self._acked(told["id"], data)
        else:
            self.others.append(told)

    def _acked(self, request, data):
        with self._lock:
            write = self.requests.pop(request, None)
            if write is None:
                return
            if data["ok"]:
                self.checker.ok(write, data["id"], data["seq"])
            elif data["error"]["code"] == "unavailable":
                self.refusals += 1
                self.checker.unknown(write)
                # Tried again before what is new, and not at once.
                threading.Timer(0.2, self._repeat, [write, self.connection]).start()
                return
            else:
                self.checker.fail(write, data["error"]["code"])
            del self.unacked[write.client_id]
            self._room_to_write.release()

    # Any thread.

    def write(self, room, body=None):
        """Waits while too much is under way; sends it now or with the next connection."""
        while not self._room_to_write.acquire(timeout=0.1):
            if self._over.is_set():
                return None
        with self._lock:
            number = next(self.numbers)
            body = {"by": self.user, "n": number} if body is None else body
            write = self.checker.invoke(f"{self.user}-{number}", room, body, self.user)
            self.unacked[write.client_id] = write
            if self.ready.is_set():
                self._send(write)
            return write

    def _send(self, write):
        request = next(self._request)
        self.requests[request] = write
        self.checker.sent(write, self.connection)
        data = {"room": write.room, "body": write.body, "clientId": write.client_id}
        try:
            self._say("message", data, request)
        except ENDS:
            pass  # the reading thread hears of it too

    def _repeat_all(self):
        with self._lock:
            self.sessions += 1
            self.requests.clear()
            for write in self.unacked.values():
                self._send(write)
            self.ready.set()

    def _repeat(self, write, connection):
        with self._lock:
            if self.ready.is_set() and connection == self.connection and not write.acked:
                self._send(write)

    def idle(self):
        with self._lock:
            return self.ready.is_set() and not self.unacked

    def break_connection(self):
        """As a network does: no goodbye."""
        try:
            self._socket.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass  # there is none

    def end(self):
        self._over.set()
        self.break_connection()


class Recoverer(Client):
    """The same over Socket.IO, with recovery instead of `since`: where the engine says that it is
    the session it was, nothing may be missing; where it says that it is new, it joins again.
    """

    def __init__(self, *args, **more):
        super().__init__(*args, since=False, **more)
        self.pid, self.offset, self.recoveries = None, None, 0
        # Claims whose answer was lost: nobody knows what of it was heard.
        self.claims_lost, self.news, self.journal = 0, [], []

    def recovered_all(self):
        """Whether it came back as itself each time that it could."""
        return self.sessions - 1 - self.recoveries <= self.claims_lost

    def __str__(self):
        return (f"{self.user}: {self.sessions} sessions, {self.recoveries} recovered, "
                f"{self.claims_lost} answers lost, new: {self.news[1:]}")

    def _dial(self):
        url = f"ws://127.0.0.1:{self.port}/socket.io/?EIO=4&transport=websocket"
        connection = websocket.create_connection(url, timeout=DIAL_S_MAX, enable_multithread=True)
        opened = connection.recv()
        if not opened.startswith("0{"):
            raise ConnectionError(f"no session: {opened}")
        return connection

    def _connect(self):
        claim = {"pid": self.pid, "offset": self.offset} if self.pid else {}
        claim = {key: value for key, value in claim.items() if value is not None}
        self._socket.send("40" + json.dumps(claim | {"username": self.user}))
        early = []
        self.claims_lost += bool(claim)
        while (told := self._hear())["event"] != "connect":
            early.append(told)
        self.claims_lost -= bool(claim)
        is_same = told["data"]["pid"] == self.pid
        self.journal.append(f"{self.checker.now():.3f} on {self.port} with offset "
                            f"{claim.get('offset')}: {'recovered' if is_same else 'new'}")
        self.sid, self.pid = told["data"]["sid"], told["data"]["pid"]
        if is_same:
            self.recoveries += 1
            for view in self.views.values():
                view.recovered()
        else:
            self.news.append(f"at {self.checker.now():.3f} with {claim}")
            self.offset = None
        for it in early:
            self._take(it)
        return is_same

    def _say(self, event, data, request=None):
        number = "" if request is None else request
        self._socket.send(f"42{number}{json.dumps([event, data])}")

    def _hear(self):
        while True:
            text = self._socket.recv()
            if not text:
                raise ConnectionError("the connection has ended")
            if text == "2":
                self._socket.send("3")
            elif text.startswith("40"):
                return {"event": "connect", "data": json.loads(text[2:])}
            elif text.startswith("42"):
                event, data, *offset = json.loads(text[2:])
                self.offset = offset[-1] if offset else self.offset
                return {"event": event, "data": data}
            elif text.startswith("43"):
                at = text.index("[")
                return {"event": "ack", "id": int(text[2:at]), "data": json.loads(text[at:])[0]}
            elif text.startswith("4"):
                raise ConnectionError(text)


class Traffic:
    """`with` it: writers and listeners on all hosts, which write until `judge`.

    Each client is in every room. `rate` is messages per second of each writer.
    """

    numbers = itertools.count(1)

    def __init__(self, hosts, rooms=2, listeners=3, writers=3, rate=40, prefix="room",
                 pad_bytes=200, seed_=None, ports=None, recoverers=0):
        self.seed = seed() if seed_ is None else seed_
        print(f"SEED={self.seed}")
        self.hosts, self.rate, self.pad_bytes = hosts, rate, pad_bytes
        number = next(self.numbers)
        self.rooms = [f"{prefix}-{number}-{n}" for n in range(rooms)]
        self.checker = Checker()
        self.random = random.Random(self.seed)
        names = [f"writer{n}" for n in range(writers)] + [f"listener{n}" for n in range(listeners)]
        self.clients = [
            Client(self.checker, name, ports or hosts.ports, self.rooms, self.seed, home)
            for home, name in enumerate(names)
        ]
        self.recoverers = [
            Recoverer(self.checker, f"recoverer{n}", ports or hosts.ports, self.rooms, self.seed,
                      home=n)
            for n in range(recoverers)
        ]
        self.clients += self.recoverers
        self.writers = self.clients[:writers]
        self._paused = threading.Event()
        self._over = threading.Event()
        self._pens = [threading.Thread(target=self._write, args=[it], daemon=True)
                      for it in self.writers]

    def __enter__(self):
        for it in self.clients:
            it.start()
        for it in self.clients:
            if not it.ready.wait(15):
                self.stop()
                raise AssertionError(f"{it.user} could not join: {it.closes}")
        for it in self._pens:
            it.start()
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is not None:
            print(f"SEED={self.seed}")

    def stop(self):
        self._over.set()
        for it in self.clients:
            it.end()
        for it in [*self._pens, *self.clients]:
            if it.ident:
                it.join(10)

    def _write(self, client):
        chance = random.Random(f"{self.seed}-{client.user}-what")
        numbers = itertools.count()
        while not self._over.is_set():
            if self._paused.is_set():
                time.sleep(0.02)
                continue
            body = [next(numbers), "x" * chance.randrange(self.pad_bytes)]
            client.write(chance.choice(self.rooms), body)
            time.sleep(chance.uniform(0.5, 1.5) / self.rate)

    def acked(self):
        return sum(it.acked is not None for it in list(self.checker.writes.values()))

    def flows(self, count=30, seconds=15):
        """Waits until so many more messages are acknowledged."""
        before = self.acked()

        def more():
            assert self.acked() >= before + count, (
                f"{self.acked() - before} of {count} messages acknowledged within {seconds} s; "
                f"{self.refusals()} refusals"
            )

        eventually(more, seconds)

    def pause(self):
        """Nothing new is written, and everything that is has an answer and has come."""
        self.settle()

    def resume(self):
        self._paused.clear()

    def settle(self, seconds=SETTLED_S_MAX):
        """Nothing new is written, and everything that is has an answer. Then one message more in
        every room, which must come to everybody.
        """
        self._paused.set()
        self._all_idle(seconds)
        ends = [self.writers[0].write(room, "end") for room in self.rooms]
        self._all_idle(seconds)

        def came():
            for client in self.clients:
                for room, end in zip(self.rooms, ends):
                    position = client.views[room].position
                    assert position is not None and position >= end.seq, (
                        f"{client.user} is at {position} in {room}, whose last is {end}"
                    )

        eventually(came, seconds)
        time.sleep(0.3)  # for what should not come

    def _all_idle(self, seconds):
        def idle():
            busy = [it.user for it in self.clients if not it.idle()]
            assert not busy, f"{busy} have no connection or no answer; {self.checker.judge()}"

        eventually(idle, seconds)

    def final(self):
        """What each room has in the end: {room: {seq: id}}, as far as it is kept."""
        host = next(it for it in self.hosts if it.alive())
        return {room: dict(_kept(host, room)) for room in self.rooms}

    def judge(self, settle=True):
        """Ends the writing; the verdict, which the test may ask more of. Fails on any fault."""
        if settle:
            try:
                self.settle()
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.checker.judge()}") from None
        verdict = self.checker.judge(self.final())
        print(verdict)
        return verdict.check()

    def untold(self, since):
        """Views that have not been told of a break since then: `user in room`."""
        views = [it for client in self.clients for it in client.views.values()]
        return sorted(f"{it.who} in {it.room}" for it in views if not _was_told(it, since))

    def nobody_missed_anything(self):
        """Nobody was told of a break either."""
        views = [it for client in self.clients for it in client.views.values()]
        told = [f"{view.who} in {view.room}: " + " | ".join(map(str, view.events[at - 2 : at + 1]))
                for view in views for at, event in enumerate(view.events) if _tells(event)]
        assert not told, "\n".join(["told of a break, though nothing was lost:", *told[:6]])

    def refusals(self):
        return sum(it.refusals for it in self.clients)

    def sids(self):
        """Of the connections that stand."""
        return {it.sid for it in self.clients if it.ready.is_set()}


def _kept(host, room):
    """(seq, id) of each message, the newest first."""
    before = ""
    while True:
        status, body = host.get(f"/api/rooms/{room}/messages?limit=100{before}")
        page = json.loads(body) if status == 200 else {"messages": []}
        yield from ((it["seq"], it["id"]) for it in page["messages"])
        if not page["messages"] or not page["more"]:
            return
        before = f"&before={page['messages'][-1]['seq']}"


def _was_told(view, since):
    return any(event.at >= since and _tells(event) for event in list(view.events))


def _tells(event):
    """Whether it says that something is missing."""
    return event.what == "gap" or event.what == "join" and not event.told["complete"]
