"""Proves: on `/ws`, where events are plain JSON, whatever is not an event is told so and the
connection stays; nothing a client says there reaches further than with Socket.IO.
"""

import json
import os
import random

import pytest
from raw import BINARY, PING, PONG, TEXT, Closed, Raw, frame, request

pytestmark = pytest.mark.usefixtures("undisturbed")

SUBPROTOCOL = "throng.json.v1"


@pytest.fixture(scope="module")
def settings():
    return {"MAX_PAYLOAD": "200000", "CONNECT_TIMEOUT": "2s"}


class Plain(Raw):
    """A connection to `/ws`."""

    def __init__(self, port, name="plain", **options):
        super().__init__(port, **options)
        self.send(request(path="/ws", Sec_WebSocket_Protocol=SUBPROTOCOL))
        status, headers = self.head()
        assert status == 101 and headers["sec-websocket-protocol"] == SUBPROTOCOL
        if name:
            got = self.ask({"event": "connect", "data": {"username": name}})
            assert got["event"] == "connect" and got["data"]["sid"], got

    def hear(self):
        """The next message, or `Closed`."""
        got = self.recv()
        while not isinstance(got, Closed) and got[0] != TEXT:
            got = self.recv()
        return got if isinstance(got, Closed) else json.loads(got[1])

    def ask(self, message):
        self.text(message if isinstance(message, (str, bytes)) else json.dumps(message))
        return self.hear()

    def works(self):
        self.text('{"id":77,"event":"nope"}')
        while (got := self.hear()).get("id") != 77:
            assert isinstance(got, dict), got
        assert got["event"] == "ack" and got["data"]["ok"] is False, got


def objects(got):
    assert isinstance(got, dict) and got["event"] == "error", got
    assert len(json.dumps(got)) < 1000, "an error does not repeat what it is about"


NO_EVENTS = [
    "",
    " ",
    "hello",
    "{",
    "{}",
    "[]",
    "null",
    "true",
    "0",
    "1e999",
    '"event"',
    '[{"event":"nope"}]',
    '["nope",{}]',
    '42["nope"]',
    "40",
    '{"event":null}',
    '{"event":1}',
    '{"event":["nope"]}',
    '{"event":{"a":1}}',
    '{"event":true}',
    '{"Event":"nope"}',
    '{"data":{}}',
    '{"id":1}',
    '{"id":"1","event":"nope"}',
    '{"id":-1,"event":"nope"}',
    '{"id":1.5,"event":"nope"}',
    '{"id":[],"event":"nope"}',
    '{"id":18446744073709551616,"event":"nope"}',
    '{"id":' + "9" * 1000 + ',"event":"nope"}',
    '{"id":1e3,"event":"nope"}',
    '{"event":"nope","event":"nope"}',
    '{"id":1,"id":2,"event":"nope"}',
    '{"event":"nope","data":1,"data":2}',
    '{"event":"nope"}{"event":"nope"}',
    '{"event":"nope"} x',
    '{"event":"nope",}',
    "{'event':'nope'}",
    '{"event":"no\tpe"}',
    '{"event":"\\ud800"}',
    '{"event":"nope","data":}',
    '{"event":"nope","data":nope}',
    '{"event":"nope","data":"\\x"}',
    '{"event":"nope","attachments":1}',
    '{"event":"nope","attachments":[1]}',
    '{"event":"nope","attachments":"AQID"}',
    '{"event":"nope","data":{"_placeholder":true,"num":0},"attachments":["!!"]}',
    '{"event":"nope","data":{"_placeholder":true,"num":1},"attachments":["AQID"]}',
    '{"event":"nope","data":[],"attachments":' + json.dumps(["AQID"] * 11) + "}",
    '{"event":"nope","data":' + "[" * 100_000,
    "[" * 150_000,
    '{"a":' * 30_000,
    "\ufeff" + '{"event":"nope"}',
]


@pytest.mark.parametrize("text", NO_EVENTS, ids=lambda text: f"{text[:40]} of {len(text)}")
def test_what_is_no_event_is_told_and_the_connection_stays(engine, text):
    with Plain(engine.port) as raw:
        objects(raw.ask(text))
        raw.works()
    with Plain(engine.port, name=None) as raw:
        objects(raw.ask(text))
        assert raw.ask({"event": "connect", "data": {"username": "late"}})["event"] == "connect"
        raw.works()


@pytest.mark.parametrize("text", ['{"event":""}', '{"event":"nope","x":1,"__proto__":{"y":1}}'])
def test_odd_events_are_just_unknown(engine, text):
    with Plain(engine.port) as raw:
        raw.text(text)
        raw.works()


@pytest.mark.parametrize(
    "name", ["connect_error", "disconnecting", "newListener", "removeListener", "error", "presence"]
)
def test_reserved_names_do_nothing(engine, name):
    with Plain(engine.port) as raw:
        raw.text(json.dumps({"event": name, "data": {"username": "other"}}))
        raw.works()


def test_a_second_connect_is_told(engine):
    with Plain(engine.port) as raw:
        objects(raw.ask({"event": "connect", "data": {"username": "other"}}))
        objects(raw.ask({"id": 1, "event": "connect"}))
        raw.works()


def test_disconnect_ends_the_connection(engine):
    for message in ({"event": "disconnect"}, {"id": 5, "event": "disconnect", "data": [1]}):
        with Plain(engine.port) as raw:
            raw.text(json.dumps(message))
            raw.until_closed()
            raw.assert_ended()


@pytest.mark.parametrize("event", ["join", "message", "history", "ack", "disconnect", "nope", ""])
def test_events_before_connect_are_told(engine, event):
    with Plain(engine.port, name=None) as raw:
        objects(raw.ask({"id": 1, "event": event, "data": {"room": "x", "body": "y"}}))
        assert raw.ask({"event": "connect", "data": {"username": "late"}})["event"] == "connect"
        raw.works()


@pytest.mark.parametrize("data", ["[]", "1", "true", '"name"', '[{"username":"x"}]'])
def test_connect_without_an_object_is_told(engine, data):
    with Plain(engine.port, name=None) as raw:
        objects(raw.ask(f'{{"event":"connect","data":{data}}}'))
        assert raw.ask('{"event":"connect","data":{}}')["event"] == "connect"


@pytest.mark.parametrize(
    "username",
    ["1", "null", "[]", "{}", '""', '" "', '"<x>"', '"admin"', '"' + "x" * 1000 + '"', '"\\u0000"'],
)
def test_bad_names_are_refused_and_the_connection_stays(engine, username):
    with Plain(engine.port, name=None) as raw:
        got = raw.ask(f'{{"event":"connect","data":{{"username":{username}}}}}')
        assert got["event"] in ("connect_error", "connect"), got
        if got["event"] == "connect_error":
            again = raw.ask({"event": "connect", "data": {"username": "fine"}})
            assert again["event"] == "connect"
        raw.works()


def test_nobody_connects_in_time(engine):
    with Plain(engine.port, name=None) as raw:
        for _ in range(3):
            raw.text("{}")
        raw.until_closed(4)


@pytest.mark.parametrize(
    "message",
    [
        {"id": 0, "event": "ack"},
        {"id": 1, "event": "ack", "data": {"ok": True}},
        {"id": 2**64 - 1, "event": "ack", "data": [1, 2]},
        {"id": 7, "event": "ack", "data": "x" * 100_000},
    ],
)
def test_answers_to_nothing_are_ignored(engine, message):
    with Plain(engine.port) as raw:
        raw.text(json.dumps(message))
        raw.works()


def test_an_ack_without_an_id_is_no_harm(engine):
    with Plain(engine.port) as raw:
        raw.text('{"event":"ack","data":1}')
        raw.works()


@pytest.mark.parametrize("number", [0, 1, 2**32, 2**53 - 1, 2**53 + 1, 2**63, 2**64 - 1])
def test_large_ids_come_back_unchanged(engine, number):
    with Plain(engine.port) as raw:
        got = raw.ask(f'{{"id":{number},"event":"nope"}}')
        assert got["id"] == number and got["event"] == "ack"


@pytest.mark.parametrize("payload", [b"", b"\x00", b'{"event":"nope"}', b"x" * 100_000])
def test_binary_messages_are_told(engine, payload):
    with Plain(engine.port) as raw:
        raw.send(frame(BINARY, payload))
        objects(raw.hear())
        raw.works()


def test_invalid_utf8_closes(engine):
    with Plain(engine.port) as raw:
        raw.send(frame(TEXT, b'{"event":"\xff"}'))
        assert raw.until_closed().code == 1007


def test_a_message_over_the_limit_closes(engine):
    with Plain(engine.port) as raw:
        raw.send(frame(TEXT, '{"event":"' + "x" * 200_000 + '"}'))
        assert raw.until_closed().code == 1009


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [33, 120, 1000, 15_000])
def test_deep_data_is_refused(engine, opening, closing, depth):
    deep = opening * depth + "0" + closing * depth
    with Plain(engine.port) as raw:
        for event in ("message", "join", "signal", "nope"):
            data = f'{{"room":"deep","to":"x","body":{deep},"data":{deep}}}'
            got = raw.ask(f'{{"id":1,"event":"{event}","data":{data}}}')
            assert got["event"] == "error" or got["data"]["ok"] is False, (event, got)
        raw.works()
    with Plain(engine.port, name=None) as raw:
        got = raw.ask(f'{{"event":"connect","data":{{"username":"deep","x":{deep}}}}}')
        assert got["event"] in ("connect", "connect_error", "error"), got


@pytest.mark.parametrize("data", ["null", "1", "[]", '"x"', "[[]]", '{"room":1}', '{"room":{}}',
                                  '{"room":null}', '{"room":"x","room":"y"}', "1e999"])  # fmt: skip
def test_events_with_wrong_data_are_answered(engine, data):
    with Plain(engine.port) as raw:
        for event in ("join", "leave", "message", "history", "participants", "signal", "update"):
            got = raw.ask(f'{{"id":9,"event":"{event}","data":{data}}}')
            while got["event"] not in ("ack", "error"):
                got = raw.hear()
        raw.works()


def test_a_name_of_100_kb(engine):
    with Plain(engine.port) as raw:
        got = raw.ask({"id": 1, "event": "n" * 100_000})
        assert got["data"]["ok"] is False and len(json.dumps(got)) < 1000


# --- the handshake ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, good",
    [
        (SUBPROTOCOL, True),
        (f"chat, {SUBPROTOCOL}", True),
        (f"{SUBPROTOCOL},{SUBPROTOCOL}", True),
        ("chat", False),
        ("throng.json.v2", False),
        ("throng.json.v1x", False),
        ("constructor, __proto__", False),
        ("", False),
        (",", False),
        ("," * 6000, False),
        ("a," * 3000, False),
        ("\xff\xfe\x80", False),
        ("x" * 7000, False),
    ],
)
def test_subprotocols(engine, value, good):
    with Raw(engine.port) as raw:
        raw.send(request(path="/ws", Sec_WebSocket_Protocol=value))
        status, headers, _ = raw.answer()
        assert status == (101 if good else 400)
        assert headers.get("sec-websocket-protocol") == (SUBPROTOCOL if good else None)


def test_no_subprotocol_is_fine(engine):
    with Raw(engine.port) as raw:
        raw.send(request(path="/ws") + frame(TEXT, '{"event":"connect","data":{"username":"x"}}'))
        status, headers = raw.head()
        assert status == 101 and "sec-websocket-protocol" not in headers
        assert json.loads(raw.recv_text())["event"] == "connect"


@pytest.mark.parametrize("path", ["/ws/", "/ws/x", "/wsx", "/WS", "//ws", "/ws%2f", "/%77s"])
def test_other_paths_are_no_websockets(engine, path):
    with Raw(engine.port) as raw:
        raw.send(request(path=path))
        assert raw.answer()[0] in (400, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "BREW"])
def test_other_methods_are_refused(engine, method):
    with Raw(engine.port) as raw:
        raw.send(request(path="/ws", method=method))
        assert raw.answer()[0] in (400, 405, 426)


def test_a_plain_request_is_426(engine):
    with Raw(engine.port) as raw:
        raw.send(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.answer()[0] == 426
        assert b"HTTP/1.1 200" not in raw.rest()


def test_a_foreign_origin_is_refused(engine):
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "", "\xff"):
        with Raw(engine.port) as raw:
            raw.send(request(path="/ws", Origin=origin))
            assert raw.answer()[0] == 403


# --- floods -------------------------------------------------------------------------------------


def test_a_flood_of_nonsense_that_nobody_reads_about_is_bounded(engine):
    before = engine.memory_kb()
    with Plain(engine.port, timeout=2) as raw:
        flood = frame(TEXT, "{") * 10_000
        try:
            for _ in range(50):
                raw.send(flood)
        except OSError:
            pass  # closed, or no longer read: both bound it
        grown = engine.memory_kb() - before
    assert grown < 10_000, f"{grown} KB more"


def test_a_flood_of_pings(engine):
    with Plain(engine.port) as raw:
        raw.send(frame(PING, "x" * 125) * 5000)
        raw.works()


def test_pings_are_answered(engine):
    with Plain(engine.port) as raw:
        raw.send(frame(PING, "x"))
        assert raw.recv() == (PONG, b"x")


def test_random_messages(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    good = ['{"id":1,"event":"join","data":{"room":"r"}}',
            '{"event":"message","data":{"room":"r"}}',
            '{"event":"connect","data":{"username":"u"}}', '{"id":3,"event":"ack","data":[]}',
            '{"id":2,"event":"message","data":{"room":"r","body":{"_placeholder":true,"num":0}},'
            '"attachments":["AQID"]}']  # fmt: skip
    for _ in range(150):
        with Plain(engine.port, name=source.choice([None, "fuzz"])) as raw:
            for _ in range(source.randrange(1, 8)):
                text = bytearray(source.choice(good).encode())
                for _ in range(source.randrange(4)):
                    text[source.randrange(len(text))] = source.randrange(32, 127)
                raw.try_send(frame(TEXT, bytes(text)))
            raw.reset()
