"""Proves: with MongoDB as its store the engine keeps what it acknowledged through the death, the
freezing and the errors of the server and through its own death; a message that the server refuses
is parked and told of while the others go on; words that mean something to MongoDB are data.
Against SecantusDB, a process that speaks MongoDB's protocol.
"""

import json
import random
import signal
import time

import pytest
from durable import Publisher, judge, stored
from engine import Engine, eventually, free_port
from mongo import Server
from outages import RECOVERED_S_MAX, alerts, check_memory, check_store, join, shows_none
from plain import Plain
from test_api_store import KEY, configured, read, room_path
from test_store import HOSTILE, check_hostile_words
from test_store_crash import SEED, finished
from test_store_doors import refuses_to_start


@pytest.fixture(scope="module")
def server():
    with Server() as it:
        yield it


@pytest.fixture
def database(server, request):
    """A database of its own for each test."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    with server.client() as client:
        yield client[name]


@pytest.fixture
def start(server, database, tmp_path):
    engines = []
    port = str(free_port())

    def begin(**env):
        mine = {"MONGODB_URI": server.uri(database.name), "DATA_DIR": str(tmp_path)}
        engines.append(Engine(**mine | {"PORT": port, "API_KEY": KEY, "HISTORY_SIZE": "5"} | env))
        return engines[-1]

    yield begin
    for it in engines:
        it.kill()
    server.thaw()
    server.heal()


@pytest.mark.timeout(180)
def test_memory_acks_go_on_without_the_server(server, start):
    engine = start(ACK_LEVEL="memory")
    check_memory(engine, server.kill, server.restart)
    engine.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["kill", "freeze", "error", "election", "close"])
def test_store_acks_say_unavailable(server, start, how):
    """An error that passes, an election, and connections that end before the answer; only writes
    fail, reads go on.
    """
    begin, end = {
        "kill": (server.kill, server.restart),
        "freeze": (server.freeze, server.thaw),
        "error": (lambda: server.fail("insert", errorCode=91), server.heal),
        "election": (lambda: server.fail("insert", "update", errorCode=10107), server.heal),
        "close": (lambda: server.fail("insert", closeConnection=True), server.heal),
    }[how]
    # What is within memory needs no look-up, which would wait for the server, too.
    engine = start(ACK_LEVEL="store", HISTORY_SIZE="100")
    check_store(engine, begin, end)
    engine.stop()


def test_a_slow_server_only_delays(server, start):
    engine = start(ACK_LEVEL="store", ALERT_STORE_MS="100")
    with Plain(engine.port, "ada") as ada:
        join(ada, "slow")
        acked = [ada.write("slow", 0, "c0")]
        server.fail("insert", blockConnection=True, blockTimeMS=800)
        begun = time.monotonic()
        waiting = [
            ada.say("message", {"room": "slow", "body": n, "clientId": f"c{n}"})
            for n in range(1, 50)
        ]
        acked += [it.result(30) for it in waiting]
        assert time.monotonic() - begun >= 0.8 and all(it["ok"] for it in acked)

        def alerted():
            assert alerts(engine).get("store_response", {}).get("value", 0) > 100

        eventually(alerted, 20)
        server.heal()
        assert ada.write("slow", 50, "c50")["seq"] == 51
        assert engine.json("/metrics")["store"]["retries"] == 0
    assert [it["seq"] for it in stored(engine, "slow")] == list(range(1, 52))
    engine.stop()


def test_a_repetition_is_known_however_slowly_the_server_looks(server, start):
    """At ACK_LEVEL=store a message must not be acknowledged twice under two numbers."""
    engine = start(ACK_LEVEL="store")
    with Plain(engine.port, "ada") as ada:
        join(ada, "twice")
        acked = [ada.write("twice", n, f"c{n}") for n in range(20)]
        server.fail("find", blockConnection=True, blockTimeMS=1000)
        answer = ada.call("message", {"room": "twice", "body": 0, "clientId": "c0"})
        server.heal()
        if not answer["ok"]:
            assert answer["error"]["code"] == "unavailable"
            answer = ada.write("twice", 0, "c0")
        assert (answer["id"], answer["seq"]) == (acked[0]["id"], 1)
    assert len(stored(engine, "twice")) == 20
    engine.stop()


@pytest.mark.parametrize("where", ["DATA_DIR", "the log alone"])
def test_what_the_server_refuses_is_parked(start, database, tmp_path, where):
    in_file = where == "DATA_DIR"
    engine = start(ACK_LEVEL="store", **{} if in_file else {"DATA_DIR": "none"})
    with Plain(engine.port, "ada") as ada, Plain(engine.port, "bob") as bob:
        for room in ("parked", "other"):
            join(ada, room), join(bob, room)
            ada.write(room, 0)
        stray = {"_id": "stray", "room": "parked", "seq": 2, "from": {}, "body": "0"}
        database.messages.insert_one(stray)
        waiting = [
            ada.say("message", {"room": room, "body": [n], "clientId": f"c{n}"})
            for n in range(1, 6) for room in ("parked", "other")
        ]
        answers = [it.result(30) for it in waiting]
        assert answers[0]["ok"] is False and answers[0]["error"]["code"] == "unavailable"
        assert [it.get("seq") for it in answers[2::2]] == [3, 4, 5, 6]
        assert [it.get("seq") for it in answers[1::2]] == [2, 3, 4, 5, 6]

        def came():
            assert bob.bodies("parked") == [0, [1], [2], [3], [4], [5]]

        eventually(came)
        store = engine.json("/metrics")["store"]
        assert (store["parked"], store["unparked"]) == (1, 0 if in_file else 1)
        assert store["up"] is True
        if in_file:
            check_parked((tmp_path / "parked.ndjson").read_text())

        def alerted():
            name = "parked_messages" if in_file else "unparked_messages"
            assert alerts(engine).get(name, {}).get("value") == 1

        eventually(alerted, 20)
        assert engine.json("/health")["status"] == "ok"
    kept = {it["seq"] for it in database.messages.find({"room": "parked"})}
    assert kept == {1, 2, 3, 4, 5, 6}
    engine.stop()


def check_parked(text):
    assert text.endswith("\n") and text.count("\n") == 1
    line = json.loads(text)
    assert (line["room"], line["seq"], line["clientId"]) == ("parked", 2, "c1")
    assert (json.loads(line["body"]), line["from"]["user"]) == ([1], "ada")
    assert "stray" in line["reason"]


def test_rooms_have_their_own_retention(start, database):
    engine = start(MESSAGE_RETENTION="20s", USER_RETENTION="1h")
    with Plain(engine.port, "Ada") as ada:
        for room in ("own", "others"):
            join(ada, room)
            for number in range(5):
                ada.write(room, number)
        configured(engine, "own", {"retention": "2s"})

        def gone():
            assert database.messages.count_documents({"room": "own"}) == 0

        eventually(gone, 30)
        assert stored(engine, "own") == [] and ada.write("own", "on")["seq"] == 6
        indexes = database.messages.index_information().values()
        assert [it["expireAfterSeconds"] for it in indexes if "expireAfterSeconds" in it] == [20]

        def noted():
            ada = database.users.find_one({"_id": "ada"})
            assert ada and ada["name"] == "Ada" and ada["firstSeen"] <= ada["lastSeen"]

        eventually(noted, 20)
    engine.stop()


def test_words_of_mongodb_are_data(start, database):
    check_hostile_words(start)
    assert database.messages.count_documents({}) == 4 * len(HOSTILE)
    assert [it["_id"] for it in database.users.find()] == ["ada"]
    for kept in database.messages.find({"clientId": {"$in": HOSTILE}}):
        assert isinstance(kept["body"], str) and kept["room"] == kept["clientId"]


def test_settings_are_not_taken_while_the_server_is_away(server, start):
    """A room that cannot be looked up stays closed, and no setting is lost or invented."""
    engine = start()
    configured(engine, "closed", {"private": True})
    engine.stop()
    engine = start()
    server.fail("find", "insert", "update", "findAndModify", "aggregate", errorCode=91)
    with Plain(engine.port, "eve", timeout=60) as eve:
        eve.refused("join", {"room": "closed"}, "unavailable")
        server.heal()
        eventually(lambda: shows_none(engine), RECOVERED_S_MAX)
        eve.refused("join", {"room": "closed"}, "forbidden")
        eve.ok("join", {"room": "open"})
    engine.stop()


def test_what_cannot_be_read_is_not_called_empty(server, start):
    engine = start()
    with Plain(engine.port, "ada") as ada:
        for room in ("seen", "unseen"):
            join(ada, room)
            for number in range(20):
                ada.write(room, number)
    engine.stop()
    engine = start()
    with Plain(engine.port, "ada", timeout=60) as ada:
        assert ada.ok("join", {"room": "seen"})["lastSeq"] == 20
        server.fail("find", "aggregate", errorCode=91)
        late = ada.ok("join", {"room": "seen", "since": 2})
        assert late["complete"] is False and late["lastSeq"] == 20
        assert [it["seq"] for it in late["messages"]] in ([], [16, 17, 18, 19, 20])
        newest = ada.ok("history", {"room": "seen", "limit": 10})
        assert newest["messages"][-1]["seq"] == 20 and newest["more"] is True
        ada.refused("history", {"room": "seen", "before": 10}, "unavailable")
        ada.refused("join", {"room": "unseen"}, "unavailable")
        status, page = read(engine, room_path("unseen") + "/messages")
        assert (status, page["error"]["code"]) == (503, "unavailable"), page
        status, page = read(engine, room_path("seen") + "/messages?before=10")
        assert status == 503 or page.get("complete") is False or page["more"], (status, page)
        server.heal()
        eventually(lambda: shows_none(engine), RECOVERED_S_MAX)
        assert len(stored(engine, "unseen")) == len(stored(engine, "seen")) == 20
        join(ada, "unseen")
    engine.stop()


@pytest.mark.parametrize(
    "uri, words",
    [
        ("mongodb://ada:sesame@127.0.0.1:{}/throng?serverSelectionTimeoutMS=2000", []),
        ("mongodb://ada:sesame@127.0.0.1:{}/throng?w=0", ["w=0"]),
        ("mongodb://ada:sesame@:{}:x/", []),
        ("http://ada:sesame@127.0.0.1:{}/", []),
    ],
)
def test_an_address_without_a_server_is_refused(tmp_path, uri, words):
    env = {"DATA_DIR": str(tmp_path), "PORT": str(free_port())}
    text = refuses_to_start(env, MONGODB_URI=uri.format(free_port()))
    assert "MONGODB_URI" in text and "sesame" not in text, text
    assert all(word in text for word in words), text


def test_a_newer_schema_is_refused_and_left_alone(server, start, database, tmp_path):
    start().stop()
    before = database.throng_schema.find_one()
    database.throng_schema.update_one({}, {"$inc": {"version": 1}})
    env = {"DATA_DIR": str(tmp_path), "PORT": str(free_port())}
    text = refuses_to_start(env, MONGODB_URI=server.uri(database.name))
    assert "newer" in text and "MONGODB_URI" in text, text
    assert database.throng_schema.find_one() == before | {"version": before["version"] + 1}


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_by_kills_of_both(server, start):
    print(f"SEED={SEED}")
    rnd = random.Random(SEED)
    rooms = [f"kill {number}" for number in range(3)]
    engine = start(ACK_LEVEL="store", LOG="warn")
    publishers = [Publisher(engine.port, f"p{n}", rooms, SEED) for n in range(4)]
    for it in publishers:
        it.start()
    for number in range(6):
        time.sleep(1.5 * rnd.random())
        if number % 2:
            server.restart()
        else:
            engine.process.send_signal(signal.SIGKILL)
            engine.process.wait()
            engine = start(ACK_LEVEL="store", LOG="warn")
    finished(publishers)
    writes = [write for it in publishers for write in it.writes]
    faults = judge(writes, {room: stored(engine, room) for room in rooms})
    repeated = sum(it.tries > 1 for it in writes)
    skipped = engine.json("/metrics")["store"]["lookupsFailed"]
    told = {kind: len(found) for kind, found in faults.items()}
    print(f"{len(writes)} messages, {repeated} repeated, {skipped} not looked up, {told}")
    assert not any(it.faults for it in publishers), [it.faults for it in publishers]
    assert not any(faults.values()), (SEED, {k: v[:5] for k, v in faults.items()})
    engine.stop()
