"""Proves that a room's settings are the fleet's: changed over HTTP on one host they hold on all,
for a room that nobody is in, without a store and with one per host; a private room's messages are
shown by no host, and changing one setting leaves the others as they are, whichever host is asked.
"""

import pytest
from engine import eventually
from fleet.hosts import NAMES, Host, Hosts
from fleet.redis import Redis, have_redis
from plain import Plain
from test_api_store import KEY, OWNER, configure, configured, read, room_path

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")


@pytest.fixture(scope="module")
def redis():
    with Redis() as running:
        yield running


@pytest.fixture(scope="module", params=["none", "sqlite"])
def hosts(request, redis, tmp_path_factory):
    """Two hosts that keep nothing, or each its own file."""
    prefix = f"{request.param}:"
    with Hosts([]) as two:
        for name in NAMES[:2]:
            store = "none" if request.param == "none" else str(tmp_path_factory.mktemp(name))
            env = {"API_KEY": KEY, "REDIS_KEY_PREFIX": prefix, "DATA_DIR": store}
            two.all.append(Host(name, redis.url, **env))
        yield two


@pytest.fixture
def room(hosts, request):
    """With three messages, and nobody in it any more on any host."""
    name = request.node.name.replace("[", " ").replace("]", "")
    with Plain(hosts[0].port, "ann") as ann:
        ann.ok("join", {"room": name})
        for n in range(3):
            ann.write(name, n)

    def empty():
        for host in hosts:
            assert read(host, room_path(name))[0] == 404, "it is still open"

    eventually(empty)
    return name


def bodies(host, room, headers):
    status, page = read(host, room_path(room) + "/messages", headers)
    return status, [it["body"] for it in page.get("messages", [])]


def shown(host, room):
    status, found = read(host, room_path(room), OWNER)
    assert status == 200, found
    return found["settings"]


def test_the_control_a_room_without_settings_is_shown(hosts, room):
    for host in hosts:
        eventually(lambda: _same(bodies(host, room, {}), (200, [2, 1, 0])))


def _same(found, wanted):
    assert found == wanted


@pytest.mark.parametrize("at", [0, 1])
def test_a_private_room_that_is_not_open_is_hidden_by_all(hosts, room, at):
    configured(hosts[at], room, {"private": True})
    # At once: there is nothing to wait for, it was acknowledged.
    for host in hosts:
        assert bodies(host, room, {})[0] == 404, f"{host} shows its messages"
        assert read(host, room_path(room))[0] == 404, f"{host} shows it"
        assert room not in [it["id"] for it in read(host, "/api/rooms?limit=1000")[1]["rooms"]]
        assert bodies(host, room, OWNER) == (200, [2, 1, 0])
        assert shown(host, room)["private"] is True
    configured(hosts[1 - at], room, {"private": False})
    for host in hosts:
        assert bodies(host, room, {}) == (200, [2, 1, 0]), f"{host} still hides it"


def test_a_room_that_was_never_open_is_private_everywhere(hosts):
    room = "never open"
    configured(hosts[0], room, {"private": True})
    assert shown(hosts[1], room)["private"] is True
    with Plain(hosts[1].port, "eve") as eve:
        eve.refused("join", {"room": room}, "forbidden")


def test_what_another_host_does_not_name_stays(hosts, room):
    configured(hosts[0], room, {"private": True, "users": ["ann", "bob", "cem"]})
    configured(hosts[1], room, {"capacity": 2})
    configured(hosts[0], room, {"metadata": {"n": 1}})
    for host in hosts:
        found = shown(host, room)
        assert (found["private"], found["capacity"]) == (True, 2), found
        assert (found["users"], found["metadata"]) == (["ann", "bob", "cem"], {"n": 1}), found
        assert bodies(host, room, {})[0] == 404
    obeys(hosts, room)


def obeys(hosts, room):
    """Whoever may come is let in through either host, as many as may be there."""
    with (Plain(hosts[1].port, "ann") as ann, Plain(hosts[0].port, "bob") as bob,
          Plain(hosts[1].port, "eve") as eve, Plain(hosts[1].port, "cem") as cem):
        ann.ok("join", {"room": room})
        eve.refused("join", {"room": room}, "forbidden")
        bob.ok("join", {"room": room})

        def both():
            assert ann.ok("participants", {"room": room})["count"] == 2

        eventually(both)
        cem.refused("join", {"room": room}, "room_full")
        for host in hosts:
            assert read(host, room_path(room))[0] == 404, f"{host} shows a private room"
            assert bodies(host, room, {})[0] == 404
        # And what is changed while it is open is not forgotten on either.
        configured(hosts[0], room, {"capacity": 4})
        eventually(lambda: cem.ok("join", {"room": room}))
        eve.refused("join", {"room": room}, "forbidden")
        assert shown(hosts[1], room)["private"] is True


# Only a store compares passwords.
@pytest.mark.parametrize("hosts", ["sqlite"], indirect=True)
def test_a_password_holds_on_the_other_host(hosts, room):
    configured(hosts[0], room, {"private": True, "password": "sesame"})
    configured(hosts[1], room, {"capacity": 9})
    assert shown(hosts[0], room)["password"] is True
    with Plain(hosts[1].port, "bob") as bob:
        bob.refused("join", {"room": room, "password": "wrong"}, "forbidden")
        bob.refused("join", {"room": room}, "forbidden")
        bob.ok("join", {"room": room, "password": "sesame"})


@pytest.mark.parametrize("aof", [True, False])
@pytest.mark.parametrize("store", ["none", "sqlite"])
def test_settings_outlast_redis(tmp_path, store, aof):
    """What cannot be set is refused and not set later; what was set stays, also where Redis comes
    back with nothing, as long as a host has the room open.
    """
    with Redis(aof=aof) as redis, Hosts([]) as two:
        for name in NAMES[:2]:
            folder = "none" if store == "none" else str(tmp_path / name)
            two.all.append(Host(name, redis.url, API_KEY=KEY, DATA_DIR=folder))
        with Plain(two[0].port, "ann") as ann, Plain(two[1].port, "bob") as bob:
            for it in (ann, bob):
                it.ok("join", {"room": "away"})
            ann.write("away", 1)
            configured(two[0], "away", {"private": True})
            redis.kill()
            for host in two:
                two.until_unready(host, 5)
            assert configure(two[0], "away", {"capacity": 7})[0] == 503
            redis.start()
            two.until_ready()
            eventually(lambda: _same(len(redis.keys("throng:*:settings:away")), 1))

            def known():
                for host in two:
                    found = shown(host, "away")
                    assert (found["private"], found.get("capacity")) == (True, None), found
                    assert bodies(host, "away", {})[0] == 404, f"{host} shows its messages"

            eventually(known)

        def closed():
            for host in two:
                assert read(host, room_path("away"), OWNER)[1]["count"] == 0

        eventually(closed)
        for host in two:
            assert shown(host, "away")["private"] is True, f"{host} has forgotten"
            assert bodies(host, "away", {})[0] == 404, f"{host} shows its messages"
        with Plain(two[1].port, "eve") as eve:
            eve.refused("join", {"room": "away"}, "forbidden")


def test_a_room_that_is_not_known_is_not_shown_without_redis(hosts, redis, room):
    """Whether it is private only Redis knows: nobody is told of it, nothing is changed of it."""
    configured(hosts[0], room, {"private": True})
    redis.pause()
    try:
        status, found = read(hosts[1], room_path(room) + "/messages")
        assert status in (404, 503) and "messages" not in found, found
    finally:
        redis.go_on()
    hosts.until_ready()
    eventually(lambda: _same(bodies(hosts[1], room, {})[0], 404))
