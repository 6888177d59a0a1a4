"""Proves: CONNECTs to namespaces that do not exist cost next to nothing however many and however
odd; what comes for a namespace just left is ignored, for one never joined it closes.
"""

import os
import time
from pathlib import Path

import pytest
from engine import Engine
from polling import SEPARATOR, Session
from raw import PING, PONG, TEXT, Closed, frame, open_socketio, open_websocket

pytestmark = pytest.mark.usefixtures("undisturbed")

CONFORMANCE = Path(
    os.environ.get(
        "THRONG_CONFORMANCE",
        Path(__file__).parents[2] / "target/release/examples/conformance",
    )
).resolve()


@pytest.fixture(scope="module")
def two_spaces():
    """An application with the namespaces `/` and `/custom`."""
    calm = ("--ping-interval", "25000", "--ping-timeout", "20000")
    running = Engine(command=(CONFORMANCE, "--workers", "2", *calm))
    yield running
    running.stop()


def reply_to(raw, message, prefix):
    raw.text(message)
    while not (got := raw.recv_text()).startswith(prefix):
        assert isinstance(got, str), got
    return got


def stays(raw):
    raw.send(frame(PING, "still here"))
    while (got := raw.recv()) != (PONG, b"still here"):
        assert not isinstance(got, Closed), got


def test_thousands_of_unknown_namespaces_leave_nothing(engine):
    before = engine.memory_kb()
    with open_socketio(engine.port) as raw:
        for batch in range(20):
            names = [f"/unknown-{batch}-{n}" for n in range(500)]
            raw.send(b"".join(frame(TEXT, f"40{name},") for name in names))
            for name in names:
                assert raw.recv_text() == f'44{name},{{"message":"Invalid namespace"}}'
        grown = engine.memory_kb() - before
        assert "unknown_event" in reply_to(raw, '421["nope"]', "431[")
    assert grown < 5000, f"{grown} KB more after 10,000 names"


def test_thousands_of_unknown_namespaces_by_polling(engine):
    with Session(engine.port).connect() as session:
        for batch in range(5):
            body = SEPARATOR.join(f"40/unknown-{batch}-{n}," for n in range(1000))
            assert session.say(body) == (200, b"ok")
            got, last = b"", f'44/unknown-{batch}-999,{{"message":"Invalid namespace"}}'.encode()
            while not got.endswith(last):
                status, got = session.poll()
                assert status == 200 and got.count(SEPARATOR.encode()) < 16
        session.works()


def test_a_flood_that_nobody_reads_the_refusals_of_is_bounded(engine):
    before = engine.memory_kb()
    with open_socketio(engine.port, timeout=2) as raw:
        flood = frame(TEXT, "40/unknown,") * 10_000
        try:
            for _ in range(50):
                raw.send(flood)
        except OSError:
            pass  # closed, or no longer read: both bound it
        grown = engine.memory_kb() - before
    assert grown < 10_000, f"{grown} KB more"


@pytest.mark.parametrize(
    "name",
    ["/\x00", "/a\x00b", "/\n", "/\r\n40", "/\x1b[31m", "/\x7f", "/\u0085", "/\u202e", "/\u2028",
     "/ ", "/%00", "/..", "/../", "//", "/__proto__", "/constructor", "/\"", "/\\", "/{}", "/🎉",
     "/?a=b", "/#", "/*", "/\ufeff", "/ /", "/Custom", "/custom/", "/custom?x=1", "/CUSTOM"],
    ids=ascii,
)  # fmt: skip
def test_odd_names_are_unknown(two_spaces, name):
    with open_websocket(two_spaces.port) as raw:
        refused = reply_to(raw, f"40{name},", "44")
        assert refused == f'44{name},{{"message":"Invalid namespace"}}'
        assert reply_to(raw, "40", "40{")


@pytest.mark.parametrize("size", [1000, 100_000, 900_000])
def test_long_names_are_refused_or_close(engine, size):
    with open_socketio(engine.port) as raw:
        raw.text(f"40/{'n' * size},")
        got = raw.recv_text()
        assert isinstance(got, Closed) or got.startswith("44/"), got[:100]
        if not isinstance(got, Closed):
            assert "unknown_event" in reply_to(raw, '421["nope"]', "431[")


def test_names_with_line_breaks_and_colours_do_not_reach_the_log(engine):
    with open_socketio(engine.port) as raw:
        raw.text("40/\x1b[31mred\r\nERROR forged,")
        raw.recv_text()
    output = engine.output()
    assert "\x1b[31m" not in output and "ERROR forged" not in output


@pytest.mark.parametrize(
    "packet",
    ['42/never,["x"]', '42/never,1["x"]', "43/never,1[]", "41/never,", "41/never",
     '451-/never,["x",{"_placeholder":true,"num":0}]', "44/never,{}", '42/custom,["x"]'],
)  # fmt: skip
def test_packets_for_a_namespace_never_joined_close(two_spaces, packet):
    with open_socketio(two_spaces.port) as raw:
        raw.text(packet)
        if packet.startswith("45"):
            raw.send(frame(2, b"x"))
        raw.until_closed(3)
        raw.assert_ended()


@pytest.mark.parametrize(
    "packet",
    ['42/custom,["x"]', '42/custom,7["message-with-ack",1]', "43/custom,1[]", "41/custom,"],
)
def test_packets_for_a_namespace_just_left_are_ignored(two_spaces, packet):
    with open_socketio(two_spaces.port) as raw:
        assert reply_to(raw, "40/custom,", "40/custom,{")
        raw.text("41/custom,")
        for _ in range(3):
            raw.text(packet)
        stays(raw)
        assert reply_to(raw, '427["message-with-ack",1]', "437[") == "437[1]"
        assert reply_to(raw, "40/custom,", "40/custom,{")
        raw.text("40/custom,")
        raw.until_closed(3)


def test_packets_for_the_main_namespace_just_left_are_ignored(engine):
    with open_socketio(engine.port) as raw:
        raw.text("41")
        for packet in ('42["message",{"room":"r","body":1}]', "43[]", "41"):
            raw.text(packet)
        stays(raw)
        assert reply_to(raw, "40", "40{")


def test_joining_and_leaving_again_and_again_leaves_nothing(two_spaces):
    with open_socketio(two_spaces.port) as raw:
        cycle = frame(TEXT, "40/custom,") + frame(TEXT, "41/custom,")
        for _ in range(5):
            raw.send(cycle * 200)
            for _ in range(200):
                while not (got := raw.recv_text()).startswith("40/custom,{"):
                    assert isinstance(got, str), got
        before = two_spaces.memory_kb()
        for _ in range(20):
            raw.send(cycle * 200)
            for _ in range(200):
                while not (got := raw.recv_text()).startswith("40/custom,{"):
                    assert isinstance(got, str), got
        assert two_spaces.memory_kb() - before < 3000
        assert two_spaces.json("/metrics")["total"]["sockets"] == 1


def test_refusals_do_not_stand_for_connect(two_spaces):
    """CONNECT must come within a second there."""
    begun = time.monotonic()
    with open_websocket(two_spaces.port) as raw:
        raw.send(frame(TEXT, "40/unknown,") * 100)
        raw.until_closed(3)
    assert 0.8 < time.monotonic() - begun < 1.8
