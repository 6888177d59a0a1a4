"""Proves: the stock Python client does everything the engine offers: connect, every event, acks,
binary.
"""

import queue

import pytest
import socketio
from engine import eventually


def events_of(client, name):
    """A queue of what arrives as `name`."""
    arrived = queue.Queue()
    client.on(name, arrived.put)
    return arrived


def ok(client, event, data):
    reply = client.call(event, data, timeout=5)
    assert reply["ok"] is True, reply
    return reply


def code(client, event, data):
    reply = client.call(event, data, timeout=5)
    assert reply["ok"] is False and reply["error"]["message"], reply
    return reply["error"]["code"]


def test_connects_over_websocket_with_its_name(connect):
    client = connect("ada")
    assert client.transport() == "websocket"
    assert len(client.get_sid()) == 20
    reply = ok(client, "join", {"room": "py-first", "metadata": {"a": 1}})
    assert (reply["room"], reply["count"], reply["lastSeq"]) == ("py-first", 1, 0)
    assert (reply["messages"], reply["complete"]) == ([], True)
    (me,) = reply["participants"]
    assert set(me) == {"id", "user", "name", "metadata", "sharing", "joinedAt"}
    assert (me["id"], me["name"], me["metadata"]) == (client.get_sid(), "ada", {"a": 1})


def test_guest_gets_a_name(connect):
    reply = ok(connect(), "join", "py-guests")
    assert reply["participants"][0]["name"]


@pytest.mark.parametrize("name", ["x" * 33, "<script>", " "])
def test_bad_name_is_refused_with_a_code(engine, name):
    client = socketio.Client(reconnection=False)
    refused = queue.Queue()
    client.on("connect_error", refused.put)
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(engine.url, transports=["websocket"], auth={"username": name})
    assert refused.get(timeout=5)["data"]["code"] == "invalid"


def test_message_reaches_everyone_and_the_sender(connect):
    ada, bob = connect("ada"), connect("bob")
    for client in (ada, bob):
        ok(client, "join", "py-talk")
    queues = [events_of(client, "message") for client in (ada, bob)]
    for seq, body in enumerate([None, 1.5, "text 🎉", [1, {"a": None}], {"k": [True]}], 1):
        sent = ok(ada, "message", {"room": "py-talk", "body": body, "clientId": f"c{seq}"})
        assert sent["seq"] == seq
        for arrived in queues:
            event = arrived.get(timeout=5)
            assert (event["seq"], event["id"], event["body"]) == (seq, sent["id"], body)
            assert event["from"]["name"] == "ada" and event["clientId"] == f"c{seq}"
    again = ok(ada, "message", {"room": "py-talk", "body": "again", "clientId": "c1"})
    assert again["seq"] == 1


def test_binary_both_ways(connect):
    ada, bob = connect("ada"), connect("bob")
    for client in (ada, bob):
        ok(client, "join", "py-bytes")
    arrived = events_of(bob, "message")
    body = {"name": "b", "data": bytes(range(256)), "list": [b"", b"\x00\xff"]}
    for sent in (b"\x00\x01\x02", body):
        ok(ada, "message", {"room": "py-bytes", "body": sent})
        assert arrived.get(timeout=5)["body"] == sent
    late = connect("late")
    assert [m["body"] for m in ok(late, "join", "py-bytes")["messages"]] == [b"\x00\x01\x02", body]


def test_presence_typing_screen_update_signal(connect):
    ada = connect("ada")
    ok(ada, "join", "py-room")
    presence, typing, screen, signal = (
        events_of(ada, name) for name in ("presence", "typing", "screen", "signal")
    )
    bob = connect("bob")
    ok(bob, "join", "py-room")
    bob_id = bob.get_sid()

    def presence_with(key):
        while True:
            event = presence.get(timeout=5)
            if any((p["id"] if isinstance(p, dict) else p) == bob_id for p in event.get(key, [])):
                return event

    assert presence_with("joined")["count"] == 2
    bob.emit("typing", {"room": "py-room", "typing": True})
    assert typing.get(timeout=5)["from"]["id"] == bob_id
    ok(bob, "screen", {"room": "py-room", "sharing": True})
    assert screen.get(timeout=5)["sharing"] is True
    ok(bob, "update", {"room": "py-room", "metadata": {"away": True}})
    assert presence_with("updated")["updated"][0]["metadata"] == {"away": True}
    ok(bob, "signal", {"to": ada.get_sid(), "data": {"sdp": "x"}})
    event = signal.get(timeout=5)
    assert (event["from"]["id"], event["data"]) == (bob_id, {"sdp": "x"})
    assert code(bob, "signal", {"to": "AAAAAAAAAAAAAAAAAAAA", "data": 1}) == "not_found"
    ok(bob, "leave", {"room": "py-room"})
    assert presence_with("left")["count"] == 1


def test_history_and_participants(connect):
    ada = connect("ada")
    ok(ada, "join", "py-history")
    for n in range(12):
        ok(ada, "message", {"room": "py-history", "body": n})
    page = ok(ada, "history", {"room": "py-history", "limit": 5})
    assert [m["seq"] for m in page["messages"]] == [8, 9, 10, 11, 12] and page["more"] is True
    page = ok(ada, "history", {"room": "py-history", "limit": 50, "before": 8})
    assert [m["seq"] for m in page["messages"]] == list(range(1, 8)) and page["more"] is False
    roster = ok(ada, "participants", {"room": "py-history"})
    assert (roster["count"], len(roster["participants"])) == (1, 1)


def test_error_codes(connect):
    ada = connect("ada")
    ok(ada, "join", "py-codes")
    assert code(ada, "join", {"room": ""}) == "invalid"
    assert code(ada, "message", {"room": "elsewhere", "body": 1}) == "not_in_room"
    assert code(ada, "message", {"room": "py-codes", "body": "x" * 70_000}) == "too_large"
    assert code(ada, "nope", 1) == "unknown_event"
    ok(ada, "leave", "py-codes")


def test_disconnect_leaves_nothing(engine, connect):
    clients = [connect(f"u{n}") for n in range(5)]
    for client in clients:
        ok(client, "join", "py-gone")
    for client in clients:
        client.disconnect()

    def gone():
        assert "py-gone" not in [r["id"] for r in engine.json("/api/rooms?limit=1000")["rooms"]]

    eventually(gone)
