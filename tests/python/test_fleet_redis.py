"""Proves that a fleet lives through what becomes of its Redis: failovers that Sentinels make, with
all data and without the newest (R6 to R8 of the fault table), a cluster whose slots move and whose
nodes fall, users with narrow rights, TLS.
"""

import json
import shutil
import time

import pytest
from engine import eventually, free_port
from fleet.hosts import HOST_TTL_S, Hosts, agree
from fleet.redis import Cluster, Redis, TlsRedis, Watched, have_redis
from fleet.traffic import Traffic
from plain import Plain

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")

HISTORY = {"HISTORY_SIZE": "5000"}
# Of several faults, each of which may take as long as one is allowed to.
LONG = pytest.mark.timeout(300)
# The probe goes out each second and is back within two, an answer within three.
NOTICED_S_MAX = 10
USER, WORD = "throng-host", "an easy word:@/"
ESCAPED = "an%20easy%20word%3A%40%2F"


@pytest.fixture
def watched():
    with Watched() as made:
        yield made


# Sentinel


def in_step(watched):
    """The replica has everything."""
    assert watched.master.ask("WAIT", 1, 5000) == 1


@LONG
def test_r6_the_master_dies_and_all_is_on_its_replica(watched):
    with Hosts([watched.url] * 3, **HISTORY) as hosts, Traffic(hosts) as traffic:
        traffic.flows()
        traffic.pause()
        old, new = watched.master, watched.other
        in_step(watched)
        died = time.monotonic()
        old.kill()
        traffic.resume()
        watched.until_master(new)
        hosts.until_ready()
        traffic.flows()
        print(f"written again {time.monotonic() - died:.1f} s after the end of the old master")
        traffic.judge()
        traffic.nobody_missed_anything()
        for room in traffic.rooms:
            agree(hosts, room, traffic.sids(), HOST_TTL_S + 5)


@LONG
def test_r6_a_failover_that_is_asked_for(watched):
    with Hosts([watched.url] * 3, **HISTORY) as hosts, Traffic(hosts) as traffic:
        traffic.flows()
        new = watched.other

        def asked():
            assert watched.sentinels[0].ask("SENTINEL", "FAILOVER", "throng") == b"OK"

        eventually(lambda: _no_error(asked), 15)
        watched.until_master(new)
        hosts.until_ready()
        traffic.flows()
        traffic.judge()


def _no_error(deed):
    """An error of Redis's is one that goes away."""
    try:
        deed()
    except Exception as error:
        raise AssertionError(error) from error


@LONG
def test_r6_the_master_dies_while_all_write(watched):
    """What the replica did not have yet is lost, and is told of."""
    with Hosts([watched.url] * 3, **HISTORY) as hosts, Traffic(hosts, rate=80) as traffic:
        traffic.flows(60)
        new = watched.other
        watched.master.kill()
        watched.until_master(new)
        hosts.until_ready()
        traffic.flows(60)
        traffic.judge()


@LONG
@pytest.mark.parametrize("old_returns", [True, False])
def test_r7_the_newest_messages_are_not_on_the_replica(watched, old_returns):
    """Numbers that have been given are given again, to other messages: nobody takes them for
    repetitions.
    """
    with Hosts([watched.url] * 3, **HISTORY) as hosts, Traffic(hosts) as traffic:
        traffic.flows()
        traffic.pause()
        in_step(watched)
        old, new = watched.master, watched.other
        new.ask("REPLICAOF", "127.0.0.1", free_port())
        traffic.resume()
        traffic.flows(60)
        died = traffic.checker.now()
        old.kill()
        watched.until_master(new)
        if old_returns:
            old.start()
        hosts.until_ready()
        traffic.flows(60)
        traffic.judge()
        assert traffic.untold(died) == []


@LONG
def test_r8_a_demoted_master_that_still_talks(watched):
    """It passes on what its own master publishes, and takes nothing."""
    with Hosts([watched.url] * 3, **HISTORY) as hosts, Traffic(hosts) as traffic:
        traffic.flows()
        old, new = watched.master, watched.other
        traffic.pause()
        in_step(watched)
        for it in watched.sentinels:
            it.ask("SENTINEL", "REMOVE", "throng")
        new.ask("REPLICAOF", "NO", "ONE")
        old.ask("REPLICAOF", "127.0.0.1", new.port)
        # Nobody says yet who is the master; only that this one is none any more can be known.
        for host in hosts:
            hosts.until_unready(host, NOTICED_S_MAX)
        for _ in range(20):
            assert not any(it.ready() for it in hosts), "ready, with a Redis that is no master"
            time.sleep(0.05)
        for it in watched.sentinels:
            it.ask("SENTINEL", "MONITOR", "throng", "127.0.0.1", new.port, 2)
        traffic.resume()
        hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()

        def left():
            lines = old.ask("CLIENT", "LIST").decode().splitlines()
            others = [it for it in lines if "throng" in it]
            assert others == [], others

        eventually(left)


# Cluster


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--appendonly", "yes") as made:
        yield made


@pytest.fixture(scope="module")
def hosts(cluster):
    with Hosts([cluster.url] * 3, **HISTORY) as running:
        yield running


def meta(cluster, room):
    (key,) = [it for it in cluster.keys("throng:*:meta:*") if it.endswith(f":meta:{room}")]
    return key


def test_cluster_traffic(cluster, hosts):
    with Traffic(hosts, rooms=12, listeners=3, writers=3, rate=60) as traffic:
        traffic.flows(300, 20)
        verdict = traffic.judge()
        traffic.nobody_missed_anything()
        assert verdict.counts["retried"] == 0
        slots = {cluster.slot_of(meta(cluster, room)) for room in traffic.rooms}
        assert len({cluster.owner(it).port for it in slots}) > 1, "all rooms are on one node"
        for room in traffic.rooms:
            agree(hosts, room, traffic.sids())


def test_cluster_summary_and_api(cluster, hosts):
    with Plain(hosts[0].port, "ann") as ann, Plain(hosts[1].port, "bob") as bob:
        rooms = [f"open-{n}" for n in range(6)]
        for room in rooms:
            ann.ok("join", {"room": room}), bob.ok("join", {"room": room})
            ann.write(room, room)

        def known():
            for room in rooms:
                text = cluster.cli("get", f"room:{room}")
                assert text and json.loads(text)["count"] == 2, text
            for host in hosts:
                found = {it["id"] for it in host.json("/api/rooms?limit=1000")["rooms"]}
                assert found >= set(rooms), set(rooms) - found

        eventually(known)
        ann.ok("signal", {"to": bob.sid, "data": 1})
        eventually(lambda: _has(bob, "signal"))


def _has(client, event):
    assert any(it["event"] == event for it in client.others), client.others


@LONG
def test_cluster_slots_move(cluster, hosts):
    with Traffic(hosts, rooms=4) as traffic:
        traffic.flows()
        for room in traffic.rooms:
            slot = cluster.slot_of(meta(cluster, room))
            source, target = cluster.move_slot(slot, lambda: time.sleep(0.3))
            assert cluster.owner(slot) is target is not source
            traffic.flows()
        hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


@LONG
def test_cluster_node_restarts(cluster, hosts):
    with Traffic(hosts, rooms=6) as traffic:
        traffic.flows()
        for server in cluster.servers:
            server.restart(down_s=0.3)
            eventually(cluster._agreed, 20)
            hosts.until_ready()
            traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


def test_cluster_node_stops_for_long(cluster, hosts):
    """Longer than the cluster takes a node for alive: it is down as a whole, and comes back."""
    with Traffic(hosts, rooms=6) as traffic:
        traffic.flows()
        cluster.servers[1].pause()
        for host in hosts:
            hosts.until_unready(host, 12)
        cluster.servers[1].go_on()
        hosts.until_ready(30)
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


# Who may


def works(url, **env):
    with Hosts([url] * 2, **env) as two:
        with Plain(two[0].port, "ann") as ann, Plain(two[1].port, "bob") as bob:
            ann.ok("join", {"room": "works"}), bob.ok("join", {"room": "works"})
            ann.write("works", "x")

            def came():
                assert bob.bodies("works") == ["x"]
                assert bob.ok("participants", {"room": "works"})["count"] == 2

            eventually(came)
        return "\n".join(it.output() for it in two)


def never_ready(url, word, seconds=4, **env):
    """Starts, waits, says why, and shows no secret."""
    with Hosts([url], wait=False, **env) as one:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert not one[0].ready()
            time.sleep(0.1)
        output = one[0].output()
        assert word in output, output
        assert "secret" not in output
        return output


def test_password():
    with Redis(password="word") as redis:
        assert "word" not in works(redis.url)
        never_ready(f"redis://:secret@127.0.0.1:{redis.port}", "WRONGPASS")
        never_ready(f"redis://127.0.0.1:{redis.port}", "NOAUTH")


def test_a_user_with_no_more_rights_than_it_needs():
    with Redis() as redis:
        redis.ask("ACL", "SETUSER", USER, "on", f">{WORD}", "~throng:*", "~room:*", "~session:*",
                  "~user:*", "~host:*", "&throng:*", "+@all", "-@admin", "-@dangerous", "+info",
                  "+role")
        redis.ask("ACL", "SETUSER", "default", "resetkeys", "resetchannels", "-@all")
        url = f"redis://{USER}:{ESCAPED}@127.0.0.1:{redis.port}"
        assert WORD not in works(url)
        never_ready(f"redis://{USER}:secret@127.0.0.1:{redis.port}", "WRONGPASS")


def test_another_database():
    with Redis() as redis:
        works(f"{redis.url}/3")
        spaces = redis.info("keyspace")
        assert list(spaces) == ["db3"], spaces


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_tls():
    with TlsRedis(password="word") as redis:
        works(f"{redis.url}?ca={redis.ca}")
        assert redis.keys("throng:*"), "it was another Redis"
        never_ready(redis.url, "ertificate")
        never_ready(redis.url.replace("rediss:", "redis:"), "edis")
