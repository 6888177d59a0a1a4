"""Proves that whoever comes back to another host is in its rooms once: not in a session that has
ended meanwhile, and not kept out of a full room by the place it had on the host that died.
"""

import json
import threading
import time
from contextlib import contextmanager

import pytest
from engine import eventually
from fleet.hosts import agree, members
from fleet.redis import have_redis
from fleet.world import World
from plain import Plain
from polling import SEPARATOR, Session
from test_api_store import KEY, configured
from test_fleet_recovery import ROOM, Sio, back, comes, says

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")


@pytest.fixture
def world():
    with World(RECOVERY_WINDOW="2m", API_KEY=KEY) as made:
        yield made


@contextmanager
def bob_is_cut_off(world):
    """ann and eve, in the room on the first and the second host, and bob, who had read all."""
    with Plain(world.hosts[0].port, "ann") as ann, Plain(world.hosts[1].port, "eve") as eve:
        for it in (ann, eve):
            it.ok("join", {"room": ROOM})
        bob = comes(world)
        says(ann, "read")
        bob.until("read")
        bob.cut()
        yield ann, eve, bob


def test_nobody_is_connected_in_a_session_that_has_ended(world):
    with bob_is_cut_off(world) as (ann, eve, bob):
        says(ann, 1)
        # Its CONNECT waits for Redis; the session ends in the same request.
        session = Session(world.hosts[1].port)
        connect = "40" + json.dumps({"pid": bob.pid, "offset": bob.offset, "username": "bob"})
        session.say(connect + SEPARATOR + "1")
        time.sleep(1.5)  # for what must not happen
        assert len(members(world.hosts[1], ROOM)) <= 3, "ann, eve, and bob as he was"
        with back(world, 2, bob) as again:
            assert again.pid == bob.pid, "its session was given back"
            assert again.bodies() == [1]
            agree(world.hosts, ROOM, {ann.sid, eve.sid, again.sid})


def test_what_is_said_on_the_way_back_waits_until_it_is_in(world):
    with bob_is_cut_off(world) as (ann, eve, bob):
        # It is told of what its room there has not heard yet, and cannot be in before that.
        world.proxies[1].blackhole(lambda it: it.is_push)
        says(ann, 1)
        with back(world, 1, bob) as again:
            assert again.pid == bob.pid, f"it is new: {again.reply}"
            assert again.bodies() == [1]
            healing = threading.Timer(0.5, world.proxies[1].heal)
            healing.start()
            again.ok("message", {"room": ROOM, "body": 2})
            healing.join()
            again.until(2)
            assert again.bodies() == [1, 2]
            assert "resync" not in [name for name, _ in again.after]
            agree(world.hosts, ROOM, {ann.sid, eve.sid, again.sid})


def test_a_full_room_takes_its_members_back(world):
    names = ("bob", "joe")
    before = [Sio(world.hosts[0], name) for name in names]
    for it in before:
        it.ok("join", {"room": "call"})
    configured(world.hosts[0], "call", {"capacity": len(names)})
    world.hosts[0].kill9()
    after = [Sio(world.hosts[1], name, it.pid, it.offset) for name, it in zip(names, before)]
    for new, old in zip(after, before):
        assert new.pid == old.pid, "recovered"
    for new in after:
        new.ok("message", {"room": "call", "body": "hi"})

    def alone():
        assert sorted(members(world.hosts[1], "call")) == sorted(it.sid for it in after)

    eventually(alone)
