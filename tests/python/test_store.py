"""Proves: what is kept outlives the engine and goes on where it was: numbers, history, repetitions,
whatever the message. Words that mean something to a database are data.
"""

import os
from urllib.parse import quote

import pytest
import socketio
from durable import stored
from engine import eventually
from keeping import env, pages, select, start  # noqa: F401
from plain import Plain
from test_api_store import OWNER, configured, read, room_path

HOSTILE = [
    '{"$ne":null}',
    "'; DROP TABLE messages;--",
    '" OR 1=1 --',
    "$where",
    "$gt.a.b",
    "a.b.$[].c",
    "%_\\",
    "__proto__",
    "ünï 日本 🦀",
]


@pytest.mark.parametrize("level, size", [("store", "5"), ("memory", "5"), ("store", "0")])
def test_numbers_and_history_go_on_after_a_restart(start, level, size):
    first = start(ACK_LEVEL=level, HISTORY_SIZE=size)
    with Plain(first.port, "ada") as ada:
        ada.ok("join", {"room": "long"})
        waiting = [
            ada.say("message", {"room": "long", "body": n, "clientId": f"c{n}"})
            for n in range(1, 301)
        ]
        answers = [it.result(30) for it in waiting]
        assert [it["seq"] for it in answers] == list(range(1, 301))
        before = pages(ada, "long", 100)
        assert [it["body"] for it in before] == list(range(1, 301))
        assert [it["id"] for it in before] == [it["id"] for it in answers]
        eventually(lambda: check_old_repetition(ada, answers, 2))
    first.stop()

    second = start(ACK_LEVEL=level, HISTORY_SIZE=size)
    with Plain(second.port, "bob") as bob:
        joined = bob.ok("join", {"room": "long", "since": 250})
        assert joined["complete"] is True and joined["lastSeq"] == 300
        assert joined["messages"] == before[250:]
        for limit in (7, 100):
            assert pages(bob, "long", limit) == before
        assert stored(second, "long", 33) == before
        far = bob.ok("join", {"room": "long", "since": 0})
        assert far["complete"] is False and far["messages"] == before[200:]
        for number in (1, 150, 299, 300):
            check_old_repetition(bob, answers, number)
        assert bob.write("long", "next")["seq"] == 301
        assert pages(bob, "long", 50)[:300] == before
    second.stop()


def check_old_repetition(client, answers, number):
    """It is answered as at first, and delivered to nobody."""
    last = client.ok("history", {"room": "long", "limit": 1})["messages"][-1]["seq"]
    heard = len(client.messages)
    again = client.write("long", "another body", f"c{number}")
    assert (again["id"], again["seq"]) == (answers[number - 1]["id"], number)
    assert client.ok("history", {"room": "long", "limit": 1})["messages"][-1]["seq"] == last
    assert len(client.messages) == heard


def test_a_room_everybody_left_goes_on_too(start):
    engine = start(HISTORY_SIZE="1", HISTORY_TTL="1s")
    for number in range(1, 6):
        with Plain(engine.port, "ada") as ada:
            joined = ada.ok("join", {"room": "again", "since": 0})
            assert (joined["lastSeq"], joined["complete"]) == (number - 1, True)
            assert [it["body"] for it in joined["messages"]] == list(range(1, number))
            assert ada.write("again", number, f"c{number}")["seq"] == number
            assert ada.write("again", number, "c1")["seq"] == 1
    engine.stop()


@pytest.mark.parametrize("past", [0, 30])
def test_who_repeats_at_once_gets_one_message(start, past):
    """In a room that has a past beyond memory each clientId must be looked up first."""
    engine = start(HISTORY_SIZE="3")
    clients = [Plain(engine.port, f"c{n}") for n in range(8)]
    for client in clients:
        client.ok("join", {"room": "same"})
    for number in range(past):
        clients[0].write("same", number)
    waiting = [
        (number, client.say("message", {"room": "same", "body": 0, "clientId": f"c{number}"}))
        for number in range(10) for client in clients
    ]
    results = {}
    for number, answer in waiting:
        told = answer.result(30)
        results.setdefault(number, set()).add((told["id"], told["seq"]))
    assert all(len(it) == 1 for it in results.values()), results
    assert len({it for them in results.values() for it in them}) == 10
    last = clients[0].write("same", "last")
    assert last["seq"] == past + 11

    def came_once():
        for client in clients:
            assert [it["seq"] for it in client.messages] == list(range(1, past + 12))

    eventually(came_once)
    assert len(stored(engine, "same")) == past + 11
    for client in clients:
        client.close()
    engine.stop()


def test_odd_json_stays_as_it_is(start):
    """Byte by byte, but for space between tokens: what a parser would change is kept."""
    odd = [
        '1e400', '-0.0', '12345678901234567890123', '0.1000', r'"\ud800"', '{"a":1,"a":2}',
        '{"":null}', '[' * 20 + ']' * 20, 'null', '""', r'"\u2028</script>"',
        '{"_id":{"$oid":"x"}}',
    ]
    engine = start(HISTORY_SIZE="1")
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "odd"})
        for number, text in enumerate(odd):
            data = f'{{"room":"odd","clientId":"c{number}","body":{text}}}'
            ada.put_text(f'{{"event":"message","data":{data}}}')
        assert ada.write("odd", "last")["seq"] == len(odd) + 1
    engine.stop()
    engine = start(HISTORY_SIZE="1")
    _, page = engine.get("/api/rooms/odd/messages?limit=100")
    for text in odd:
        assert f'"body":{text},' in page, (text, page)
    engine.stop()


def test_who_knows_more_than_the_store_is_told(start):
    """Acknowledged from memory, delivered, and lost by a kill: whoever saw it learns that."""
    engine = start(ACK_LEVEL="memory")
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "back"})
        for number in range(1, 6):
            assert ada.write("back", number)["seq"] == number
        eventually(lambda: check_kept_count(engine, 5))
    engine.process.kill()
    engine.process.wait()
    engine = start(ACK_LEVEL="memory")
    with Plain(engine.port, "bob") as bob:
        ahead = bob.ok("join", {"room": "back", "since": 9})
        assert (ahead["lastSeq"], ahead["messages"], ahead["complete"]) == (5, [], False)
        level = bob.ok("join", {"room": "back", "since": 5})
        assert (level["messages"], level["complete"]) == ([], True)
        empty = bob.ok("join", {"room": "new", "since": 3})
        assert (empty["lastSeq"], empty["complete"]) == (0, False)
    engine.stop()


def test_a_kill_takes_only_the_end_of_what_memory_acknowledged(start):
    """At ACK_LEVEL=memory the newest may be lost; what is there is a beginning, as acknowledged."""
    engine = start(ACK_LEVEL="memory", HISTORY_SIZE="5")
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "end"})
        waiting = say_all(ada, range(1, 1001))
        eventually(lambda: check_kept_count(engine, 1000))
        waiting += say_all(ada, range(1001, 2001))
        waiting[1500].result(30)
        engine.process.kill()
        engine.process.wait()
        acked = [it.result(10) for it in waiting if not it.exception(10)]
    engine = start(ACK_LEVEL="memory", HISTORY_SIZE="5")
    kept = stored(engine, "end")
    assert [it["seq"] for it in kept] == list(range(1, len(kept) + 1))
    assert [it["body"] for it in kept] == list(range(1, len(kept) + 1)) and len(kept) >= 1000
    both = min(len(kept), len(acked))
    assert [it["id"] for it in kept[:both]] == [it["id"] for it in acked[:both]]
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "end"})
        for number in range(1, 2001):
            ada.put("message", {"room": "end", "body": number, "clientId": f"c{number}"})
        assert ada.write("end", 2001)["seq"] == 2001
    assert [it["body"] for it in stored(engine, "end")] == list(range(1, 2002))
    engine.stop()


def say_all(client, numbers):
    return [
        client.say("message", {"room": "end", "body": n, "clientId": f"c{n}"}) for n in numbers
    ]


def check_kept_count(engine, count):
    assert engine.json("/metrics")["store"]["kept"] == count


def test_binary_parts_outlive_the_engine(start, connect_to):
    first = start()
    ada = connect_to(first, "ada")
    assert ada.call("join", "files", timeout=10)["ok"]
    body = {"a": b"\x00\xff" * 500, "b": [1, b""], "c": "ü"}
    assert ada.call("message", {"room": "files", "body": body}, timeout=10)["ok"]
    ada.disconnect()
    first.stop()
    bob = connect_to(start(), "bob")
    joined = bob.call("join", {"room": "files", "since": 0}, timeout=10)
    assert joined["messages"][0]["body"] == body


@pytest.fixture
def connect_to():
    clients = []

    def make(engine, name):
        clients.append(socketio.Client(reconnection=False))
        clients[-1].connect(engine.url, transports=["websocket"], auth={"username": name})
        return clients[-1]

    yield make
    for client in clients:
        client.shutdown()


def test_without_a_data_dir_nothing_is_kept(start, env, tmp_path):
    for _ in range(2):
        engine = start(DATA_DIR="none")
        with Plain(engine.port, "ada") as ada:
            joined = ada.ok("join", {"room": "brief", "since": 0})
            assert (joined["lastSeq"], joined["messages"]) == (0, [])
            first = ada.write("brief", 1, "c1")
            assert ada.write("brief", 2, "c1")["id"] == first["id"] and first["seq"] == 1
        engine.stop()
    assert not os.path.exists(env["DATA_DIR"])


# --- words of databases -----------------------------------------------------------------------


def check_hostile_words(start, **more):
    """On any store; used for MongoDB too."""
    engine = start(HISTORY_SIZE="1", **more)
    with Plain(engine.port, "ada") as ada:
        for number, word in enumerate(HOSTILE):
            ada.ok("join", {"room": word, "metadata": {word: word}})
            body = {word: word, "$set": {"a.b": [word]}, "$where": "sleep(1)"}
            first = ada.write(word, body, word)
            assert ada.write(word, "second", "other")["seq"] == 2
            assert ada.write(word, "third")["seq"] == 3
            again = ada.write(word, body, word)
            assert (again["id"], again["seq"]) == (first["id"], 1), word
            # A pattern or an operator would find these.
            assert ada.write(word, "not the same", f"{word}2")["seq"] == 4
            configured(engine, word, {"metadata": {word: {"$ne": number}}})
        for hostile in ({"$ne": None}, {"$gt": ""}, ["a"], 5, None):
            ada.refused("join", {"room": hostile}, "invalid")
            ada.refused("message", {"room": hostile, "body": 1}, "invalid")
            ada.refused("history", {"room": hostile}, "invalid")
            if hostile is not None:
                write = {"room": HOSTILE[0], "body": 1, "clientId": hostile}
                ada.refused("message", write, "invalid")
                ada.refused("history", {"room": HOSTILE[0], "before": {"$gt": 0}}, "invalid")
        for name in ({"$ne": None}, "'; DROP TABLE users;--", "$where"):
            with pytest.raises(PermissionError):
                Plain(engine.port, name)
    engine.stop()
    engine = start(HISTORY_SIZE="1", **more)
    for number, word in enumerate(HOSTILE):
        kept = stored(engine, word, 1)
        assert [it["seq"] for it in kept] == [1, 2, 3, 4], word
        assert [it["room"] for it in kept] == [word] * 4
        assert kept[0]["body"] == {word: word, "$set": {"a.b": [word]}, "$where": "sleep(1)"}
        assert [it.get("clientId") for it in kept] == [word, "other", None, f"{word}2"]
        _, room = read(engine, room_path(word), OWNER)
        assert room["settings"]["metadata"] == {word: {"$ne": number}}
    listed = engine.json("/api/rooms?limit=1000")
    assert engine.get(f"/api/rooms/{quote('absent $ne', safe='')}/messages")[0] == 404, listed
    engine.stop()


def test_words_of_databases_are_data(start, env):
    check_hostile_words(start)
    assert select(env, "SELECT count(*) FROM messages") == [(4 * len(HOSTILE),)]
    assert select(env, "SELECT _id FROM users") == [("ada",)]
