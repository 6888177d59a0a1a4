"""Proves that a client whose connection broke comes back on any host of the fleet with what it has
missed, each message once and in order; also when its host was killed. Where that cannot be, it is
told that it is new.
"""

import json
import time

import pytest
import websocket
from engine import eventually
from fleet.hosts import HOST_TTL_S, agree
from fleet.redis import have_redis
from fleet.traffic import Traffic
from fleet.world import World
from plain import Plain

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")

ROOM = "room"
# Of several faults, each of which may take as long as one is allowed to.
LONG = pytest.mark.timeout(300)


class Sio:
    """A Socket.IO client by hand: it can say any `pid` and `offset`, and end without a word.

    `before` and `after` are the events before and after the answer to CONNECT. `stop_after`: reads
    no more than so many of those before.
    """

    def __init__(self, host, name=None, pid=None, offset=None, stop_after=None):
        url = f"ws://127.0.0.1:{host.port}/socket.io/?EIO=4&transport=websocket"
        self.socket = websocket.create_connection(url, timeout=15)
        assert self.socket.recv().startswith("0{")
        auth = {"pid": pid, "offset": offset, "username": name}
        self.socket.send("40" + json.dumps({k: v for k, v in auth.items() if v is not None}))
        self.before, self.after, self.answers, self.offset = [], [], {}, offset
        self.requests = 0
        self.reply = None
        while self.reply is None and len(self.before) != stop_after:
            self._take(self.socket.recv())
        reply = self.reply or {"sid": None, "pid": pid}
        self.sid, self.pid = reply["sid"], reply.get("pid")

    def _take(self, text):
        if text == "2":
            self.socket.send("3")
        elif text.startswith("40"):
            self.reply = json.loads(text[2:])
        elif text.startswith("42"):
            name, *args = json.loads(text[2:])
            if isinstance(args[-1], str):
                self.offset = args[-1]
            (self.after if self.reply else self.before).append((name, args[0]))
        elif text.startswith("43"):
            at = text.index("[")
            self.answers[int(text[2:at])] = json.loads(text[at:])[0]
        else:
            raise AssertionError(f"unexpected: {text}")

    def call(self, event, data):
        self.requests += 1
        number = self.requests
        self.socket.send(f"42{number}" + json.dumps([event, data]))
        while number not in self.answers:
            self._take(self.socket.recv())
        return self.answers.pop(number)

    def ok(self, event, data):
        answer = self.call(event, data)
        assert answer["ok"], answer
        return answer

    def until(self, body, seconds=10):
        """Reads until this message has come."""
        self.socket.settimeout(seconds)
        while body not in self.bodies():
            self._take(self.socket.recv())
        self.socket.settimeout(15)

    def messages(self):
        return [data for name, data in self.before + self.after if name == "message"]

    def bodies(self):
        return [it["body"] for it in self.messages()]

    def cut(self):
        """The connection ends as a network ends it."""
        self.socket.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()


@pytest.fixture
def world(request):
    settings = {"RECOVERY_WINDOW": "2m"} | getattr(request, "param", {})
    with World(**settings) as made:
        yield made


@pytest.fixture
def ann(world):
    """Stays on the last host and talks."""
    with Plain(world.hosts[2].port, "ann") as client:
        client.ok("join", {"room": ROOM})
        yield client


def with_world(**options):
    return pytest.mark.parametrize("world", [options], indirect=True)


def comes(world, host=0, room=ROOM, name="bob"):
    """Bob, in the room on that host."""
    bob = Sio(world.hosts[host], name)
    bob.ok("join", {"room": room, "metadata": {"hat": 1}, "presence": False})
    return bob


def says(ann, *bodies, room=ROOM):
    for body in bodies:
        ann.write(room, body)


def is_back(world, old, new, missed, ann, room=ROOM):
    """Recovered on another host: who it was, what it missed, and what comes next."""
    assert new.pid == old.pid, f"it is new: {new.reply}"
    assert new.sid != old.sid, "a socket's id says on which host it is"
    assert new.bodies() == missed, new.before + new.after
    said = ann.write(room, "next")
    new.until("next")
    assert new.bodies() == [*missed, "next"]
    seqs = [it["seq"] for it in new.messages()]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) and seqs[-1] == said["seq"]
    assert new.ok("message", {"room": room, "body": "mine"})["seq"] == said["seq"] + 1
    eventually(lambda: _same(ann.bodies(room)[-1], "mine"))
    agree(world.hosts, room, {new.sid, ann.sid}, HOST_TTL_S + 8)
    found = ann.ok("participants", {"room": room})["participants"]
    (its,) = [it for it in found if it["id"] == new.sid]
    assert (its["name"], its["metadata"]) == ("bob", {"hat": 1})


def _same(found, wanted):
    assert found == wanted


def back(world, host, old, offset=None, name="bob"):
    return Sio(world.hosts[host], name, old.pid, old.offset if offset is None else offset)


def test_comes_back_on_another_host(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    bob.cut()
    says(ann, 1, 2, 3)
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [1, 2, 3], ann)


def test_comes_back_where_nothing_was_missed(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    bob.cut()
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [], ann)


def test_comes_back_without_having_read_anything(world, ann):
    bob = comes(world)
    bob.cut()
    says(ann, 1, 2)
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [1, 2], ann)


def test_comes_back_before_anybody_knows_that_it_was_away(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [], ann)
    bob.cut()


def test_comes_back_to_a_killed_hosts_neighbour(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    says(ann, 1, 2)
    time.sleep(0.5)  # less than this, and what it has passed on may not have been told
    world.hosts[0].kill9()
    says(ann, 3)
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [1, 2, 3], ann)


def test_comes_back_to_a_killed_hosts_neighbour_having_read_nothing(world, ann):
    bob = comes(world)
    time.sleep(0.5)  # less than this, and its joining may not have been remembered
    world.hosts[0].kill9()
    says(ann, 1, 2)
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [1, 2], ann)


def test_comes_back_after_its_host_has_ended_well(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    world.hosts[0].stop()
    bob.cut()
    says(ann, 1)
    with back(world, 1, bob) as again:
        is_back(world, bob, again, [1], ann)


def test_comes_back_again_and_again(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    for turn in range(6):
        bob.cut()
        bodies = [f"{turn}-{n}" for n in range(4)]
        says(ann, *bodies)
        again = back(world, (turn + 1) % 3, bob)
        assert (again.pid, again.bodies()) == (bob.pid, bodies), again.reply
        assert again.sid != bob.sid
        bob = again
    agree(world.hosts, ROOM, {bob.sid, ann.sid})
    bob.cut()


def test_comes_back_twice_with_nothing_to_read_in_between(world, ann):
    """The offset that it brings is still that of the first host, which has said much."""
    bob = comes(world)
    says(ann, *range(60))
    bob.until(59)
    bob.cut()
    second = back(world, 1, bob)
    assert (second.pid, second.bodies()) == (bob.pid, [])
    second.cut()
    says(ann, "a", "b", "c")
    third = back(world, 2, second)
    assert (third.pid, third.bodies()) == (bob.pid, ["a", "b", "c"])
    third.cut()


@pytest.mark.parametrize("read", [0, 1, 4, 9])
@pytest.mark.parametrize("host", [0, 1])
def test_breaks_again_amid_what_it_missed(world, ann, read, host):
    """It comes on a third connection with what it has read of the second, or nothing of it."""
    bob, cem = comes(world), comes(world, name="cem")
    says(ann, "read")
    bob.until("read"), cem.until("read")
    bob.cut(), cem.cut()
    says(ann, *range(10))
    second = Sio(world.hosts[host], "bob", bob.pid, bob.offset, stop_after=read)
    assert second.bodies() == list(range(read))
    time.sleep(0.3)
    second.cut()
    says(ann, 10, 11)
    with back(world, 2, second) as third:
        assert (third.pid, third.bodies()) == (bob.pid, list(range(read, 12))), third.reply
    # The control: whoever broke once is recovered, with all of the same messages.
    with back(world, 2, cem, name="cem") as again:
        assert (again.pid, again.bodies()) == (cem.pid, list(range(12))), again.reply


def test_comes_back_where_it_was_first(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    bob.cut()
    second = back(world, 1, bob)
    second.cut()
    says(ann, 1, 2)
    with back(world, 0, second) as third:
        assert (third.pid, third.bodies()) == (bob.pid, [1, 2])


@LONG
def test_comes_back_while_others_write(world, ann):
    """Each message once and in order, whichever side of the answer it comes on."""
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    wanted = ["read"]
    heard = bob.bodies()
    for turn in range(5):
        waiting = [ann.say("message", {"room": ROOM, "body": f"{turn}-{n}"}) for n in range(120)]
        wanted += [f"{turn}-{n}" for n in range(120)]
        bob.cut()
        again = back(world, (turn + 1) % 3, bob)
        assert again.pid == bob.pid, f"it is new on turn {turn}: {again.reply}"
        assert all(it.result(30)["ok"] for it in waiting)
        again.until(wanted[-1])
        heard += again.bodies()
        assert heard == wanted, _difference(heard, wanted)
        bob = again
    bob.cut()


@LONG
def test_connections_break_under_traffic(world):
    with Traffic(world.hosts, recoverers=3, listeners=1) as traffic:
        for _ in range(8):
            traffic.flows(15)
            for it in traffic.recoverers:
                it.break_connection()
        traffic.flows()
        traffic.judge()
        all_recovered(traffic)
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids())


def all_recovered(traffic):
    story = "\n".join(map(str, traffic.recoverers))
    print(story)
    assert all(it.recovered_all() for it in traffic.recoverers), story


@LONG
def test_hosts_are_killed_under_traffic(world):
    """What a host has passed on in its last moments nobody knows: who has read of it may be new,
    but nothing is lost without a word or comes twice.
    """
    with Traffic(world.hosts, recoverers=3, listeners=1) as traffic:
        for n in range(3):
            traffic.flows(20)
            world.hosts[n].kill9()
            traffic.flows(20)
            world.hosts.replace(n)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        print("\n".join(map(str, traffic.recoverers)))


@LONG
def test_hosts_are_killed_while_it_is_quiet(world):
    with Traffic(world.hosts, recoverers=3, listeners=1) as traffic:
        for n in range(3):
            traffic.flows(20)
            traffic.pause()
            time.sleep(0.5)
            world.hosts[n].kill9()
            traffic.resume()
            traffic.flows(20)
            world.hosts.replace(n)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        all_recovered(traffic)


@LONG
def test_hosts_end_well_under_traffic(world):
    with Traffic(world.hosts, recoverers=3, listeners=1) as traffic:
        for n in range(3):
            traffic.flows(20)
            world.hosts[n].terminate()
            assert world.hosts[n].process.wait(12) == 0, world.hosts[n].output()
            world.hosts.replace(n)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        all_recovered(traffic)


def _difference(heard, wanted):
    twice = sorted({it for it in heard if heard.count(it) > 1})
    missing = [it for it in wanted if it not in heard]
    return f"missing {missing}, twice {twice}, of {len(wanted)}"


def test_several_rooms(world, ann):
    rooms = [f"side-{n}" for n in range(4)]
    bob = comes(world)
    for room in rooms:
        ann.ok("join", {"room": room})
        bob.ok("join", {"room": room, "presence": False})
    bob.ok("leave", {"room": rooms[3]})
    bob.cut()
    for n in range(3):
        for room in rooms:
            ann.write(room, f"{room} {n}")
    with back(world, 1, bob) as again:
        assert again.pid == bob.pid
        found = again.messages()
        for room in rooms[:3]:
            bodies = [it["body"] for it in found if it["room"] == room]
            assert bodies == [f"{room} {n}" for n in range(3)]
        assert not [it for it in found if it["room"] == rooms[3]], "it had left that one"
        answer = again.call("message", {"room": rooms[3], "body": 1})
        assert answer["error"]["code"] == "not_in_room"


@with_world(HISTORY_SIZE="10")
def test_a_hole_makes_it_new(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    bob.cut()
    says(ann, *range(30))
    with back(world, 1, bob) as again:
        assert again.pid != bob.pid and again.bodies() == []
        assert again.call("message", {"room": ROOM, "body": 1})["error"]["code"] == "not_in_room"


def test_a_redis_that_has_lost_it_makes_it_new(world, ann):
    bob = comes(world)
    says(ann, "read")
    bob.until("read")
    bob.cut()
    world.hosts[0].kill9()
    world.redis.restart()
    world.hosts.until_ready()
    with back(world, 1, bob) as again:
        assert again.pid != bob.pid and again.bodies() == []


@with_world(RECOVERY_WINDOW="1s")
def test_too_late_makes_it_new(world, ann):
    bob = comes(world)
    bob.cut()
    time.sleep(2.5)
    with back(world, 1, bob) as again:
        assert again.pid != bob.pid


def test_made_up_ids_get_nothing_and_disturb_nobody(world, ann):
    bob = comes(world)
    says(ann, "secret")
    bob.until("secret")
    bob.cut()
    says(ann, "more")
    flipped = bob.pid[:-3] + ("A" if bob.pid[-3] != "A" else "B") + bob.pid[-2:]
    for pid in (flipped, bob.sid, "x", "session:*", "../../x" * 40, bob.pid + "A", "\x00"):
        with Sio(world.hosts[1], "bob", pid, bob.offset) as other:
            assert other.pid != bob.pid and other.bodies() == [], pid
    with back(world, 1, bob) as again:
        assert (again.pid, again.bodies()) == (bob.pid, ["more"])


def test_another_user_gets_nothing(world, ann):
    bob = comes(world)
    bob.cut()
    says(ann, "secret")
    with Sio(world.hosts[1], "eve", bob.pid, bob.offset) as eve:
        assert eve.pid != bob.pid and eve.bodies() == []
        answer = eve.call("participants", {"room": ROOM})
        assert answer["error"]["code"] == "not_in_room", answer


@pytest.mark.parametrize("offset", ["ffffffffff", "x", "", "-1", "9" * 400])
def test_an_offset_that_was_never_given(world, ann, offset):
    bob, cem = comes(world), comes(world, name="cem")
    says(ann, "read")
    bob.until("read"), cem.until("read")
    bob.cut(), cem.cut()
    says(ann, 1)
    with back(world, 1, bob, offset) as again:
        assert again.pid != bob.pid and again.bodies() == [], again.reply
    # The control: with the offset that was given, the same is recovered.
    with back(world, 1, cem, name="cem") as again:
        assert (again.pid, again.bodies()) == (cem.pid, [1]), again.reply


def test_leaving_on_purpose_is_not_recovered(world, ann):
    bob = comes(world)
    bob.socket.send("41")
    eventually(lambda: _same(ann.ok("participants", {"room": ROOM})["count"], 1))
    bob.cut()
    with back(world, 1, bob) as again:
        assert again.pid != bob.pid


def test_without_redis_it_is_new_and_not_kept_waiting(world, ann):
    bob = comes(world)
    bob.cut()
    world.redis.kill()
    begun = time.monotonic()
    with back(world, 1, bob) as again:
        assert again.pid != bob.pid
    assert time.monotonic() - begun < 12
    world.redis.start()
    world.hosts.until_ready()


def test_its_session_lies_in_redis_for_a_while(world, ann):
    bob = comes(world)

    def there():
        keys = world.redis.keys("session:*")
        assert f"session:{bob.pid}" in keys, keys
        # Longer than the window, since a connection that lives does not renew it all the time.
        assert 0 < world.redis.ask("TTL", f"session:{bob.pid}") <= 3600

    eventually(there)
    bob.socket.send("41")
    eventually(lambda: _same([it for it in world.redis.keys("session:*") if bob.pid in it], []))
    bob.cut()
