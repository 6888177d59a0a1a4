"""Proves: pings come on schedule, a connection that does not answer is closed in time, a stock
client stays.
"""

import time

import pytest
from raw import TEXT, frame, open_socketio, open_websocket


@pytest.fixture(scope="module")
def settings():
    return {"PING_INTERVAL": "300ms", "PING_TIMEOUT": "200ms", "CONNECT_TIMEOUT": "10s"}


def test_a_silent_connection_is_closed(engine):
    begun = time.monotonic()
    with open_socketio(engine.port) as raw:
        raw.until_closed(2)
    assert 0.4 < time.monotonic() - begun < 0.9


def test_the_session_is_gone_right_after_the_timeout(engine):
    with open_websocket(engine.port) as raw:
        began = time.monotonic()
        raw.until_closed(2)
        assert 0.45 < time.monotonic() - began < 0.6, "timers are neither coarse nor late"


def test_answering_keeps_it_open(engine):
    with open_socketio(engine.port) as raw:
        end = time.monotonic() + 2
        pings = 0
        while time.monotonic() < end:
            opcode, payload = raw.recv()
            assert (opcode, payload) == (TEXT, b"2")
            raw.send(frame(TEXT, "3"))
            pings += 1
        assert 5 <= pings <= 8


def test_a_stock_client_stays(connect):
    client = connect("patient")
    sid = client.get_sid()
    # that nothing happens can only be seen by waiting
    client.sleep(3)
    assert client.connected and client.get_sid() == sid
    assert client.call("join", "still here", timeout=5)["ok"]


def test_a_busy_stock_client_stays(connect):
    client = connect("busy")
    assert client.call("join", "busy", timeout=5)["ok"]
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert client.call("message", {"room": "busy", "body": 1}, timeout=5)["ok"]
    assert client.connected
