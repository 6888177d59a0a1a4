"""Proves that a fleet with one MongoDB keeps each acknowledged message there once, under the number
it was delivered with; through the end of hosts, and of a Redis that comes back with nothing.
"""

import os
import time

import pytest
from durable import stored
from engine import eventually
from fleet.redis import have_redis
from fleet.traffic import Traffic
from fleet.world import World
from mongo import Server
from plain import Plain

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")

KEPT_S_MAX = 30


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture
def world(server, request):
    name = f"fleet{os.getpid()}{abs(hash(request.node.name)) % 10**6}"
    with World(MONGODB_URI=server.uri(name)) as made:
        yield made


def kept_once(world, traffic):
    """Each host reads the same from the store: all that was acknowledged, by its number."""
    acked = [it for it in traffic.checker.writes.values() if it.acked]
    wanted = {(it.room, it.seq): (it.id, it.client_id) for it in acked}

    def all_there():
        for host in (it for it in world.hosts if it.alive()):
            found = {}
            for room in traffic.rooms:
                for it in stored(host, room):
                    assert (room, it["seq"]) not in found, f"{room} {it['seq']} is there twice"
                    found[(room, it["seq"])] = (it["id"], it.get("clientId"))
            missing = {place: it for place, it in wanted.items() if found.get(place) != it}
            assert not missing, f"{host} misses {len(missing)} of {len(wanted)}: {missing}"
            names = [name for _, name in found.values()]
            assert len(names) == len(set(names)), "a message is there under two numbers"

    eventually(all_there, KEPT_S_MAX)


def test_all_hosts_keep_everything_once(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows(300, 20)
        traffic.judge()
        kept_once(world, traffic)


def test_hosts_are_killed(world):
    with Traffic(world.hosts) as traffic:
        for n in range(2):
            traffic.flows(30)
            world.hosts[n].kill9()
            traffic.flows(10)
            world.hosts.replace(n)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        kept_once(world, traffic)


def test_redis_comes_back_empty(world):
    """Numbers go on above what the store has."""
    with Traffic(world.hosts) as traffic:
        traffic.flows(60)
        traffic.pause()
        kept_once(world, traffic)
        tops = {room: max(it.seq for it in traffic.checker.writes.values() if it.room == room)
                for room in traffic.rooms}
        died = traffic.checker.now()
        world.redis.restart()
        world.hosts.until_ready()
        traffic.resume()
        traffic.flows(60)
        traffic.judge()
        kept_once(world, traffic)
        assert traffic.untold(died) == []
        later = [it for it in traffic.checker.writes.values() if it.sent > died and it.acked]
        assert all(it.seq > tops[it.room] for it in later)


def test_redis_comes_back_empty_to_a_room_nobody_was_in(world):
    with Plain(world.hosts[0].port, "ann") as ann:
        ann.ok("join", {"room": "sleeps"})
        for n in range(5):
            ann.write("sleeps", n)
        ann.ok("leave", {"room": "sleeps"})
    time.sleep(0.5)
    world.redis.restart()
    world.hosts.until_ready()
    with Plain(world.hosts[1].port, "bob") as bob:
        answer = bob.ok("join", {"room": "sleeps"})
        assert [it["body"] for it in answer["messages"]] == list(range(5)), answer
        assert answer["lastSeq"] == 5
        assert bob.write("sleeps", "more")["seq"] == 6
