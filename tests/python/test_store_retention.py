"""Proves: retention takes what is too old and nothing else, from the store and from sight, and
numbers go on; users are kept as they were last seen, until they are absent for too long.
"""

import json
import time

from durable import stored
from engine import eventually
from keeping import env, pages, select, start  # noqa: F401
from plain import Plain
from test_api_store import configured, read, room_path


def seqs(env, room):
    return [seq for (seq,) in select(
        env, "SELECT seq FROM messages WHERE room=? ORDER BY seq", room)]


def test_retention_deletes_and_numbers_go_on(start, env):
    engine = start(MESSAGE_RETENTION="2s")
    with Plain(engine.port, "ada") as ada:
        for room in ("short", "own"):
            ada.ok("join", {"room": room})
        configured(engine, "own", {"retention": "1h"})
        for room in ("short", "own"):
            for number in range(1, 151):
                ada.put("message", {"room": room, "body": number})
            assert ada.write(room, "last")["seq"] == 151

        def gone():
            assert seqs(env, "short") == []

        eventually(gone, 40)
        assert seqs(env, "own") == list(range(1, 152))
        assert engine.json("/metrics")["store"]["sweptMessages"] == 151
        assert select(env, "SELECT lastSeq FROM rooms WHERE _id='short'") == [(151,)]
        page = ada.ok("history", {"room": "short"})
        assert page["messages"] == [] and page["more"] is False
        assert ada.write("short", "on")["seq"] == 152
    engine.stop()
    engine = start(MESSAGE_RETENTION="1h")
    with Plain(engine.port, "bob") as bob:
        joined = bob.ok("join", {"room": "short", "since": 100})
        assert joined["complete"] is False and joined["lastSeq"] == 152
        assert bob.write("short", "further")["seq"] == 153
    engine.stop()


def test_a_room_has_its_own_retention(start, env):
    engine = start(MESSAGE_RETENTION="20s")
    with Plain(engine.port, "ada") as ada:
        for room in ("own", "others"):
            ada.ok("join", {"room": room})
            for number in range(5):
                ada.write(room, number)
        configured(engine, "own", {"retention": "2s"})

        def gone():
            assert seqs(env, "own") == []

        eventually(gone, 18)
        assert seqs(env, "others") == [1, 2, 3, 4, 5]
        # What has left the store is not shown from memory either.
        assert ada.ok("history", {"room": "own"})["messages"] == []
        assert stored(engine, "own") == []
        assert ada.write("own", "on")["seq"] == 6
    engine.stop()


def test_a_room_that_nobody_is_in_shows_what_its_own_retention_says(start):
    """Longer than that of all rooms, or shorter; and the same to whoever comes in."""
    engine = start(HISTORY_SIZE="5")
    with Plain(engine.port, "ada") as ada:
        for room in ("longer", "shorter"):
            ada.ok("join", {"room": room})
            for number in range(1, 21):
                ada.write(room, number)
    configured(engine, "longer", {"retention": "1h"})
    configured(engine, "shorter", {"retention": "1s"})
    engine.stop()
    time.sleep(1.1)  # Nothing to wait for: messages grow older than their retention.
    for general in ("1s", "1h"):
        engine = start(HISTORY_SIZE="5", MESSAGE_RETENTION=general)
        shown = {room: len(stored(engine, room)) for room in ("longer", "shorter")}
        assert shown == {"longer": 20, "shorter": 0}, (general, "over HTTP")
        with Plain(engine.port, "bob") as bob:
            for room, count in shown.items():
                joined = bob.ok("join", {"room": room, "since": 0})
                assert (len(joined["messages"]), joined["lastSeq"]) == (count, 20), (general, room)
                assert joined["complete"] is (count == 20)
                assert len(pages(bob, room, 7)) == count
        engine.stop()


def test_pages_end_where_retention_hides_what_is_left(start, env):
    """Older than its retention, and not swept yet: nobody sees it, and pages know their end."""
    engine = start(HISTORY_SIZE="5")
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "hidden"})
        for number in range(1, 31):
            ada.write("hidden", number)
        configured(engine, "hidden", {"retention": "1s"})
        time.sleep(1.1)  # Nothing to wait for: messages grow older than their retention.
        last = ada.write("hidden", "young")
        assert last["seq"] == 31
        page = ada.ok("history", {"room": "hidden", "limit": 10})
        assert [it["seq"] for it in page["messages"]] in ([31], []), page
        older = ada.ok("history", {"room": "hidden", "before": 31, "limit": 3})
        assert (older["messages"], older["more"]) == ([], False)
        status, page = read(engine, room_path("hidden") + "/messages?before=31&limit=3")
        assert (status, page["messages"], page["more"]) == (200, [], False)
    engine.stop()


# --- users ------------------------------------------------------------------------------------


def user(env, name):
    rows = select(env, "SELECT name, firstSeen, lastSeen, metadata FROM users WHERE _id=?", name)
    assert len(rows) == 1, rows
    return rows[0]


def test_users_are_kept_and_guests_are_not(start, env):
    begun = int(time.time() * 1000)
    engine = start()
    with Plain(engine.port, "Ada B.") as ada, Plain(engine.port) as guest:
        for client in (ada, guest):
            client.ok("join", {"room": "people", "metadata": {"avatar": "a'\"$.png"}})

        def noted():
            name, first, last, metadata = user(env, "ada b.")
            assert name == "Ada B." and json.loads(metadata) == {"avatar": "a'\"$.png"}
            assert begun <= first <= last <= time.time() * 1000
            return first, last

        first, last = eventually(noted, 30)
        ada.ok("update", {"room": "people", "metadata": {"avatar": "b"}})
    engine.stop()
    assert json.loads(user(env, "ada b.")[3]) == {"avatar": "b"}, "a shutdown writes what waits"
    engine = start()
    with Plain(engine.port, "ADA B."):
        pass
    engine.stop()
    name, first_later, last_later, metadata = user(env, "ada b.")
    assert (name, first_later) == ("ADA B.", first) and last_later > last
    assert json.loads(metadata) == {"avatar": "b"}
    assert select(env, "SELECT _id FROM users") == [("ada b.",)]


def test_absent_users_are_forgotten(start, env):
    engine = start(USER_RETENTION="7s")
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "users"})
        ada.write("users", "stays")
        eventually(lambda: user(env, "ada"), 30)

    def gone():
        assert select(env, "SELECT _id FROM users") == []
        assert engine.json("/metrics")["store"]["sweptUsers"] >= 1

    eventually(gone, 40)
    assert seqs(env, "users") == [1]
    engine.stop()
