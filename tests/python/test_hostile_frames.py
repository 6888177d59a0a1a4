"""Proves: a frame that RFC 6455 forbids closes its connection with the right code, at once, and
touches nobody else; floods and fragments are bounded.
"""

import os
import random
import struct

import pytest
from raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Closed, frame, open_socketio, open_websocket

pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture(scope="module")
def settings():
    return {"MAX_PAYLOAD": "100000"}


def closes(engine, data, *codes, seconds=5):
    with open_socketio(engine.port) as raw:
        raw.try_send(data)
        closed = raw.until_closed(seconds)
        assert closed.code in codes, closed
        raw.assert_ended()


def stays(raw):
    raw.text('427["nope"]')
    while not (got := raw.recv_text()).startswith("437["):
        assert isinstance(got, str), got


def test_unmasked(engine):
    closes(engine, frame(TEXT, "42[]", mask=False), 1002)


@pytest.mark.parametrize("rsv", range(1, 8))
def test_reserved_bits(engine, rsv):
    closes(engine, frame(TEXT, '42["x"]', rsv=rsv), 1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes(engine, opcode):
    closes(engine, frame(opcode, "x"), 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_long_control_frame(engine, opcode):
    closes(engine, frame(opcode, b"\x03\xe8" + b"x" * 124), 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_fragmented_control_frame(engine, opcode):
    closes(engine, frame(opcode, b"\x03\xe8", fin=False), 1002)


def test_a_continuation_of_nothing(engine):
    closes(engine, frame(CONT, "x"), 1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_new_message_inside_a_fragmented_one(engine, opcode):
    closes(engine, frame(TEXT, "42[", fin=False) + frame(opcode, "x"), 1002)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
def test_a_close_with_a_code_that_may_not_be_sent(engine, code):
    closes(engine, frame(CLOSE, struct.pack(">H", code)), 1002)


def test_a_close_of_one_byte(engine):
    closes(engine, frame(CLOSE, b"\x03"), 1002)


def test_a_close_with_bad_text(engine):
    closes(engine, frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007, 1002)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_good_close_is_answered(engine, code):
    closes(engine, frame(CLOSE, struct.pack(">H", code)), code, 1000, 1005)


def test_a_close_without_a_code_is_answered(engine):
    closes(engine, frame(CLOSE), 1000, 1005)


def test_frames_after_the_close_are_ignored(engine):
    with open_socketio(engine.port) as raw:
        raw.send(frame(CLOSE, b"\x03\xe8") + frame(TEXT, '421["nope"]') + frame(PING, "x"))
        while not isinstance(got := raw.recv(), Closed):
            assert got[1] == b"2", got
        assert got.code in (1000, 1005)
        raw.assert_ended()


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82"]
)
def test_invalid_utf8(engine, bad):
    closes(engine, frame(TEXT, b'42["' + bad + b'"]'), 1007)


def test_invalid_utf8_fails_before_the_message_ends(engine):
    closes(engine, frame(TEXT, b'42["', fin=False) + frame(CONT, b"\xff\xff", fin=False), 1007)


def test_a_character_may_be_cut_by_frames(engine):
    with open_socketio(engine.port) as raw:
        data = '425["é🎉"]'.encode()
        raw.send(frame(TEXT, data[:6], fin=False))
        for byte in data[6:-1]:
            raw.send(frame(CONT, bytes([byte]), fin=False))
        raw.send(frame(CONT, data[-1:]))
        while not (got := raw.recv_text()).startswith("435["):
            assert isinstance(got, str), got
        assert "unknown_event" in got


def test_a_message_over_the_limit(engine):
    closes(engine, frame(TEXT, "4" + "x" * 100_001), 1009)


def test_fragments_over_the_limit_together(engine):
    parts = [frame(TEXT, '42["' + "x" * 40_000, fin=False), frame(CONT, "x" * 40_000, fin=False)]
    closes(engine, b"".join([*parts, frame(CONT, "x" * 40_000, fin=False)]), 1009)


@pytest.mark.parametrize("length", [2**31, 2**32, 2**62, 2**63 - 1])
def test_a_declared_length_is_not_believed(engine, length):
    data = frame(TEXT, b"", length=(127, struct.pack(">Q", length)))
    closes(engine, data, 1009)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1])
def test_the_top_bit_of_a_length(engine, length):
    data = frame(TEXT, b"", length=(127, struct.pack(">Q", length)))
    closes(engine, data, 1002, 1009)


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_flood_of_fragments_is_bounded(engine, payload):
    flood = frame(TEXT, "4", fin=False) + frame(CONT, payload, fin=False) * 5000
    closes(engine, flood, 1008, 1009)


@pytest.mark.parametrize("size", [1, 124, 125, 126, 127, 65_535, 65_536, 90_000])
def test_every_form_of_length(engine, size):
    with open_socketio(engine.port) as raw:
        name = "x" * max(0, size - 6)
        payload = f'427["{name}"]'
        raw.text(payload[:3] + payload[3:].ljust(max(0, size - 3)))
        while not (got := raw.recv_text()).startswith("437["):
            assert isinstance(got, str), got


def test_lengths_longer_than_needed_do_no_harm(engine):
    with open_socketio(engine.port) as raw:
        raw.send(frame(TEXT, '427["nope"]', length=(127, struct.pack(">Q", 11))))
        got = raw.recv_text()
        assert (
            got == Closed(1002, got.reason) if isinstance(got, Closed) else got.startswith("437[")
        )


def test_pings_are_answered_with_their_payload(engine):
    with open_socketio(engine.port) as raw:
        raw.send(frame(PING, b"\x00\xff" * 62))
        while (got := raw.recv())[0] != PONG:
            pass
        assert got == (PONG, b"\x00\xff" * 62)
        raw.send(frame(TEXT, '427["', fin=False) + frame(PING, "between") + frame(CONT, 'nope"]'))
        seen = [raw.recv(), raw.recv()]
        assert (PONG, b"between") in seen


def test_a_flood_of_pings_is_bounded(engine):
    with open_socketio(engine.port) as raw:
        raw.try_send(frame(PING, "x" * 125) * 20_000)
        raw.try_send(frame(TEXT, '427["nope"]'))
        while True:
            got = raw.recv()
            if isinstance(got, Closed):
                assert got.code in (1006, 1008), got
                break
            if got[1].startswith(b"437["):
                break


def test_a_flood_of_pongs_and_of_empty_messages(engine):
    with open_socketio(engine.port) as raw:
        raw.send(frame(PONG, "unasked") * 5000)
        stays(raw)


def test_a_flood_of_pings_that_nobody_reads_answers_for(engine):
    with open_socketio(engine.port) as raw:
        raw.socket.settimeout(2)
        data = frame(PING, "x" * 125) * 1000
        try:
            for _ in range(400):
                raw.send(data)
        except OSError:
            pass  # closed, or no longer read: both bound it


def test_random_frames(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    for _ in range(150):
        with open_websocket(engine.port) as raw:
            raw.try_send(frame(TEXT, "40"))
            for _ in range(source.randrange(1, 8)):
                payload = source.randbytes(source.randrange(0, 200))
                if source.random() < 0.3:
                    raw.try_send(payload)
                else:
                    raw.try_send(frame(source.randrange(16), payload, fin=source.random() < 0.7))
            raw.reset()
