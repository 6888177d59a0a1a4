"""Proves that three hosts on one Redis are one: messages, presence and whatever else a room says
reach everybody in one order, whichever host they are on; what lies in Redis is what the contract
names; and without Redis nobody is kept waiting or told what is not true.
"""

import json
import subprocess
import time

import pytest
from engine import BIN, Engine, eventually, free_port
from fleet.hosts import HOST_TTL_S, Hosts, agree
from fleet.redis import Redis, have_redis
from fleet.traffic import Traffic
from plain import Plain
from test_api_store import KEY, configured

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")


@pytest.fixture(scope="module")
def redis():
    with Redis() as running:
        yield running


@pytest.fixture(scope="module")
def hosts(redis):
    with Hosts([redis.url] * 3, API_KEY=KEY) as running:
        yield running


@pytest.fixture
def people(hosts):
    """`people("ann", 0)`: a client on that host; all leave when the test ends."""
    made = []

    def come(name, host):
        made.append(Plain(hosts[host].port, name, timeout=15))
        return made[-1]

    yield come
    for it in made:
        it.close()


@pytest.fixture
def three(people):
    return [people(name, host) for host, name in enumerate(["ann", "bob", "cem"])]


def join_all(clients, room, **more):
    """One after the other, until everybody knows of all."""
    answers = [it.ok("join", {"room": room} | more) for it in clients]

    def known():
        for it in clients:
            assert ids_in(it, room) == {it.sid for it in clients}

    eventually(known)
    return answers


def ids_in(client, room):
    return {it["id"] for it in client.ok("participants", {"room": room})["participants"]}


def told(client, event, **fields):
    """The data of such events so far."""
    found = [it["data"] for it in list(client.others) if it["event"] == event]
    return [it for it in found if all(it.get(key) == value for key, value in fields.items())]


def comes(client, event, fits=lambda data: True, **fields):
    """Waits for such an event."""
    def has_come():
        found = [it for it in told(client, event, **fields) if fits(it)]
        assert found, f"no {event} with {fields} in {told(client, event)}"
        return found[-1]

    return eventually(has_come)


def has(keys, *wanted):
    """Whether one of the events' lists names these."""
    return lambda data: all(it in json.dumps(data.get(keys, [])) for it in wanted)


# What people say


def test_everybody_hears_everything_in_one_order(three):
    join_all(three, "order")
    waiting = [
        it.say("message", {"room": "order", "body": [n, number], "clientId": f"{n}-{number}"})
        for number in range(100)
        for n, it in enumerate(three)
    ]
    answers = [it.result(30) for it in waiting]
    assert all(it["ok"] for it in answers), answers

    def all_came():
        assert all(len(it.bodies("order")) == 300 for it in three)

    eventually(all_came, 20)
    stories = [[(it["seq"], it["id"], it["body"]) for it in client.messages] for client in three]
    assert stories[0] == stories[1] == stories[2]
    assert [seq for seq, _, _ in stories[0]] == list(range(1, 301))
    for n in range(3):
        assert [body[1] for _, _, body in stories[0] if body[0] == n] == list(range(100))
    places = {(id, seq) for seq, id, _ in stories[0]}
    assert all((it["id"], it["seq"]) in places for it in answers)


def test_the_answer_is_never_there_before_the_message_is_in_redis(three, redis):
    join_all(three, "commit")
    for number in range(20):
        seq = three[0].write("commit", number)["seq"]
        (key,) = redis.keys("throng:*:stream:commit")
        assert redis.ask("XRANGE", key, f"{seq}-0", f"{seq}-0"), f"{seq} is not there"


def test_traffic_of_many(hosts):
    with Traffic(hosts, rooms=5, listeners=6, writers=6, rate=50) as traffic:
        traffic.flows(600, 20)
        verdict = traffic.judge()
        traffic.nobody_missed_anything()
        assert verdict.counts["retried"] == 0


def test_a_repetition_on_another_host_is_the_same_message(three):
    join_all(three, "again")
    first = three[0].write("again", "x", "name")
    for it in three:
        second = it.write("again", "y", "name")
        assert (second["id"], second["seq"]) == (first["id"], first["seq"])
    three[1].write("again", "end")
    eventually(lambda: _same(three[2].bodies("again"), ["x", "end"]))


def _same(found, wanted):
    assert found == wanted


def test_who_comes_later_gets_what_was_said(three, people):
    join_all(three[:1], "late")
    for number in range(10):
        three[0].write("late", number)
    answer = three[1].ok("join", {"room": "late"})
    assert [it["body"] for it in answer["messages"]] == list(range(10))
    assert (answer["lastSeq"], answer["complete"], answer["count"]) == (10, True, 2)
    answer = three[2].ok("join", {"room": "late", "since": 6})
    assert [it["seq"] for it in answer["messages"]] == [7, 8, 9, 10] and answer["complete"]
    page = three[2].ok("history", {"room": "late", "before": 5, "limit": 2})
    assert [it["seq"] for it in page["messages"]] == [3, 4] and page["more"]


def test_joins_while_others_write(three, people):
    """Each message is in the answer or comes live: never both, never neither."""
    join_all(three[:1], "rush")
    waiting = [three[0].say("message", {"room": "rush", "body": n}) for n in range(90)]
    late = [people(f"late{n}", 1 + n % 2) for n in range(6)]
    answers = [it.ok("join", {"room": "rush", "since": 0}) for it in late]
    assert all(it.result(30)["ok"] for it in waiting)
    for client, answer in zip(late, answers):
        assert answer["complete"], answer["lastSeq"]
        inside = [it["seq"] for it in answer["messages"]]

        def whole():
            seqs = inside + [it["seq"] for it in client.messages]
            assert seqs == list(range(1, 91)), seqs

        eventually(whole, 20)


def test_a_room_outlives_its_members(three, redis):
    join_all(three[:1], "empty")
    three[0].write("empty", "kept")
    three[0].ok("leave", {"room": "empty"})
    answer = three[2].ok("join", {"room": "empty"})
    assert [it["body"] for it in answer["messages"]] == ["kept"] and answer["lastSeq"] == 1
    assert three[2].write("empty", "more")["seq"] == 2


def test_binary_bodies_and_strange_names(three):
    for room in ("ü \U0001f600", "a{b}c", "{p000}", "a:b*[c]?", "x" * 128):
        join_all(three, room)
        body = {"text": "ü\u2028\U0001f600", "n": [1.5, None, True, {"a": ""}]}
        three[0].write(room, body)
        for it in three:
            eventually(lambda: _same(it.bodies(room), [body]))


# Who is there


def test_presence_goes_through_all_hosts(three):
    ann, bob, cem = three
    ann.ok("join", {"room": "who", "metadata": {"mood": 1}})
    answer = bob.ok("join", {"room": "who"})
    comes(ann, "presence", has("joined", bob.sid), room="who", count=2)
    cem.ok("join", {"room": "who"})
    for it in (ann, bob):
        comes(it, "presence", has("joined", cem.sid), room="who", count=3)
    assert answer["room"] == "who"
    eventually(lambda: _same(ids_in(cem, "who"), {it.sid for it in three}))
    (seen,) = [it for it in cem.ok("participants", {"room": "who"})["participants"]
               if it["id"] == ann.sid]
    assert (seen["name"], seen["metadata"], seen["sharing"]) == ("ann", {"mood": 1}, False)
    bob.ok("update", {"room": "who", "metadata": {"away": True}})
    for it in (ann, cem):
        change = comes(it, "presence", has("updated", bob.sid), room="who")
        assert change["updated"][0]["metadata"] == {"away": True}
    bob.ok("leave", {"room": "who"})
    for it in (ann, cem):
        comes(it, "presence", has("left", bob.sid), room="who", count=2)
    cem.close()
    comes(ann, "presence", has("left", cem.sid), room="who", count=1)


def test_the_answer_of_join_knows_members_of_other_hosts(three):
    for number, it in enumerate(three):
        room = "known"
        answer = it.ok("join", {"room": room})
        assert answer["count"] == number + 1, answer
        assert {p["id"] for p in answer["participants"]} == {p.sid for p in three[: number + 1]}


def test_typing_screen_and_signal(three):
    ann, bob, cem = three
    join_all(three, "signs")
    ann.put("typing", {"room": "signs", "typing": True})
    for it in (bob, cem):
        assert comes(it, "typing", room="signs")["from"]["id"] == ann.sid
    bob.ok("screen", {"room": "signs", "sharing": True})
    for it in (ann, cem):
        assert comes(it, "screen", room="signs", sharing=True)["from"]["id"] == bob.sid
    eventually(lambda: _sharing(cem, "signs", {bob.sid}))
    late = cem.ok("join", {"room": "signs"})
    assert [it["id"] for it in late["participants"] if it["sharing"]] == [bob.sid]
    bob.ok("screen", {"room": "signs", "sharing": False})
    comes(ann, "screen", room="signs", sharing=False)
    eventually(lambda: _sharing(ann, "signs", set()))
    cem.ok("signal", {"to": ann.sid, "data": {"sdp": "offer"}})
    signal = comes(ann, "signal")
    assert (signal["from"]["id"], signal["data"]) == (cem.sid, {"sdp": "offer"})
    assert told(bob, "signal") == [] and told(ann, "typing", room="signs") == []
    cem.refused("signal", {"to": "AAAAAAAAAAAAAAAAAAAA", "data": 1}, "not_found")


def _sharing(client, room, ids):
    found = client.ok("participants", {"room": room})["participants"]
    assert {it["id"] for it in found if it["sharing"]} == ids


def test_who_leaves_while_sharing_shares_no_more(three):
    ann, bob, _ = three
    join_all(three[:2], "gone sharing")
    bob.ok("screen", {"room": "gone sharing", "sharing": True})
    eventually(lambda: _sharing(ann, "gone sharing", {bob.sid}))
    bob.close()
    eventually(lambda: _sharing(ann, "gone sharing", set()))
    eventually(lambda: _same(ids_in(ann, "gone sharing"), {ann.sid}))


# What others see: HTTP and Redis


def test_the_api_of_each_host_knows_all_rooms(three, hosts):
    for number, it in enumerate(three):
        it.ok("join", {"room": f"api-{number}"})
        it.write(f"api-{number}", "x")
    wanted = {f"api-{number}": 1 for number in range(3)}
    for host in hosts:
        def all_known():
            rooms, after = {}, ""
            while True:
                page = host.json(f"/api/rooms?limit=100{after}")
                rooms |= {it["id"]: it for it in page["rooms"]}
                if not page.get("next"):
                    break
                after = f"&after={page['next']}"
            found = {id: rooms[id]["participants"] for id in wanted if id in rooms}
            assert found == wanted, f"{host}: {found}"
            assert all(rooms[id]["lastSeq"] == 1 for id in wanted), rooms

        eventually(all_known)
        for number, it in enumerate(three):
            one = host.json(f"/api/rooms/api-{number}")
            assert [p["id"] for p in one["participants"]] == [it.sid]
            kept = host.json(f"/api/rooms/api-{number}/messages")
            assert [m["body"] for m in kept["messages"]] == ["x"]
    assert hosts[0].get("/api/rooms/nobody-knows-it")[0] == 404


def test_redis_cli_get_room_lobby(three, redis):
    ann, bob, _ = three
    ann.ok("join", {"room": "lobby", "metadata": {"seat": 5}})
    bob.ok("join", {"room": "lobby"})
    bob.ok("screen", {"room": "lobby", "sharing": True})
    ann.write("lobby", "hello")

    def readable():
        text = redis.cli("get", "room:lobby")
        assert text, "nothing is there"
        room = json.loads(text)
        people = {it["id"]: it for it in room["participants"]}
        assert set(people) == {ann.sid, bob.sid}, text
        assert people[ann.sid]["metadata"] == {"seat": 5} and people[ann.sid]["name"] == "ann"
        assert (room["count"], room["sharing"], room["lastSeq"]) == (2, [bob.sid], 1), text

    eventually(readable)
    ann.ok("leave", {"room": "lobby"}), bob.ok("leave", {"room": "lobby"})

    def over():
        assert redis.cli("get", "room:lobby") == "", redis.cli("get", "room:lobby")

    eventually(over, 90)


def test_the_keys_of_the_contract(three, redis, hosts):
    ann = three[0]
    join_all(three, "keys")
    for number in range(3):
        ann.write("keys", number)

    def all_there():
        tag = _tag(redis, "keys")
        types = {key: redis.ask("TYPE", key) for key in (
            f"throng:{tag}:meta:keys", f"throng:{tag}:stream:keys", f"throng:{tag}:members:keys",
            "room:keys",
        )}
        assert list(types.values()) == [b"hash", b"stream", b"hash", b"string"], types
        stream = redis.ask("XRANGE", f"throng:{tag}:stream:keys", "-", "+")
        assert [it[0] for it in stream] == [b"1-0", b"2-0", b"3-0"]
        members = redis.ask("HGETALL", f"throng:{tag}:members:keys")
        assert {it.decode() for it in members[::2]} == {it.sid for it in three}
        assert all(isinstance(json.loads(it), dict) for it in members[1::2])
        assert b"3" in redis.ask("HVALS", f"throng:{tag}:meta:keys")
        channel = f"throng:{tag}:events:keys"
        assert redis.ask("PUBSUB", "NUMSUB", channel)[1] == 3
        assert 0 < redis.ask("TTL", f"throng:{tag}:stream:keys") <= 24 * 3600

    eventually(all_there)
    living = redis.keys("host:*")
    assert len(living) == 3, living
    for key in living:
        assert redis.ask("TYPE", key) == b"string"
        assert 0 < redis.ask("PTTL", key) <= HOST_TTL_S * 1000
    users = redis.keys("user:*")
    assert users, "no user is there"
    for key in users:
        assert redis.ask("TYPE", key) == b"hash" and redis.ask("TTL", key) > 0, key


def _tag(redis, room):
    (key,) = redis.keys(f"throng:*:meta:{room}")
    return key.split(":")[1]


def test_nothing_of_it_stays_for_ever(three, redis, hosts):
    """But settings: an operator has made them, and a private room must not open by itself when
    nobody has been in it for a while. They are there only where somebody has set some.
    """
    join_all(three, "expires")
    three[0].write("expires", "x", "name")
    assert redis.keys("throng:*:settings:expires") == [], "nobody has set any"
    configured(hosts[1], "expires", {"capacity": 9})
    meant = f"throng:{_tag(redis, 'expires')}:settings:expires"

    def bounded():
        lasting = [key for key in redis.keys("*") if redis.ask("TTL", key) < 0]
        assert meant in lasting, lasting
        rest = [key for key in lasting if ":members:" not in key and ":rooms" not in key
                and ":host:" not in key and key not in ("throng:hosts", meant)]
        assert rest == [], f"these never expire: {rest}"

    eventually(bounded)
    for it in three:
        it.ok("leave", {"room": "expires"})

    def left():
        members = redis.keys("throng:*:members:expires")
        assert members == [], members

    eventually(left)


def test_rooms_are_left_when_nobody_is_there(three, redis):
    join_all(three, "quiet")
    channel = f"throng:{_tag_of_events(redis, 'quiet')}:events:quiet"
    assert redis.ask("PUBSUB", "NUMSUB", channel)[1] == 3
    for it in three:
        it.ok("leave", {"room": "quiet"})
    eventually(lambda: _same(redis.ask("PUBSUB", "NUMSUB", channel)[1], 0), 20)


def subscribes(redis):
    """How often anybody has subscribed to channels so far."""
    calls = redis.info("commandstats").get("cmdstat_subscribe", "calls=0")
    return int(calls.split(",")[0].removeprefix("calls="))


def test_a_room_is_not_left_at_once(three, redis):
    """Who leaves may be back at once, as after a reload: a host hears of the room all the time."""
    join_all(three, "again and again")
    channel = f"throng:{_tag_of_events(redis, 'again and again')}:events:again and again"
    before, left = subscribes(redis), 0
    assert before > 0, "nobody subscribes in this way any more"
    for _ in range(10):
        for it in three:
            it.ok("leave", {"room": "again and again"})
        left += redis.ask("PUBSUB", "NUMSUB", channel)[1] < 3
        for it in three:
            it.ok("join", {"room": "again and again"})
    assert (left, subscribes(redis) - before) == (0, 0), "each time it is left and entered anew"
    eventually(lambda: _same(len(ids_in(three[0], "again and again")), 3))


def _tag_of_events(redis, room):
    (name,) = [it.decode() for it in redis.ask("PUBSUB", "CHANNELS", f"throng:*:events:{room}")]
    return name.split(":")[1]


def test_host_shows_its_state(hosts):
    for host in hosts:
        health = host.json("/health")
        assert (health["status"], health["redis"]) == ("ok", "ok"), health
        assert host.json("/metrics")["redis"]


# Hosts come and go


def test_a_killed_hosts_members_are_gone_in_time(redis):
    with Hosts([redis.url] * 2) as two:
        with Plain(two[0].port, "ann") as ann, Plain(two[1].port, "bob") as bob:
            join_all([ann, bob], "killed")
            two[0].kill9()
            killed = time.monotonic()
            comes_in = HOST_TTL_S + 8

            def gone():
                assert ids_in(bob, "killed") == {bob.sid}

            eventually(gone, comes_in)
            print(f"gone after {time.monotonic() - killed:.1f} s")
            comes(bob, "presence", has("left", ann.sid), room="killed", count=1)
            agree(two, "killed", {bob.sid})
            assert not [key for key in redis.keys("throng:*:members:killed")
                        if ann.sid.encode() in redis.ask("HKEYS", key)]


def test_a_host_that_ends_takes_its_members_along(redis):
    with Hosts([redis.url] * 2) as two:
        with Plain(two[0].port, "ann") as ann, Plain(two[1].port, "bob") as bob:
            join_all([ann, bob], "ended")
            two[0].stop()
            eventually(lambda: _same(ids_in(bob, "ended"), {bob.sid}), 5)


def test_a_new_host_knows_what_there_is(three, redis):
    join_all(three, "newcomer")
    three[0].write("newcomer", "before")
    with Hosts([redis.url]) as one, Plain(one[0].port, "dan") as dan:
        answer = dan.ok("join", {"room": "newcomer"})
        assert answer["count"] == 4 and [it["body"] for it in answer["messages"]] == ["before"]
        dan.write("newcomer", "hello")
        for it in three:
            eventually(lambda: _same(it.bodies("newcomer")[-1:], ["hello"]))


# Without Redis


def test_without_redis_nobody_is_kept_waiting():
    with Redis() as redis, Hosts([redis.url] * 2) as two:
        with Plain(two[0].port, "ann") as ann, Plain(two[1].port, "bob") as bob:
            join_all([ann, bob], "away")
            ann.write("away", "before")
            redis.kill()
            for host in two:
                two.until_unready(host, 5)
                eventually(lambda: _redis_is_down(host), 5)
            begun = time.monotonic()
            waiting = [ann.say("message", {"room": "away", "body": n, "clientId": f"c{n}"})
                       for n in range(3)]
            for it in waiting:
                answer = it.result(15)
                assert not answer["ok"] and answer["error"]["code"] == "unavailable", answer
            print(f"refused after {time.monotonic() - begun:.1f} s")
            redis.start()
            two.until_ready()
            assert two[0].json("/health")["redis"] == "ok"
            for n in range(3):
                ann.write("away", n, f"c{n}")
            join_all([ann, bob], "away")

            def came():
                assert bob.bodies("away")[-3:] == [0, 1, 2] and told(bob, "resync", room="away")

            eventually(came)


def _redis_is_down(host):
    health = json.loads(host.get("/health")[1])
    assert health["redis"] == "down", health


def test_a_host_starts_without_redis_and_waits_for_it():
    with Redis() as redis:
        redis.kill()
        with Hosts([redis.url], wait=False) as one:
            def lives():
                assert one[0].alive(), f"it has ended\n{one[0].output()}"
                assert one[0].get("/ready")[0] == 503

            eventually(lives)
            redis.start()
            one.until_ready()
            with Plain(one[0].port, "ann") as ann:
                ann.ok("join", {"room": "first"})
                assert ann.write("first", "x")["seq"] == 1


# Several fleets on one Redis


def test_prefixes_do_not_hear_each_other(redis):
    others = redis.keys()
    with Hosts([redis.url] * 2, REDIS_KEY_PREFIX="one:") as one:
        with Hosts([redis.url], REDIS_KEY_PREFIX="two:") as two:
            with (Plain(one[0].port, "ann") as ann, Plain(one[1].port, "bob") as bob,
                  Plain(two[0].port, "eve") as eve):
                join_all([ann, bob], "shared")
                join_all([eve], "shared")
                ann.write("shared", "ours")
                eve.write("shared", "theirs")
                eventually(lambda: _same(bob.bodies("shared"), ["ours"]))
                eventually(lambda: _same(eve.bodies("shared"), ["theirs"]))
                eve.refused("signal", {"to": ann.sid, "data": 1}, "not_found")
                ann.put("typing", {"room": "shared", "typing": True})
                comes(bob, "typing", room="shared")
                assert told(eve, "typing") == [] and len(told(eve, "presence")) <= 1
                assert [it["id"] for it in two[0].json("/api/rooms")["rooms"]] == ["shared"]
                assert two[0].json("/api/rooms/shared")["participants"][0]["id"] == eve.sid
                new = [it for it in redis.keys() if it not in others and not _is_shared(it)]
                wrong = [it for it in new if not it.startswith(("one:", "two:"))]
                assert new and wrong == [], wrong
                channels = redis.ask("PUBSUB", "CHANNELS", "*:events:shared")
                assert len(channels) == 2, channels


def _is_shared(key):
    """Of the module's own hosts, which have no prefix."""
    return key.startswith(("throng:", "host:", "user:", "room:", "session:"))


# Settings


@pytest.mark.parametrize("env, word", [
    ({"REDIS_URL": "http://127.0.0.1:1"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://127.0.0.1:99999"}, "REDIS_URL"),
    ({"REDIS_URL": "redis-sentinel://127.0.0.1:1"}, "REDIS_URL"),
    ({"REDIS_URL": "redis://127.0.0.1:1", "REDIS_HOST": "127.0.0.1"}, "REDIS_"),
    ({"REDIS_URL": "redis://127.0.0.1:1", "REDIS_POOL_SIZE": "0"}, "REDIS_POOL_SIZE"),
    ({"ACK_LEVEL": "redis"}, "ACK_LEVEL"),
    ({"REDIS_URL": "redis://127.0.0.1:1", "SOCKETIO_ADAPTER": "maybe"}, "SOCKETIO_ADAPTER"),
])
def test_settings_that_cannot_be(env, word, tmp_path):
    done = subprocess.run(
        [BIN], cwd=tmp_path, capture_output=True, text=True, timeout=20,
        env={"PORT": str(free_port()), "DATA_DIR": "none", "MAX_CONNECTIONS": "20000"} | env,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and word in said, said


def test_a_password_is_never_printed(tmp_path):
    with Redis(password="hunter2secret") as redis:
        done = subprocess.run([BIN, "config"], cwd=tmp_path, capture_output=True, text=True,
                              timeout=20, env={"REDIS_URL": redis.url, "DATA_DIR": "none"})
        assert done.returncode == 0 and "hunter2secret" not in done.stdout + done.stderr
        host = Engine(REDIS_URL=redis.url, DATA_DIR="none", LOG="debug")
        try:
            redis.restart(0.5)
            eventually(lambda: _same(host.get("/ready")[0], 200))
            assert "hunter2secret" not in host.output()
        finally:
            host.stop()


def test_host_port_and_password_apart(tmp_path):
    with Redis(password="word") as redis:
        host = Engine(REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port), REDIS_PASSWORD="word",
                      DATA_DIR="none")
        try:
            with Plain(host.port, "ann") as ann:
                ann.ok("join", {"room": "parts"})
                ann.write("parts", "x")
            assert redis.keys("throng:*:meta:parts")
        finally:
            host.stop()
