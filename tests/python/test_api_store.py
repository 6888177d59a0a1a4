"""Proves: what the store holds is read and changed over HTTP as documented: messages of a room,
settings behind API_KEY, private rooms that nobody else can tell from absent ones, alerts, and the
store in /health and /metrics.
"""

import base64
import http.client
import json
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
import socketio
from engine import Engine, eventually
from raw import Raw

KEY = "correct horse battery staple"
OWNER = {"Authorization": f"Bearer {KEY}"}
JSON_BODY = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def settings():
    # How full the machine is that runs the tests is not theirs to say.
    return {"API_KEY": KEY, "ALERT_MEMORY_PERCENT": "off", "ALERT_STORE_MS": "off"}


def call(engine, method, path, body=None, headers=None):
    """(status, headers, body read as JSON, or None where there is none)."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
    try:
        connection.request(method, path, body, {"Connection": "close"} | (headers or {}))
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, answer.headers, json.loads(text) if text else None
    finally:
        connection.close()


def room_path(room):
    return f"/api/rooms/{quote(room, safe='')}"


def read(engine, path, headers=None):
    status, _, body = call(engine, "GET", path, headers=headers)
    return status, body


def configure(engine, room, settings, headers=OWNER):
    status, _, body = call(
        engine, "POST", room_path(room), json.dumps(settings), JSON_BODY | headers
    )
    return status, body


def configured(engine, room, settings):
    status, body = configure(engine, room, settings)
    assert status == 200, body
    return body


def refused(answer, status, code, *words):
    assert answer[0] == status, answer
    error = answer[-1]["error"]
    assert error["code"] == code and all(word in error["message"] for word in words), error


def join(client, room):
    reply = client.call("join", {"room": room}, timeout=10)
    assert reply["ok"], reply


def write(client, room, body, **more):
    reply = client.call("message", {"room": room, "body": body} | more, timeout=10)
    assert reply["ok"], reply
    return reply


# --- messages ---------------------------------------------------------------------------------


def test_messages_come_newest_first_as_their_events_did(engine, connect):
    ada, events = connect("Ada"), []
    ada.on("message", events.append)
    join(ada, "api-lines")
    for number in range(7):
        write(ada, "api-lines", {"n": number, "text": "ü\"\\"}, clientId=f"c{number}")
    write(ada, "api-lines", {"file": b"\x00\xff", "more": [b"2"]})

    def all_came():
        assert len(events) == 8

    eventually(all_came)

    status, page = read(engine, room_path("api-lines") + "/messages?limit=5")
    assert status == 200 and page["more"] is True and page.get("complete", True)
    assert [it["seq"] for it in page["messages"]] == [8, 7, 6, 5, 4]
    binary = page["messages"][0]
    holder = [{"_placeholder": True, "num": number} for number in range(2)]
    assert binary["body"] == {"file": holder[0], "more": [holder[1]]}
    assert [base64.b64decode(it) for it in binary["attachments"]] == [b"\x00\xff", b"2"]
    assert page["messages"][1:] == list(reversed(events[3:7]))

    _, rest = read(engine, room_path("api-lines") + "/messages?limit=5&before=4")
    assert rest["messages"] == list(reversed(events[:3])) and rest["more"] is False
    _, nothing = read(engine, room_path("api-lines") + "/messages?before=1")
    assert nothing == {"messages": [], "more": False}


def test_a_page_has_fifty_messages_and_a_hundred_at_most(engine, connect):
    ada = connect("ada")
    join(ada, "api-many")
    for number in range(120):
        write(ada, "api-many", number)
    for query, count in [("", 50), ("?limit=100", 100), ("?limit=100000", 100), ("?limit=1", 1)]:
        _, page = read(engine, room_path("api-many") + "/messages" + query)
        assert len(page["messages"]) == count and page["more"] is True, query
        assert page["messages"][0]["body"] == 119


def test_a_page_ends_early_rather_than_be_huge(engine, connect):
    ada = connect("ada")
    join(ada, "api-long")
    for _ in range(10):
        write(ada, "api-long", "x" * 60_000)
    seqs, before = [], ""
    while True:
        _, page = read(engine, room_path("api-long") + "/messages?limit=100" + before)
        assert 1 <= len(page["messages"]) < 10
        seqs += [it["seq"] for it in page["messages"]]
        if not page["more"]:
            break
        before = f"&before={seqs[-1]}"
    assert seqs == list(range(10, 0, -1))


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=", "before=x", "before=-1", "before="],
)
def test_bad_bounds_are_refused(engine, query):
    refused(read(engine, room_path("api-lines") + "/messages?" + query), 400, "invalid")


ODD_NAMES = ["a/b?c#d", "日本 🎉", "%41", "'; DROP TABLE messages;--", "$ne", "x/messages"]


@pytest.mark.parametrize("room", ODD_NAMES)
def test_any_room_can_be_named(engine, connect, room):
    ada = connect("ada")
    join(ada, room)
    write(ada, room, "here")
    _, page = read(engine, room_path(room) + "/messages")
    assert [(it["room"], it["body"]) for it in page["messages"]] == [(room, "here")]


def test_what_can_be_no_room_is_refused(engine):
    for room in ["x" * 129, "a\nb", "a\0b"]:
        refused(read(engine, room_path(room) + "/messages"), 400, "invalid")
        refused(configure(engine, room, {}), 400, "invalid")


def test_a_room_is_there_with_members_or_messages(engine, connect):
    path = room_path("api-there") + "/messages"
    refused(read(engine, path), 404, "not_found")
    ada = connect("ada")
    join(ada, "api-there")
    assert read(engine, path) == (200, {"messages": [], "more": False})
    write(ada, "api-there", 1)
    assert ada.call("leave", "api-there", timeout=10)["ok"]
    status, page = read(engine, path)
    assert (status, [it["body"] for it in page["messages"]]) == (200, [1])


# --- the key ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY.upper()}"},
        {"X-Api-Key": KEY},
    ],
)
def test_nothing_is_written_without_the_key(engine, headers):
    answer = call(
        engine, "POST", room_path("api-locked"), '{"capacity":3}', JSON_BODY | headers
    )
    refused(answer, 401, "unauthorized")
    assert answer[1]["WWW-Authenticate"] == "Bearer"
    assert read(engine, room_path("api-locked"), OWNER)[0] == 404


def test_without_a_key_configured_writing_is_off():
    engine = Engine()
    for headers in [{}, OWNER]:
        refused(configure(engine, "lobby", {}, headers), 403, "forbidden", "API_KEY")
    engine.stop()


def test_the_key_is_never_shown(engine):
    configured(engine, "api-key", {"password": "open sesame"})
    for path in ["/health", "/metrics", "/alerts", "/api/rooms", room_path("api-key")]:
        for headers in [{}, OWNER]:
            _, body = read(engine, path, headers)
            shown = json.dumps(body)
            assert KEY not in shown and "sesame" not in shown and "argon2" not in shown, path
    assert KEY not in engine.output() and "sesame" not in engine.output()


# --- settings ---------------------------------------------------------------------------------

EVERYTHING = {
    "private": True,
    "password": "open sesame",
    "users": ["Ann", "ann", "Bob B."],
    "capacity": 5,
    "retention": "168h",
    "metadata": {"topic": "ü", "big": 12345678901234567890123},
}
SHOWN = {
    "private": True,
    "users": ["ann", "bob b."],
    "capacity": 5,
    "retention": "7d",
    "metadata": EVERYTHING["metadata"],
    "password": True,
}
NOTHING = {
    "private": False,
    "users": [],
    "capacity": None,
    "retention": None,
    "metadata": None,
    "password": False,
}


def test_every_setting_is_kept_and_shown(engine):
    made = configured(engine, "api-all", EVERYTHING)
    assert made["settings"] == SHOWN and made["participants"] == [] and made["id"] == "api-all"
    status, room = read(engine, room_path("api-all"), OWNER)
    assert (status, room["settings"]) == (200, SHOWN)


@pytest.mark.parametrize(
    "key, cleared",
    [
        ("password", False),
        ("users", []),
        ("capacity", None),
        ("retention", None),
        ("metadata", None),
    ],
)
def test_null_clears_and_what_is_absent_stays(engine, key, cleared):
    room = f"api-clear-{key}"
    configured(engine, room, EVERYTHING)
    assert configured(engine, room, {})["settings"] == SHOWN
    assert configured(engine, room, {key: None})["settings"] == SHOWN | {key: cleared}


def test_an_open_room_is_shown_with_its_participants(engine, connect):
    ada = connect("ada")
    join(ada, "api-open")
    write(ada, "api-open", 1)
    room = configured(engine, "api-open", {"metadata": {"a": [1, None]}})
    assert [it["id"] for it in room["participants"]] == [ada.get_sid()]
    assert (room["count"], room["lastSeq"]) == (1, 1)
    assert room["settings"] == NOTHING | {"metadata": {"a": [1, None]}}
    _, seen_by_all = read(engine, room_path("api-open"))
    assert "settings" not in seen_by_all, "settings are the operator's"
    assert {k: v for k, v in room.items() if k != "settings"} == seen_by_all


@pytest.mark.parametrize(
    "word, body",
    [
        ("colour", {"colour": 1}),
        ("private", {"private": None}),
        ("private", {"private": "yes"}),
        ("password", {"password": ""}),
        ("password", {"password": "x" * 129}),
        ("password", {"password": 5}),
        ("users", {"users": "ann"}),
        ("users", {"users": [{"$ne": None}]}),
        ("users", {"users": [" ann"]}),
        ("users", {"users": ["x" * 33]}),
        ("users", {"users": ["ann"] * 1001}),
        ("capacity", {"capacity": 0}),
        ("capacity", {"capacity": 1048577}),
        ("capacity", {"capacity": 2.5}),
        ("retention", {"retention": "off"}),
        ("retention", {"retention": "10ms"}),
        ("retention", {"retention": 7}),
        ("metadata", {"metadata": []}),
        ("metadata", {"metadata": {"a": "x" * 16384}}),
        ("object", ["private"]),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(engine, word, body):
    configured(engine, "api-wrong", {"capacity": 9})
    good = {"capacity": 8} if word != "capacity" and isinstance(body, dict) else {}
    answer = configure(engine, "api-wrong", good | body if isinstance(body, dict) else body)
    refused(answer, 400, "invalid", word)
    assert read(engine, room_path("api-wrong"), OWNER)[1]["settings"]["capacity"] == 9


def test_a_key_that_comes_twice_is_refused(engine):
    body = '{"private":true,"private":false}'
    answer = call(engine, "POST", room_path("api-twice"), body, JSON_BODY | OWNER)
    refused(answer, 400, "invalid", "private")


def test_bodies_that_are_none_are_refused(engine):
    path, whole = room_path("api-bodies"), JSON_BODY | OWNER
    for body in ["", "{", "private=true", "{} {}", b"\xff{}", "[" * 60_000]:
        refused(call(engine, "POST", path, body, whole), 400, "invalid")
    for kind in [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/jsonx"}]:
        refused(call(engine, "POST", path, "{}", kind | OWNER), 415, "invalid")
    refused(call(engine, "POST", path, " " * 65_537 + "{}", whole), 413, "too_large")
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert call(engine, "POST", path, " " * 65_000 + "{}", charset | OWNER)[0] == 200
    assert call(engine, "DELETE", path, headers=OWNER)[0] == 405


def test_who_has_no_key_is_answered_without_reading_the_body(engine):
    head = f"POST {room_path('api-slow')} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
    with Raw(engine.port, 10) as raw:
        raw.send((head + "Content-Type: application/json\r\n\r\n{").encode())
        assert raw.answer()[0] == 401
    assert engine.get("/health")[0] == 200


def test_of_changes_at_once_none_is_lost(engine):
    parts = [{key: value} for key, value in EVERYTHING.items()]
    answers = []
    threads = [
        threading.Thread(target=lambda it=it: answers.append(configure(engine, "api-race", it)))
        for it in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [status for status, _ in answers] == [200] * len(parts), answers
    assert read(engine, room_path("api-race"), OWNER)[1]["settings"] == SHOWN


def test_all_of_it_outlives_the_engine(tmp_path):
    env = {"API_KEY": KEY, "DATA_DIR": str(tmp_path)}
    first = Engine(**env)
    configured(first, "kept", EVERYTHING | {"private": False, "password": None, "users": None})
    client = socketio.Client(reconnection=False)
    client.connect(first.url, transports=["websocket"], auth={"username": "ada"})
    join(client, "kept")
    write(client, "kept", {"n": 1}, clientId="c1")
    _, before = read(first, room_path("kept") + "/messages")
    client.disconnect()
    first.stop()
    second = Engine(**env)
    assert read(second, room_path("kept") + "/messages") == (200, before)
    assert before["messages"][0]["body"] == {"n": 1}
    _, room = read(second, room_path("kept"), OWNER)
    expected = SHOWN | {"private": False, "password": False, "users": []}
    assert (room["settings"], room["lastSeq"]) == (expected, 1)
    second.stop()


def test_a_password_is_nowhere_in_the_files(tmp_path):
    engine = Engine(API_KEY=KEY, DATA_DIR=str(tmp_path))
    configured(engine, "vault", {"password": "xyzzy-plugh-4711"})
    engine.stop()
    files = [it for it in Path(tmp_path).rglob("*") if it.is_file()]
    assert files and any(b"$argon2id$" in it.read_bytes() for it in files)
    assert not any(b"xyzzy-plugh" in it.read_bytes() for it in files)


# --- private rooms ----------------------------------------------------------------------------


def test_a_private_room_cannot_be_told_from_an_absent_one(engine, connect):
    ada = connect("ada")
    for room in ["api-hidden", "api-shown"]:
        join(ada, room)
        write(ada, room, "secret")
    configured(engine, "api-hidden", {"private": True})
    for headers in [{}, {"Authorization": "Bearer wrong key"}]:
        refused(configure(engine, "api-hidden", {}, headers), 401, "unauthorized")
        for tail in ["", "/messages"]:
            hidden = call(engine, "GET", room_path("api-hidden") + tail, headers=headers)
            absent = call(engine, "GET", room_path("api-absent") + tail, headers=headers)
            assert hidden[0] == absent[0] == 404 and hidden[2] == absent[2]
            unalike = {"date"}
            assert {k: v for k, v in hidden[1].items() if k.lower() not in unalike} == {
                k: v for k, v in absent[1].items() if k.lower() not in unalike
            }
    names = [it["id"] for it in read(engine, "/api/rooms?limit=1000")[1]["rooms"]]
    assert "api-shown" in names and "api-hidden" not in names

    names = [it["id"] for it in read(engine, "/api/rooms?limit=1000", OWNER)[1]["rooms"]]
    assert "api-shown" in names and "api-hidden" in names
    assert read(engine, room_path("api-hidden"), OWNER)[1]["count"] == 1
    _, page = read(engine, room_path("api-hidden") + "/messages", OWNER)
    assert [it["body"] for it in page["messages"]] == ["secret"]


def test_pages_of_rooms_skip_private_ones_and_miss_none(engine, connect):
    ada = connect("ada")
    for number in range(12):
        join(ada, f"api-page {number:02}")
        if number % 3 == 0:
            configured(engine, f"api-page {number:02}", {"private": True})
    found, after = [], quote("api-page")
    while after:
        _, page = read(engine, f"/api/rooms?limit=3&after={after}")
        assert len(page["rooms"]) <= 3
        found += [it["id"] for it in page["rooms"] if it["id"].startswith("api-page ")]
        after = page["next"] and quote(page["next"])
    assert found == [f"api-page {number:02}" for number in range(12) if number % 3]


# --- browsers ---------------------------------------------------------------------------------


def preflight(engine, origin):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    _, headers, _ = call(engine, "OPTIONS", room_path("lobby"), headers=asked)
    return {k.lower(): v.lower() for k, v in headers.items()}


def test_pages_write_only_where_they_may(engine):
    assert "access-control-allow-origin" not in preflight(engine, "https://app.example")
    other = Engine(API_KEY=KEY, CORS_ORIGINS="https://app.example")
    allowed = preflight(other, "https://app.example")
    assert allowed["access-control-allow-origin"] == "https://app.example"
    assert "post" in allowed["access-control-allow-methods"]
    assert "authorization" in allowed["access-control-allow-headers"]
    assert "content-type" in allowed["access-control-allow-headers"]
    assert "access-control-allow-origin" not in preflight(other, "https://evil.example")
    other.stop()


# --- alerts, health, metrics ------------------------------------------------------------------


def test_a_calm_engine_has_no_alerts(engine):
    assert read(engine, "/alerts") == (200, {"alerts": []})


def test_an_alert_is_raised_logged_and_ends():
    engine = Engine(MAX_CONNECTIONS="20", ALERT_CONNECTIONS_PERCENT="9", ALERT_MEMORY_PERCENT="off")
    clients = [socketio.Client(reconnection=False) for _ in range(3)]
    for client in clients:
        client.connect(engine.url, transports=["websocket"])

    def raised():
        return named(engine, "connections")

    alert = eventually(raised, 30)
    assert set(alert) == {"name", "severity", "value", "threshold", "since"}
    assert (alert["name"], alert["severity"], alert["threshold"]) == ("connections", "warning", 9)
    assert alert["value"] >= 10 and alert["since"] > 1.7e12
    assert eventually(raised)["since"] == alert["since"]
    for client in clients:
        client.disconnect()

    def over():
        assert read(engine, "/alerts")[1]["alerts"] == []
        assert "alert is over" in engine.output()

    eventually(over, 60)
    engine.stop()


def test_how_full_memory_is_is_read_from_the_kernel():
    engine = Engine(ALERT_MEMORY_PERCENT="1")
    alert = eventually(lambda: named(engine, "memory"), 30)
    assert 1 < alert["value"] <= 100 and alert["severity"] == "critical"
    engine.stop()


def named(engine, name):
    found = [it for it in read(engine, "/alerts")[1]["alerts"] if it["name"] == name]
    assert len(found) == 1, found
    return found[0]


def test_health_says_how_the_store_is(engine):
    health = engine.json("/health")
    assert (health["status"], health["store"], health["redis"]) == ("ok", "ok", "off")
    without = Engine(DATA_DIR="none")
    health = without.json("/health")
    assert (health["status"], health["store"]) == ("ok", "off")
    assert without.json("/metrics")["store"] is None
    without.stop()


def test_metrics_say_what_the_store_does(engine, connect):
    before = engine.json("/metrics")["store"]
    assert (before["kind"], before["up"], before["downSeconds"]) == ("sqlite", True, 0)
    ada = connect("ada")
    join(ada, "api-metrics")
    for number in range(5):
        write(ada, "api-metrics", number)

    def kept():
        store = engine.json("/metrics")["store"]
        assert store["kept"] >= before["kept"] + 5
        assert (store["queuedMessages"], store["queuedBytes"], store["parked"]) == (0, 0, 0)
        assert store["batches"] > 0 and store["lastBatch"] > 0
        return store

    store = eventually(kept)
    for operation in ["appendLatency", "readLatency"]:
        assert set(store[operation]) == {"unit", "p50", "p99", "max"}
    assert store["appendLatency"]["p99"] > 0
    for key in ["retries", "reads", "readsMerged", "usersNoted", "sweptMessages", "retention"]:
        assert key in store
    _, text = engine.get("/metrics?format=prometheus")
    lines = text.splitlines()
    assert "throng_store_up 1" in lines
    assert any(it.startswith("throng_store_kept_total ") for it in lines)
    assert any(it.startswith('throng_store_latency_us{operation="append"') for it in lines)
    assert "api-" not in text, "nothing from outside is a label"
