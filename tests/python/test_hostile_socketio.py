"""Proves: what the Engine.IO and Socket.IO protocols forbid closes its own connection and nothing
else; what they allow is answered; depth, numbers, names and attachments are bounded.
"""

import os
import random
import time

import pytest
from raw import BINARY, PING, PONG, TEXT, Closed, frame, open_socketio, open_websocket

pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture(scope="module")
def settings():
    return {"CONNECT_TIMEOUT": "1s"}


def closes(engine, *messages, connected=True, seconds=3):
    with (open_socketio if connected else open_websocket)(engine.port) as raw:
        for message in messages:
            binary = isinstance(message, bytes)
            raw.try_send(frame(BINARY, message) if binary else frame(TEXT, message))
        closed = raw.until_closed(seconds)
        raw.assert_ended()
        return closed


def reply_to(raw, message, prefix):
    raw.text(message)
    while not (got := raw.recv_text()).startswith(prefix):
        assert isinstance(got, str), got
    return got


def join(raw, room):
    return reply_to(raw, f'420["join",{{"room":"{room}","presence":false}}]', '430[{"ok":true')


# --- Engine.IO --------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", ["", "7", "9", "x", "hello", "{}", "\u00e9", " 4"])
def test_a_packet_of_no_type_closes(engine, packet):
    closes(engine, packet)


@pytest.mark.parametrize("packet", ["2", "2probe"])
def test_a_ping_from_the_client_closes(engine, packet):
    closes(engine, packet)


def test_pongs_nobody_asked_for_are_ignored(engine):
    with open_socketio(engine.port) as raw:
        for packet in ("3", "3", "6"):
            raw.text(packet)
        reply_to(raw, '421["nope"]', "431[")


def test_a_close_packet_closes(engine):
    closes(engine, "1")


def test_a_binary_message_nobody_announced_closes(engine):
    closes(engine, b"\x00\x01\x02")
    closes(engine, b"")


# --- before CONNECT ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        "4abc",
        "4",
        '42["join","x"]',
        "41",
        '430["x"]',
        "44{}",
        '451-["x",{"_placeholder":true,"num":0}]',
        b"x",
    ],
)
def test_anything_before_connect_closes(engine, packet):
    closes(engine, packet, connected=False)


@pytest.mark.parametrize("payload", ["abc", "[]", '"x"', "null", "{", '{"a":}', "{}{}"])
def test_a_connect_without_an_object_closes(engine, payload):
    closes(engine, "40" + payload, connected=False)


def test_no_connect_in_time_closes(engine):
    begun = time.monotonic()
    closes(engine, connected=False)
    assert 0.8 < time.monotonic() - begun < 1.6


def test_pongs_do_not_stand_for_connect(engine):
    begun = time.monotonic()
    closes(engine, "3", "3", connected=False)
    assert 0.8 < time.monotonic() - begun < 1.6


def test_an_unknown_namespace_is_refused_and_the_connection_stays(engine):
    with open_websocket(engine.port) as raw:
        refused = '44/random,{"message":"Invalid namespace"}'
        assert reply_to(raw, "40/random", "44") == refused
        assert reply_to(raw, '40/random,{"token":1}', "44") == refused
        assert reply_to(raw, "40", '40{"sid":"')


def test_only_refusals_until_the_timeout_close(engine):
    begun = time.monotonic()
    closes(engine, "40/random,", connected=False)
    assert 0.8 < time.monotonic() - begun < 1.6


def test_a_refused_name_leaves_the_connection_until_the_timeout(engine):
    with open_websocket(engine.port) as raw:
        assert '"data":{"code":"invalid"' in reply_to(raw, '40{"username":"<x>"}', "44{")
        assert reply_to(raw, '40{"username":"fine"}', '40{"sid":"')


def test_the_connect_reply_has_one_key(engine):
    with open_websocket(engine.port) as raw:
        raw.text("40")
        reply = raw.recv_text()
        assert reply.count(":") == 1 and reply.startswith('40{"sid":"') and reply.endswith('"}')


# --- packets that do not parse ----------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        "4abc", "4", "47", "49[]", "42", "42{}", "42[", "42abc[1]", "42[]", "42[{}]",
        '42[["a"]]', "42[null]", "42[true]", '42["x"]]', '42["x"] y', "42[\"\\ud800\\\"]",
        '42["\t"]', "42[nope]", '42"x"', '42["x",]', "43", "431{}", '431"x"', "41{}x[",
    ],
)  # fmt: skip
def test_a_packet_that_does_not_parse_closes(engine, packet):
    closes(engine, packet)


@pytest.mark.parametrize(
    "name",
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"],
)
def test_a_reserved_event_closes(engine, name):
    closes(engine, f'42["{name}",1]')
    closes(engine, f'421["{name}"]')


def test_a_second_connect_closes(engine):
    closes(engine, "40")


def test_an_event_for_a_namespace_one_is_not_in_closes(engine):
    closes(engine, '42/admin,["x"]')


def test_a_numbered_event_is_unknown(engine):
    with open_socketio(engine.port) as raw:
        assert "unknown_event" in reply_to(raw, "421[7,1]", "431[")


def test_leaving_the_namespace_keeps_the_connection(engine):
    with open_socketio(engine.port) as raw:
        raw.text("41")
        raw.send(frame(PING, "still here"))
        while (got := raw.recv()) != (PONG, b"still here"):
            assert got == (TEXT, b"2"), got
        assert reply_to(raw, "40", '40{"sid":"')


@pytest.mark.parametrize("packet", ['430["x"]', "4399999[]", '4312["x",1]', "430[]"])
def test_acknowledgements_nobody_waits_for_are_ignored(engine, packet):
    with open_socketio(engine.port) as raw:
        raw.text(packet)
        reply_to(raw, '421["nope"]', "431[")


# --- attachments ------------------------------------------------------------------------------

ONE = '{"_placeholder":true,"num":0}'


@pytest.mark.parametrize(
    "packets",
    [
        ('450-["x"]',),
        ('45-["x"]',),
        (f'451["x",{ONE}]',),
        (f'45["x",{ONE}]',),
        (f'45-1-["x",{ONE}]',),
        (f'451.5-["x",{ONE}]',),
        (f'4511-["x",{ONE}]',),
        ('45999999999999999999-["x"]',),
        ('45+1-["x"]',),
        (f'451-["x",{ONE}]', '42["y"]'),
        (f'451-["x",{ONE}]', f'451-["x",{ONE}]'),
        (f'452-["x",{ONE},{{"_placeholder":true,"num":1}}]', b"a", '42["y"]'),
        ('451-["x",{"_placeholder":true,"num":1}]', b"a"),
        ('451-["x",{"_placeholder":true,"num":-1}]', b"a"),
        ('451-["x",{"_placeholder":true,"num":0.5}]', b"a"),
        ('451-["x",{"_placeholder":true,"num":"0"}]', b"a"),
        ('451-["x",{"_placeholder":true,"num":null}]', b"a"),
        ('451-["x",{"_placeholder":true,"num":99999999999999999999}]', b"a"),
        (f'451-["x",{ONE}]', b"a", b"b"),
        (f"451-[{ONE}]", b"a"),
        (f'451-{{"a":{ONE}}}', b"a"),
    ],
)
def test_attachments_that_do_not_fit_close(engine, packets):
    closes(engine, *packets)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_attachments_that_fit_are_delivered(engine, count):
    marks = ",".join(f'{{"_placeholder":true,"num":{n}}}' for n in reversed(range(count)))
    with open_socketio(engine.port) as raw:
        join(raw, f"attachments {count}")
        raw.text(f'45{count}-7["message",{{"room":"attachments {count}","body":[{marks}]}}]')
        for n in range(count):
            raw.send(frame(BINARY, bytes([n] * 3)))
        acked, received, head = False, [], None
        while not acked or len(received) < count:
            got = raw.recv()
            assert not isinstance(got, Closed), got
            opcode, payload = got
            if opcode == BINARY:
                received.append(payload)
            elif payload.startswith(b'437[{"ok":true'):
                acked = True
            elif payload.startswith(b"45"):
                head = payload
        assert head.startswith(f"45{count}-".encode())
        assert sorted(received) == [bytes([n] * 3) for n in range(count)]


def test_attachments_that_never_come_cost_only_their_connection(engine):
    with open_socketio(engine.port) as waiting:
        waiting.text(f'451-["message",{ONE}]')
        with open_socketio(engine.port) as other:
            reply_to(other, '421["nope"]', "431[")


def test_a_binary_acknowledgement_nobody_waits_for_is_ignored(engine):
    with open_socketio(engine.port) as raw:
        raw.text(f"461-9[{ONE}]")
        raw.send(frame(BINARY, b"x"))
        reply_to(raw, '421["nope"]', "431[")


# --- sizes ------------------------------------------------------------------------------------


def answered_or_closed(engine, message, prefix="431["):
    """Either is allowed; the fixture shows that nobody else notices."""
    with open_socketio(engine.port) as raw:
        join(raw, "sizes")
        raw.try_send(frame(TEXT, message))
        raw.socket.settimeout(10)
        while True:
            got = raw.recv_text()
            if isinstance(got, Closed):
                return got
            if got.startswith(prefix):
                return got


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}"), ('[{"":', "}]")])
@pytest.mark.parametrize("depth", [33, 1000, 100_000])
def test_deep_json(engine, opening, closing, depth):
    body = opening * depth + "0" + closing * depth
    answered_or_closed(engine, '421["message",{"room":"sizes","body":' + body + "}]")


def test_json_a_million_deep(engine):
    closed = answered_or_closed(engine, '421["message",' + "[" * 1_000_000)
    assert isinstance(closed, Closed)


def test_json_that_only_opens(engine):
    assert isinstance(answered_or_closed(engine, '421["message",' + "[" * 400_000), Closed)
    assert isinstance(answered_or_closed(engine, "42" + '["' * 200_000), Closed)


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "1" * 1000, "0." + "1" * 5000, "1e-99999", "-0"]
)
def test_odd_numbers(engine, number):
    answered_or_closed(engine, f'421["message",{{"room":"sizes","body":{number}}}]')
    answered_or_closed(engine, f'421["history",{{"room":"sizes","limit":{number}}}]')
    answered_or_closed(engine, f'421["join",{{"room":"sizes","since":{number}}}]')


def test_doubled_keys(engine):
    got = answered_or_closed(
        engine, '421["message",{"room":"sizes","room":"elsewhere","body":1,"body":2}]'
    )
    assert isinstance(got, str)


def test_a_long_event_name(engine):
    got = answered_or_closed(engine, '421["' + "n" * 500_000 + '"]')
    assert "unknown_event" in got
    assert len(got) < 10_000, "an error does not repeat what it is about"


def test_many_arguments(engine):
    answered_or_closed(engine, '421["join"' + ",1" * 300_000 + "]")


@pytest.mark.parametrize(
    "digits", ["9" * 9, "4294967296", "9007199254740991", "18446744073709551615"]
)
def test_large_acknowledgement_ids_come_back_unchanged(engine, digits):
    got = answered_or_closed(engine, f'42{digits}["nope"]', "43")
    assert isinstance(got, str) and got.startswith(f"43{digits}[")


@pytest.mark.parametrize(
    "digits", ["18446744073709551616", "9" * 30, "9" * 100_000, "0" * 50 + "1"]
)
def test_acknowledgement_ids_that_overflow_do_no_harm(engine, digits):
    got = answered_or_closed(engine, f'42{digits}["nope"]', "43")
    value = digits.lstrip("0")
    assert isinstance(got, Closed) or got.startswith(f"43{value}[")


@pytest.mark.parametrize("namespace", ["/" * 1000, "/a?b=c", "/é", "/" + "n" * 100_000, "/a,b"])
def test_odd_namespaces(engine, namespace):
    answered_or_closed(engine, f"40{namespace},", "44")


def test_random_packets(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    good = [
        '421["join",{"room":"a","metadata":{"x":[1,2]}}]', "40/x,{}", "41", "3",
        '422["message",{"room":"a","body":"x"}]', '42["typing",{"room":"a","typing":true}]',
        f'451-3["message",{{"room":"a","body":{ONE}}}]',
        '424["history",{"room":"a","limit":3}]', '425["signal",{"to":"x","data":{}}]',
    ]  # fmt: skip
    for _ in range(300):
        with open_socketio(engine.port) as raw:
            for _ in range(source.randrange(1, 10)):
                packet = bytearray(source.choice(good).encode())
                for _ in range(source.randrange(4)):
                    packet[source.randrange(len(packet))] = source.randrange(32, 127)
                cut = source.randrange(1, len(packet) + 1) if source.random() < 0.2 else None
                raw.try_send(frame(TEXT, bytes(packet[:cut])))
                if source.random() < 0.2:
                    raw.try_send(frame(BINARY, source.randbytes(20)))
            raw.reset()
