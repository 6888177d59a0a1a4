"""Proves that hosts need no more of Redis than `deploy/redis/users.acl` lets them: on those very
users, with passwords put in, two hosts do all that hosts do, and Redis has refused nothing.
"""

import os
import secrets
import tempfile
from pathlib import Path

import pytest
from engine import eventually
from fleet.hosts import HOST_TTL_S, Hosts, agree
from fleet.redis import Redis, have_redis
from fleet.resp import RedisError, ask
from fleet.traffic import Traffic
from plain import Plain
from test_api_store import KEY, configured, read, room_path
from test_fleet_recovery import Sio

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")

USERS = Path(__file__).parents[2] / "deploy/redis/users.acl"
# Those of the file, the longest first: one begins like another.
PLACES = ["change-me-as-well", "change-me-last", "change-me-too", "change-me"]
HOUSE, HOUSE_WORD = "house", secrets.token_hex(24)
ADAPTERS = ["on", "sharded"]


class Guarded(Redis):
    """A Redis with the users of the file, and one more for the test's own questions."""

    def __init__(self):
        self.words = {it: secrets.token_hex(24) for it in PLACES}
        text = USERS.read_text()
        for place in PLACES:
            assert place in text, f"{USERS} has no password {place} any more"
            text = text.replace(place, self.words[place])
        text += f"\nuser {HOUSE} on >{HOUSE_WORD} ~* &* +@all\n"
        handle, name = tempfile.mkstemp(prefix="throng-users-", suffix=".acl")
        os.close(handle)
        self.users = Path(name)
        self.users.write_text(text)
        super().__init__("--aclfile", self.users)

    @property
    def url(self):
        return f"redis://throng:{self.words['change-me']}@{self.host}:{self.port}"

    def ask(self, *args, timeout=10, user=HOUSE, password=HOUSE_WORD):
        return ask(self.port, *args, timeout=timeout, user=user, password=password)

    def as_host(self, *args):
        return self.ask(*args, user="throng", password=self.words["change-me"])

    def refused(self):
        """What Redis has refused so far, shortly."""
        entries = [dict(zip(it[::2], it[1::2])) for it in self.ask("ACL", "LOG", 128)]
        names = (b"reason", b"context", b"object", b"username")
        return [b" ".join(it[name] for name in names).decode() for it in entries]

    def end(self):
        super().end()
        self.users.unlink(missing_ok=True)


@pytest.fixture
def redis():
    with Guarded() as running:
        yield running


@pytest.fixture(params=ADAPTERS)
def hosts(request, redis):
    env = {"SOCKETIO_ADAPTER": request.param, "API_KEY": KEY, "RECOVERY_WINDOW": "2m"}
    with Hosts([redis.url] * 2, HISTORY_SIZE="5000", **env) as two:
        yield two
        assert redis.refused() == []
        outputs = "\n".join(it.output() for it in two if Path(it.log.name).exists())
        assert "NOPERM" not in outputs, outputs


def test_what_is_refused_would_be_seen(redis):
    """The control: without it the other tests here could pass for nothing."""
    assert redis.refused() == []
    assert redis.as_host("SET", "throng:x", "1") == b"OK"
    for command in (["FLUSHALL"], ["SET", "another's", "1"], ["PUBLISH", "another's", "1"]):
        with pytest.raises(RedisError, match="NOPERM"):
            redis.as_host(*command)
    assert len(redis.refused()) == 3, redis.refused()
    with pytest.raises(RedisError, match="WRONGPASS"):
        redis.ask("PING", user="throng", password="change-me")
    with pytest.raises(RedisError):
        ask(redis.port, "PING")


def test_people_come_talk_and_go(redis, hosts):
    room = "guarded"
    with Plain(hosts[0].port, "ann") as ann, Plain(hosts[1].port, "bob") as bob:
        for it in (ann, bob):
            it.ok("join", {"room": room, "metadata": {"hat": 1}})
        agree(hosts, room, {ann.sid, bob.sid})
        for n in range(5):
            ann.write(room, n, f"c{n}")
        ann.write(room, 4, "c4")
        eventually(lambda: _same(bob.bodies(room), list(range(5))))
        bob.put("typing", {"room": room, "typing": True})
        bob.ok("screen", {"room": room, "sharing": True})
        bob.ok("update", {"room": room, "metadata": {"hat": 2}})
        ann.ok("signal", {"to": bob.sid, "data": 1})

        def heard():
            assert {it["event"] for it in ann.others} >= {"presence", "typing", "screen"}
            assert "signal" in {it["event"] for it in bob.others}
            assert redis.ask("GET", f"room:{room}") and redis.keys("user:*")

        eventually(heard)
        page = bob.ok("history", {"room": room, "before": 3})
        assert [it["body"] for it in page["messages"]] == [0, 1]
        ann.ok("leave", {"room": room})
        agree(hosts, room, {bob.sid})
        for host in hosts:
            assert room in [it["id"] for it in host.json("/api/rooms")["rooms"]]
        configured(hosts[0], room, {"capacity": 9})
        configured(hosts[1], "closed", {"private": True})
        assert read(hosts[0], room_path("closed"))[0] == 404
    eventually(lambda: _same([read(it, room_path(room))[0] for it in hosts], [404, 404]))
    assert read(hosts[1], room_path(room) + "/messages")[1]["messages"]


def _same(found, wanted):
    assert found == wanted


def test_a_session_comes_back_on_the_other_host(redis, hosts):
    with Plain(hosts[1].port, "ann") as ann:
        ann.ok("join", {"room": "room"})
        bob = Sio(hosts[0], "bob")
        bob.ok("join", {"room": "room", "presence": False})
        ann.write("room", "read")
        bob.until("read")
        bob.cut()
        for n in range(3):
            ann.write("room", n)
        with Sio(hosts[1], "bob", bob.pid, bob.offset) as again:
            assert (again.pid, again.bodies()) == (bob.pid, [0, 1, 2]), again.reply
            agree(hosts, "room", {again.sid, ann.sid})


def test_traffic_while_hosts_end_and_scripts_are_lost(redis, hosts):
    with Traffic(hosts, recoverers=2) as traffic:
        traffic.flows()
        redis.ask("SCRIPT", "FLUSH")
        traffic.flows()
        redis.ask("CLIENT", "KILL", "USER", "throng")
        hosts.until_ready()
        traffic.flows()
        hosts[0].terminate()
        assert hosts[0].process.wait(15) == 0, hosts[0].output()
        hosts.replace(0)
        hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()
        for room in traffic.rooms:
            agree(hosts, room, traffic.sids())


def test_a_dead_hosts_members_are_removed(redis, hosts):
    with Plain(hosts[0].port, "ann") as ann, Plain(hosts[1].port, "bob") as bob:
        for it in (ann, bob):
            it.ok("join", {"room": "room"})
        agree(hosts, "room", {ann.sid, bob.sid})
        hosts[0].kill9()
        agree(hosts, "room", {bob.sid}, HOST_TTL_S + 8)
        eventually(lambda: _same(len(redis.keys("host:*")), 1), HOST_TTL_S + 8)
