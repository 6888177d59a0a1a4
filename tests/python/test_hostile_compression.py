"""Proves: compression costs nobody more than it may. Bombs, broken streams and floods of fragments
end their own connection, in bounded memory and time; odd offers are declined or refused.
"""

import os
import random
import time
import zlib

import pytest
from engine import Engine
from raw import ACCEPT, BINARY, CONT, PING, TEXT, Closed, Raw, frame, request

pytestmark = pytest.mark.usefixtures("undisturbed")

LIMIT = 100_000
COMPRESSED = 4  # RSV1
OFFER = "permessage-deflate; client_max_window_bits"


@pytest.fixture(scope="module")
def settings():
    return {"COMPRESSION": "on", "MAX_PAYLOAD": str(LIMIT), "COMPRESSION_MIN_BYTES": "0"}


def deflate(data, *, final=False, window=15, level=9, flush=zlib.Z_SYNC_FLUSH):
    data = data.encode() if isinstance(data, str) else data
    stream = zlib.compressobj(level, zlib.DEFLATED, -window)
    if final:
        return stream.compress(data) + stream.flush(zlib.Z_FINISH)
    return (stream.compress(data) + stream.flush(flush)).removesuffix(b"\x00\x00\xff\xff")


def inflate(data):
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


class Deflating(Raw):
    """A connection that has agreed on compression; `recv` hands out plain messages."""

    def __init__(self, port, offer=OFFER, **options):
        super().__init__(port, **options)
        self.send(request(Sec_WebSocket_Extensions=offer))
        status, headers = self.head()
        assert status == 101 and headers["sec-websocket-accept"] == ACCEPT
        self.agreed = headers.get("sec-websocket-extensions", "")
        assert self.recv_text().startswith("0{")
        self.say("40")
        assert self.recv_text().startswith('40{"sid"')

    def say(self, text):
        self.send(frame(TEXT, deflate(text), rsv=COMPRESSED))

    def recv(self):
        head = self._take(2)
        if head is None:
            return Closed(1006)
        plain = bytes([head[0] & ~0x40, head[1]])
        if not head[0] & 0x40:
            self.buffer = plain + self.buffer
            return super().recv()
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, inflate(self._take(size))

    def works(self):
        self.say('427["nope"]')
        while not (got := self.recv_text()).startswith("437["):
            assert isinstance(got, str), got


def closes(engine, data, *codes, seconds=5):
    with Deflating(engine.port) as raw:
        raw.try_send(data)
        closed = raw.until_closed(seconds)
        assert closed.code in codes, closed
        raw.assert_ended()


def packed(payload, **options):
    return frame(TEXT, payload, rsv=COMPRESSED, **options)


def test_a_good_client_is_understood(engine):
    with Deflating(engine.port) as raw:
        assert "permessage-deflate" in raw.agreed
        raw.works()
        raw.send(packed(deflate('427["nope"]', final=True)))
        assert raw.recv_text().startswith("437[")
        raw.send(packed(deflate('427["nope"]', level=0)))
        assert raw.recv_text().startswith("437[")
        raw.send(frame(TEXT, '427["nope"]'))
        assert raw.recv_text().startswith("437[")
        data = deflate('427["nope"]')
        raw.send(packed(data[:4], fin=False) + frame(PING, "x") + frame(CONT, data[4:]))
        assert raw.recv_text().startswith("437[")


# --- what was not agreed ------------------------------------------------------------------------


def test_compressed_frames_without_an_agreement_close(engine):
    for offer in ("", "permessage-bzip2", "x-webkit-deflate-frame"):
        with Raw(engine.port) as raw:
            raw.send(request(Sec_WebSocket_Extensions=offer) if offer else request())
            status, headers = raw.head()
            assert status == 101 and "sec-websocket-extensions" not in headers
            raw.send(packed(deflate("40")))
            assert raw.until_closed().code == 1002


def test_an_engine_without_compression_agrees_to_nothing():
    running = Engine()
    try:
        with Raw(running.port) as raw:
            raw.send(request(Sec_WebSocket_Extensions=OFFER) + packed(deflate("40")))
            status, headers = raw.head()
            assert status == 101 and "sec-websocket-extensions" not in headers
            assert raw.until_closed().code == 1002
    finally:
        running.stop()


@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_other_reserved_bits_close(engine, rsv):
    closes(engine, frame(TEXT, deflate("3"), rsv=rsv), 1002)


@pytest.mark.parametrize("opcode", [PING, 8, 10])
def test_compressed_control_frames_close(engine, opcode):
    closes(engine, frame(opcode, b"", rsv=COMPRESSED), 1002)


def test_a_continuation_marked_as_compressed_closes(engine):
    data = deflate('42["x"]')
    # the mark belongs to the first frame alone
    closes(engine, packed(data[:3], fin=False) + frame(CONT, data[3:], rsv=COMPRESSED), 1002)
    closes(engine, frame(TEXT, "4", fin=False) + frame(CONT, data, rsv=COMPRESSED), 1002)


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=99999999999999999999",
        "permessage-deflate; server_max_window_bits=-9",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-deflate; __proto__",
        "permessage-deflate; constructor=x",
        "permessage-deflate; =",
        "permessage-deflate; ;",
        'permessage-deflate; server_max_window_bits="',
        "permessage-deflated",
        "PERMESSAGE-DEFLATE; server_max_window_bits=x",
    ],
)
def test_bad_offers_are_declined(engine, offer):
    with Raw(engine.port) as raw:
        raw.send(request(Sec_WebSocket_Extensions=offer))
        status, headers = raw.head()
        assert status in (101, 400) and "sec-websocket-extensions" not in headers, headers
        if status == 101:
            raw.send(frame(TEXT, "40"))
            assert raw.recv_text().startswith("0{")
            assert raw.recv_text().startswith("40{")


def test_a_later_good_offer_is_taken(engine):
    with Deflating(engine.port, "permessage-deflate; unknown, permessage-deflate") as raw:
        assert "permessage-deflate" in raw.agreed
        raw.works()


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_small_window_is_kept_to(engine, bits):
    offer = f"permessage-deflate; server_max_window_bits={bits}"
    with Deflating(engine.port, offer) as raw:
        raw.say('421["join","window"]')
        assert raw.recv_text()
        body = "ab" * 20_000
        raw.say(f'422["message",{{"room":"window","body":"{body}"}}]')
        small = zlib.decompressobj(-bits)
        while True:
            head = raw._take(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(raw._take(2 if size == 126 else 8), "big")
            payload = raw._take(size)
            if head[0] & 0x40:
                payload = small.decompress(payload + b"\x00\x00\xff\xff")
                small = zlib.decompressobj(-bits)
            if body.encode() in payload:
                break


@pytest.mark.parametrize(
    "value",
    [
        "permessage-deflate" + "; a" * 2300,
        "permessage-deflate; " + "a" * 7000,
        "permessage-deflate," * 350,
        ("permessage-deflate; server_max_window_bits=7, " * 150).rstrip(", "),
        "permessage-deflate" + "; client_max_window_bits" * 250,
        "," * 7000,
        ";" * 7000,
        '"' * 7000,
        'permessage-deflate; x="' + "\\" * 6999,
        "=" * 7000,
        " " * 7000,
    ],
    ids=lambda value: value[:30],
)
def test_long_offers_are_answered_quickly(engine, value):
    begun = time.monotonic()
    with Raw(engine.port) as raw:
        raw.send(request(Sec_WebSocket_Extensions=value))
        assert raw.head()[0] in (101, 400)
    assert time.monotonic() - begun < 0.5


def test_an_offer_of_32_kb_is_431(engine):
    with Raw(engine.port) as raw:
        raw.try_send(request(Sec_WebSocket_Extensions="permessage-deflate; " + "a, " * 11_000))
        assert raw.head()[0] in (431, None)


# --- bombs --------------------------------------------------------------------------------------


def bounded(engine, data, *codes, kilobytes=20_000, seconds=1.0):
    """Closed, without the memory or the time that the bomb is meant to cost."""
    before, spent = engine.memory_kb(), engine.cpu_s()
    closes(engine, data, *codes)
    grown, spent = engine.memory_kb() - before, engine.cpu_s() - spent
    assert grown < kilobytes, f"{grown} KB more"
    assert spent < seconds, f"{spent} s of the processor"


@pytest.mark.parametrize("size", [LIMIT + 1, 1_000_000, 90_000_000])
def test_a_bomb_is_1009(engine, size):
    """90 MB come as 88 KB, 1000:1."""
    data = deflate(b"4" + b"\x00" * (size - 1))
    assert len(data) < LIMIT
    bounded(engine, packed(data), 1009)
    bounded(engine, packed(data[:9], fin=False) + frame(CONT, data[9:]), 1009)


def test_a_bomb_of_blocks_that_refer_back(engine):
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(
        stream.compress(b"4" * 32_768) + stream.flush(zlib.Z_FULL_FLUSH) for _ in range(1000)
    )
    assert len(data) < LIMIT
    bounded(engine, packed(data), 1009)


def test_a_bomb_in_many_fragments(engine):
    data = deflate(b"4" * 50_000_000)[:1000]
    parts = [packed(data[:1], fin=False)]
    parts += [frame(CONT, data[at : at + 1], fin=False) for at in range(1, len(data))]
    bounded(engine, b"".join([*parts, frame(CONT, b"")]), 1009, 1007, 1002)


def test_a_bomb_within_a_bomb_is_not_opened_twice(engine):
    inner = deflate(b"\x00" * 50_000_000)[:60_000]
    with Deflating(engine.port) as raw:
        raw.send(frame(BINARY, deflate(inner), rsv=COMPRESSED))
        raw.until_closed()


def test_compressed_bytes_over_the_limit(engine):
    closes(engine, packed(os.urandom(LIMIT + 1)), 1009)
    half = os.urandom(60_000)
    closes(engine, packed(half, fin=False) + frame(CONT, half), 1009)


def test_a_message_just_within_the_limit(engine):
    with Deflating(engine.port) as raw:
        text = '427["nope' + "x" * (LIMIT - 11) + '"]'
        assert len(text) == LIMIT
        raw.say(text)
        assert raw.recv_text().startswith("437[")
        raw.send(packed(deflate(text + " ")))
        assert raw.until_closed().code == 1009


def test_many_large_messages_cost_bounded_time(engine):
    """1,000 messages of 100 KB that came as 140 bytes each."""
    data = packed(deflate('42["nope' + "x" * (LIMIT - 10) + '"]')) * 1000
    spent = engine.cpu_s()
    with Deflating(engine.port) as raw:
        raw.send(data)
        raw.works()
    spent = engine.cpu_s() - spent
    print(f"100 MB inflated from {len(data)} bytes in {spent:.2f} s of the processor")
    assert spent < 2


# --- broken streams -----------------------------------------------------------------------------

GOOD = deflate('427["' + "".join(chr(33 + n * 7 % 90) for n in range(500)).replace('"', "") + '"]')


@pytest.mark.parametrize("length", [1, 2, 5, 20, 100, len(GOOD) - 5, len(GOOD) - 1])
def test_a_truncated_stream_closes(engine, length):
    closes(engine, packed(GOOD[:length]), 1002, 1007)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        b"\x06",
        b"\x07",
        b"\x01\x05\x00\x00\x00hello",
        b"\x01\x05\x00\xfa\xffhell",
        b"\x05\xff\xff",
        b"\x9d" * 50,
        b"\x78\x9c" + deflate("3"),
        deflate("3") + b"\x00\x00\xff\xff\xff",
        b"\xed\xfd" + bytes(range(100)),
        b"\x4b\x04\x82\x00",
    ],
)
def test_garbage_closes(engine, data):
    closes(engine, packed(data), 1002, 1007)


def test_inflated_text_must_be_utf8(engine):
    closes(engine, packed(deflate(b'42["\xff\xfe"]')), 1007)


def test_random_streams(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    for _ in range(150):
        data = bytearray(GOOD) if source.random() < 0.7 else bytearray(source.randbytes(200))
        for _ in range(source.randrange(1, 5)):
            data[source.randrange(len(data))] = source.randrange(256)
        with Deflating(engine.port) as raw:
            raw.try_send(packed(bytes(data)))
            raw.try_send(packed(deflate('427["nope"]')))
            raw.reset()


def test_an_error_is_final(engine):
    with Deflating(engine.port) as raw:
        raw.send(packed(b"\xff" * 20) + packed(deflate('427["nope"]')))
        assert raw.until_closed().code in (1002, 1007)


# --- blocks and fragments that say nothing ------------------------------------------------------


def test_many_blocks_marked_as_the_last(engine):
    one = deflate("", final=True)
    bounded(engine, packed(deflate("4", final=True) + one * 30_000), 1002, 1007)


def test_many_empty_blocks(engine):
    spent = engine.cpu_s()
    with Deflating(engine.port) as raw:
        raw.send(packed(b"\x00\x00\x00\xff\xff" * 15_000 + deflate('427["nope"]')))
        assert raw.recv_text().startswith("437[")
    assert engine.cpu_s() - spent < 0.5


def test_empty_compressed_messages_are_bad_packets(engine):
    closes(engine, packed(b"\x00"), 1002, 1005, 1000, 1008, 1007)
    with Deflating(engine.port) as raw:
        raw.try_send(packed(b""))
        raw.until_closed()


@pytest.mark.parametrize("payload", [b"", b"\x00"])
def test_a_flood_of_compressed_fragments_is_bounded(engine, payload):
    flood = packed(b"", fin=False) + frame(CONT, payload, fin=False) * 100_000
    bounded(engine, flood, 1008, 1009)


def test_a_flood_of_tiny_compressed_messages(engine):
    with Deflating(engine.port) as raw:
        raw.send(packed(deflate("3")) * 20_000)
        raw.works()


def test_abandoned_halves_give_their_memory_back(engine):
    raws = [Deflating(engine.port) for _ in range(100)]
    before = engine.memory_kb()
    for raw in raws:
        raw.send(packed(os.urandom(LIMIT - 1000), fin=False))
    held = engine.memory_kb() - before
    for raw in raws:
        raw.reset()
    assert held < 100 * 300, f"{held} KB for 10,000 KB"
