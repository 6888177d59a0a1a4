"""Proves that an operator can see how a fleet is doing: alerts that Redis is away, that nothing
comes back from it and that messages wait are raised where it is so, and nowhere else, and end when
it is over; and what `/metrics` says of Redis is true.
"""

import re
import time

import pytest
from engine import eventually
from fleet.hosts import HEALED_S_MAX
from fleet.redis import have_redis
from fleet.traffic import Traffic
from fleet.world import World
from plain import Plain

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")

# An alert ends after so many good readings, one a second.
CLEAR_S = 10
RAISED_S_MAX = 20
ENDED_S_MAX = HEALED_S_MAX + CLEAR_S + 10
ECHO_MS, OUTBOX = 2000, 5
# What any machine can keep to: the numbers are of the right kind, not good ones.
PLAUSIBLE_US = 20_000_000
ALERTS = {"ALERT_ECHO_MS": str(ECHO_MS), "ALERT_OUTBOX": str(OUTBOX), "ALERT_MEMORY_PERCENT": "off"}


@pytest.fixture
def world():
    with World(2, **ALERTS) as made:
        yield made


@pytest.fixture
def two(world):
    """Ann on the first host, bob on the second."""
    ann, bob = Plain(world.hosts[0].port, "ann"), Plain(world.hosts[1].port, "bob")
    for it in (ann, bob):
        it.ok("join", {"room": "watched"})
    yield ann, bob
    ann.close(), bob.close()


def alerts(host):
    return {it["name"]: it for it in host.json("/alerts")["alerts"]}


def raised(host, name, severity, threshold):
    """Waits for the alert; what it says."""
    def is_raised():
        found = alerts(host)
        assert name in found, f"{host} has raised {sorted(found)}"
        return found[name]

    alert = eventually(is_raised, RAISED_S_MAX)
    assert (alert["severity"], alert["threshold"]) == (severity, threshold), alert
    assert alert["value"] > threshold, alert
    assert 0 <= time.time() * 1000 - alert["since"] < 60_000, alert
    return alert


def ended(host, seconds=ENDED_S_MAX):
    def none():
        assert alerts(host) == {}, f"{host}: {alerts(host)}"

    eventually(none, seconds)


def redis_of(host):
    return host.json("/metrics")["redis"]


def numbers(host):
    """What the other form of /metrics says: {name with labels: value}."""
    status, text = host.get("/metrics?format=prometheus")
    assert status == 200 and text.rstrip().endswith("# EOF"), text[-200:]
    lines = [it.rsplit(" ", 1) for it in text.splitlines() if it.startswith("throng_redis_")]
    return {name: float(value) for name, value in lines}


def wait_in_vain(ann, count):
    """So many messages that Redis is to number, and does not."""
    return [ann.say("message", {"room": "watched", "body": n, "clientId": f"w{n}"})
            for n in range(count)]


# Alerts


def test_redis_is_away(world, two):
    ann, _ = two
    for host in world.hosts:
        assert alerts(host) == {}, "nothing is wrong yet"
    world.redis.kill()
    waiting = wait_in_vain(ann, 4 * OUTBOX)
    raised(world.hosts[0], "redis_outbox", "warning", OUTBOX)
    assert "redis_outbox" not in alerts(world.hosts[1]), "nothing waits there"
    for host in world.hosts:
        first = raised(host, "redis_down", "critical", 0)
        raised(host, "redis_echo_late", "critical", ECHO_MS)

        def grows():
            later = alerts(host)["redis_down"]
            assert later["value"] > first["value"] and later["since"] == first["since"], later

        eventually(grows)
    world.redis.start()
    world.hosts.until_ready()
    up = time.monotonic()
    for it in waiting:
        it.result(30)
    for host in world.hosts:
        assert "redis_down" in alerts(host) or time.monotonic() - up > CLEAR_S - 5, (
            "one good second is not yet the end of it"
        )
        ended(host)


def test_nothing_comes_back_to_one_host(world, two):
    ann, _ = two
    world.proxies[0].blackhole()
    waiting = wait_in_vain(ann, 4 * OUTBOX)
    raised(world.hosts[0], "redis_outbox", "warning", OUTBOX)
    raised(world.hosts[0], "redis_echo_late", "critical", ECHO_MS)
    raised(world.hosts[0], "redis_down", "critical", 0)
    assert redis_of(world.hosts[0])["echoAgeMs"] > ECHO_MS
    assert alerts(world.hosts[1]) == {}, "the other one is well"
    world.proxies[0].heal()
    world.hosts.until_ready()
    for it in waiting:
        it.result(30)
    for host in world.hosts:
        ended(host)


def test_only_the_echo_is_late(world):
    """Redis answers, and what it publishes does not come."""
    world.proxies[0].blackhole(lambda connection: connection.is_push)
    raised(world.hosts[0], "redis_echo_late", "critical", ECHO_MS)
    assert "redis_echo_late" not in alerts(world.hosts[1])
    world.proxies[0].heal()
    world.hosts.until_ready()
    ended(world.hosts[0])


# Metrics


def quantiles(found):
    """They are in order, and each is a time that something can take."""
    assert found["unit"] == "us", found
    assert 0 < found["p50"] <= found["p99"] <= found["max"] < PLAUSIBLE_US, found


def test_what_is_said_across_hosts_is_counted_and_timed(world, two):
    ann, bob = two
    for n in range(40):
        ann.write("watched", n)

    def came():
        assert len(bob.bodies("watched")) == 40

    eventually(came)
    for host, published in zip(world.hosts, (40, 0)):

        def counted():
            found = redis_of(host)
            assert (found["published"], found["delivered"]) == (published, 40), found
            assert found["up"] and found["ready"] and found["kind"] == "standalone", found
            assert (found["rooms"], found["hosts"], found["downSeconds"]) == (1, 2, 0), found
            assert (found["outboxMessages"], found["outboxBytes"]) == (0, 0), found
            assert found["echoAgeMs"] < 5000 and 0 < found["echoUs"] < PLAUSIBLE_US, found
            for name in ("deliveryLatency", "roundTripLatency"):
                quantiles(found[name])
            return found

        found = eventually(counted)
        if published:
            quantiles(found["publishLatency"])
        else:
            assert found["publishLatency"]["max"] == 0, "it has published nothing"


def test_both_forms_say_the_same(world, two):
    ann, bob = two
    for n in range(20):
        ann.write("watched", n)
    eventually(lambda: _same(len(bob.bodies("watched")), 20))
    both = eventually(lambda: _both(world.hosts[0]))
    found, told = both
    assert told["throng_redis_published_total"] == 20 and told["throng_redis_up"] == 1
    for operation, key in [("publish", "publishLatency"), ("delivery", "deliveryLatency"),
                           ("round_trip", "roundTripLatency"), ("repair", "repairLatency")]:
        for quantile, name in [("0.5", "p50"), ("0.99", "p99"), ("1", "max")]:
            label = f'throng_redis_latency_us{{operation="{operation}",quantile="{quantile}"}}'
            assert label in told, sorted(told)
            if operation in ("publish", "repair"):
                assert told[label] == found[key][name], label
    assert told["throng_redis_echo_age_ms"] < 5000


# Those that change by themselves.
CLOCKS = {"echoUs", "echoAgeMs", "downSeconds"}


def _both(host):
    """Each number of the one form is in the other, with the same value."""
    found, told = redis_of(host), numbers(host)
    for key, value in found.items():
        if isinstance(value, (dict, str)) or value is None:
            continue
        name = "throng_redis_" + re.sub("([A-Z])", lambda it: "_" + it[1].lower(), key)
        name = {"throng_redis_echo_us": "throng_redis_last_echo_us"}.get(name, name)
        shown = told.get(name, told.get(f"{name}_total"))
        assert shown is not None, f"{name} is not in {sorted(told)}"
        assert key in CLOCKS or shown == value, (name, shown, value)
    return found, told


def _same(found, wanted):
    assert found == wanted


def test_breaks_and_repairs_are_counted(world):
    with Traffic(world.hosts, rooms=3) as traffic:
        traffic.flows()
        before = [redis_of(it) for it in world.hosts]
        assert all((it["breaks"], it["repairs"]) == (0, 0) for it in before), before
        killed = world.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        assert killed >= 2, "each host has one that listens"
        world.hosts.until_ready()
        traffic.flows()

        def counted():
            for host in world.hosts:
                found = redis_of(host)
                assert found["breaks"] >= 1 and found["connects"] >= 2, found
                assert found["repairs"] >= 3, "a repair for each room that is open there"
                quantiles(found["repairLatency"])
                assert (found["broken"], found["forks"]) == (0, 0), "nothing was missing"

        eventually(counted, HEALED_S_MAX)
        traffic.judge()
        traffic.nobody_missed_anything()


def test_what_waits_is_counted(world, two):
    ann, _ = two
    world.proxies[0].blackhole()
    waiting = wait_in_vain(ann, 30)

    def waits():
        found = redis_of(world.hosts[0])
        assert found["outboxMessages"] == 30 and found["outboxBytes"] > 30 * 10, found

    eventually(waits, 8)
    world.proxies[0].heal()
    world.hosts.until_ready()
    answers = [it.result(30) for it in waiting]

    def none_waits():
        found = redis_of(world.hosts[0])
        assert (found["outboxMessages"], found["outboxBytes"]) == (0, 0), found
        assert found["refused"] >= sum(not it["ok"] for it in answers), found

    eventually(none_waits)


def test_repetitions_are_counted(world, two):
    ann, _ = two
    trap = world.proxies[0].cut_before_reply(containing=b"marker")
    answer = ann.say("message", {"room": "watched", "body": "marker", "clientId": "marker"})
    trap.wait()
    assert answer.result(30)["ok"]

    def counted():
        assert redis_of(world.hosts[0])["duplicates"] == 1, redis_of(world.hosts[0])

    eventually(counted)
