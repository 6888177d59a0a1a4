"""Proves: no request of a polling client, however bad, is taken for a good one, reaches another's
session, runs what follows a refusal, or disturbs anyone else; bodies are bounded in length, packets
and time; floods on one session end that session.
"""

import os
import random
import threading
import time

import pytest
from engine import Engine, eventually
from polling import PATH, SEPARATOR, UPGRADE, Session, chunked, get, post
from raw import TEXT, Raw, frame, request

pytestmark = pytest.mark.usefixtures("undisturbed")

LIMIT = 100_000
CLOSE = ("Connection: close",)


@pytest.fixture(scope="module")
def settings():
    return {"MAX_PAYLOAD": str(LIMIT)}


def answer(engine, data, timeout=5):
    """(status, headers, body); status None where the connection just ends."""
    with Raw(engine.port, timeout) as raw:
        raw.try_send(data)
        return raw.answer()


def refused(engine, data, *statuses):
    """Refused, and the connection ends: nothing that follows is read as a request."""
    with Raw(engine.port) as raw:
        raw.try_send(data)
        status, _, body = raw.answer()
        assert status in (statuses or (None, 400)), f"{status} {body[:200]} for {data[:200]}"
        raw.socket.settimeout(3)
        assert b"HTTP/1.1" not in raw.rest(), "a request after the refusal was run"


def unknown(engine, sid):
    """Every way to use an id leads nowhere."""
    target = f"{PATH}&sid="
    for data in (
        get(target + "{}", *CLOSE),
        post(target + "{}", '42["x"]', "Content-Length: 7", *CLOSE),
        get(target + "{}", *CLOSE, method="PUT"),
        request(path=UPGRADE + "{}"),
    ):
        sent = data.replace(b"{}", sid if isinstance(sid, bytes) else sid.encode())
        status, _, body = answer(engine, sent)
        assert status in (400, 431, None), (status, body, sent[:200])


# --- guessing session ids ---------------------------------------------------------------------


def test_random_ids_are_unknown(engine):
    source = random.Random(int(os.environ.get("SEED", "5")))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for length in (1, 20, 34, 35, 36, 42):
        for _ in range(20):
            unknown(engine, "".join(source.choices(alphabet, k=length)))


def test_an_id_is_good_only_whole_and_unchanged(engine):
    with Session(engine.port) as session:
        sid = session.sid
        for length in range(len(sid)):
            unknown(engine, sid[:length] or "%20")
        for at in range(len(sid)):
            for other in ("A", "B", "_", "%41"):
                changed = sid[:at] + other + sid[at + 1 :]
                if changed != sid and other != "%41":
                    unknown(engine, changed)
        for other in (sid + "A", sid + "=", sid + "==", sid + "%00", sid + "%0d%0a", sid.swapcase(),
                      sid * 2, sid + "," + sid, "%" + sid, sid + "+"):  # fmt: skip
            unknown(engine, other)
        session.connect().works()


@pytest.mark.parametrize(
    "sid",
    ["A" * 7000, "%", "%%%", "%zz", "%ff%fe", "%00", "%C0%80", "..%2f..", "__proto__",
     "constructor", "-1", "0", "null", "[]", "{}", "'", "\u00e9".encode(), b"\xff\xfe\x80",
     b"\xf0\x9f\x8e\x89"],
)  # fmt: skip
def test_odd_ids_are_unknown(engine, sid):
    unknown(engine, sid)


def test_an_id_of_another_engine_is_unknown(engine):
    other = Engine()
    try:
        with Session(other.port) as session:
            unknown(engine, session.sid)
            session.connect().works()
    finally:
        other.stop()


def test_a_socket_id_is_no_session_id(engine, bystander):
    unknown(engine, bystander.get_sid())


def test_an_ended_session_is_unknown(engine):
    with Session(engine.port) as session:
        assert session.say("1") == (200, b"ok")
        session.ended()
        unknown(engine, session.sid)


def test_the_id_of_a_websocket_does_not_poll(engine, bystander):
    sid = bystander.eio.sid
    for data in (get(f"{PATH}&sid={sid}", *CLOSE), post(f"{PATH}&sid={sid}", "41")):
        assert answer(engine, data)[0] == 400
    with Raw(engine.port) as raw:
        raw.send(request(path=UPGRADE + sid) + frame(TEXT, "2probe"))
        assert raw.head()[0] in (400, 101)
        raw.until_closed(3)


# --- query parameters -------------------------------------------------------------------------

VALUES = ["", "__proto__", "constructor", "%", "%zz", "%ff", "%00", "[]", "4%204", "x" * 7000]


@pytest.mark.parametrize("name", ["EIO", "transport", "sid", "t", "b64", "j", "__proto__", "x"])
@pytest.mark.parametrize("value", VALUES)
def test_every_parameter_with_odd_values(engine, name, value):
    fields = {"EIO": "4", "transport": "polling"}
    query = "&".join(f"{key}={text}" for key, text in (fields | {name: value}).items())
    for method in ("GET", "POST"):
        status, headers, body = answer(engine, get(f"/socket.io/?{query}", *CLOSE, method=method))
        harmless = name not in fields and name != "sid" and method == "GET"
        assert status in ((200,) if harmless else (400,)), (status, body, query[:100])
        assert "javascript" not in headers["content-type"] and not body.startswith(b"___eio")


@pytest.mark.parametrize("name", ["EIO", "transport"])
def test_a_missing_parameter(engine, name):
    fields = {"EIO": "4", "transport": "polling"}
    del fields[name]
    query = "&".join(f"{key}={text}" for key, text in fields.items())
    status, _, body = answer(engine, get(f"/socket.io/?{query}", *CLOSE))
    assert status == 400
    assert f'"code":{0 if name == "transport" else 5}'.encode() in body


@pytest.mark.parametrize(
    "query",
    [
        "EIO=4&EIO=3&transport=polling",
        "EIO=3&EIO=4&transport=polling",
        "EIO=4&transport=polling&transport=websocket",
        "EIO=4&transport=websocket&transport=polling",
        "EIO=4&transport=polling&sid=x&sid=y",
        "EIO=4&transport=polling&sid=&sid=",
        "EIO=4" + "&transport=polling" * 200,
        "&" * 5000 + "EIO=4&transport=polling",
        "EIO=4&transport=polling" + "&a" * 2000,
        "EIO=4;transport=polling",
        "?EIO=4&transport=polling",
        "EIO=4&transport=polling#x",
        "eio=4&TRANSPORT=polling",
        "EIO[]=4&transport[]=polling",
    ],
)
def test_repeated_and_odd_queries(engine, query):
    status, _, _ = answer(engine, get(f"/socket.io/?{query}", *CLOSE))
    assert status in (200, 400)


def test_two_ids_in_one_query_never_reach_two_sessions(engine):
    with Session(engine.port).connect() as one, Session(engine.port).connect() as two:
        target = f"{PATH}&sid={one.sid}&sid={two.sid}"
        status, _, _ = answer(engine, post(target, '427["nope"]'))
        assert status in (200, 400)
        one.works()
        two.works()


def test_the_methods_of_a_handshake_and_of_a_session(engine):
    for method in ("POST", "PUT", "DELETE", "HEAD", "PATCH", "BREW", "get"):
        status, _, body = answer(engine, get(PATH, *CLOSE, method=method))
        assert status in (400, 405, 501), (method, status)
    with Session(engine.port).connect() as session:
        for method in ("PUT", "DELETE", "HEAD", "PATCH", "BREW", "get", "TRACE"):
            status, _, _ = answer(engine, get(session.target, *CLOSE, method=method))
            assert status in (400, 405, 500, 501), (method, status)
        session.works()


# --- requests that two readers could read differently -------------------------------------------

BEHIND = get("/health") + get(PATH)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 3"],
        ["Content-Length: 3", "Content-Length: 4"],
        ["Content-Length: 3", "Content-Length: 3"],
        ["Content-Length: 3, 3"],
        ["Content-Length: +3"],
        ["Content-Length: -3"],
        ["Content-Length: 3 3"],
        ["Content-Length: 3;"],
        ["Content-Length: 0x3"],
        ["Content-Length: 3.0"],
        ["Content-Length: "],
        ["Content-Length: three"],
        ["Content-Length: 18446744073709551616"],
        ["Content-Length: " + "9" * 200],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked;q=1"],
        ["Transfer-Encoding: "],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Content-Length : 3"],
        ["Content-Length\t: 3"],
        ["Transfer-Encoding : chunked"],
        [" Content-Length: 3"],
        ["X: y", " folded: 3"],
        ["X: y", "\tfolded"],
        ["X: a\rb"],
        ["X: a\nContent-Length: 3"],
        ["X: a\x00b"],
        ["X\x00: a"],
        ["X: a\x7fb"],
        ["X"],
        [": x"],
        ["Host: other"],
    ],
)
def test_ambiguous_requests_are_refused_and_nothing_behind_them_runs(engine, lines):
    with Session(engine.port).connect() as session:
        for target in (session.target, PATH):
            refused(engine, post(target, b"3\r\n42[\r\n0\r\n\r\n" + BEHIND, *lines))
        session.works()


def test_bare_line_feeds_are_refused(engine):
    with Session(engine.port).connect() as session:
        good = post(session.target, "3")
        refused(engine, good.replace(b"\r\n", b"\n") + BEHIND)
        refused(engine, good.replace(b"\r\n\r\n", b"\n\r\n", 1) + BEHIND)
        refused(engine, good.replace(b"\r\n\r\n", b"\r\n\n", 1) + BEHIND)
        refused(engine, good.replace(b"\r\nHost", b"\nHost", 1) + BEHIND)
        session.works()


@pytest.mark.parametrize(
    "body, status",
    [
        (b"ffffffffffffffff\r\n", 413),
        (b"7fffffffffffffff\r\n", 413),
        (b"10000000000000000\r\n", 400),
        (b"00000000000000001\r\n3\r\n0\r\n\r\n", 400),
        (b"-1\r\n", 400),
        (b"+1\r\n3\r\n0\r\n\r\n", 400),
        (b"0x1\r\n3\r\n0\r\n\r\n", 400),
        (b" 1\r\n3\r\n0\r\n\r\n", 400),
        (b"1 \r\n3\r\n0\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"1\n3\n0\n\n", 400),
        (b"1\r\n33\r\n0\r\n\r\n", 400),
        (b"1\r\n3\n0\r\n\r\n", 400),
        (b"1\r\n30\r\n\r\n", 400),
        (b"1;" + b"e" * 5000 + b"\r\n3\r\n0\r\n\r\n", 400),
        (b"1;\x00\r\n3\r\n0\r\n\r\n", 400),
        (b"1;a\nb\r\n3\r\n0\r\n\r\n", 400),
        (b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", 400),
        (b"0\r\nX: " + b"y" * 5000 + b"\r\n\r\n", 400),
        (b"0\r\nX\x00: y\r\n\r\n", 400),
        (b"1;" + b"e" * 100 + b"\r\n3\r\nzz\r\n", 400),
    ],
)
def test_bad_chunks_are_refused_and_the_session_survives(engine, body, status):
    with Session(engine.port).connect() as session:
        data = post(session.target, body + BEHIND, "Transfer-Encoding: chunked")
        refused(engine, data, status)
        session.works()


def test_good_chunks_are_taken(engine):
    with Session(engine.port).connect() as session:
        line = "Transfer-Encoding: chunked"
        for body in (
            chunked('427["nope"]', 1),
            b'00b;ext="v;x"\r\n427["nope"]\r\n000\r\nTrailer: x\r\nContent-Length: 9\r\n\r\n',
        ):
            assert session.say(body, line) == (200, b"ok")
            assert session.poll()[1].startswith(b"437[")
        session.posts.send(post(session.target, "", line))
        for byte in chunked("3", 1):
            session.posts.send(bytes([byte]))
        assert session.posts.answer()[0] == 200
        session.works()


def test_absolute_form(engine):
    for target, host, good in (
        ("http://localhost" + PATH, "localhost", True),
        ("http://elsewhere" + PATH, "localhost", False),
        ("http://" + PATH, "localhost", False),
        ("ftp://localhost" + PATH, "localhost", False),
        ("//localhost" + PATH, "localhost", None),
        ("localhost:80", "localhost", False),
        ("*", "localhost", False),
    ):
        status, _, body = answer(engine, get(target, *CLOSE, host=host))
        assert status == 200 if good else status in (400, 404), (target, status, body)


def test_pipelined_requests_are_answered_in_order(engine):
    with Session(engine.port).connect() as session:
        with Raw(engine.port) as raw:
            raw.send(
                post(session.target, '421["nope"]') + get(session.target) + get("/socket.io/?EIO=4")
            )
            assert raw.answer()[2] == b"ok"
            assert raw.answer()[2].startswith(b"431[")
            assert raw.answer()[0] == 400
        session.works()


def test_a_flood_behind_an_unanswered_request_is_bounded(engine):
    with Session(engine.port).connect() as session:
        with Raw(engine.port) as raw:
            raw.send(get(session.target))
            try:
                for _ in range(100):
                    raw.send(b"\r\n" * 5000)
                raw.socket.settimeout(3)
                assert b"HTTP/1.1 200" not in raw.rest()
            except (ConnectionResetError, BrokenPipeError):
                pass
        session.ended()


def test_a_flood_of_requests_whose_answers_nobody_reads_is_bounded(engine):
    before = engine.memory_kb()
    flood = get("/socket.io/?EIO=4") * 1000
    with Raw(engine.port, timeout=2) as raw:
        try:
            for _ in range(200):
                raw.send(flood)
        except OSError:
            pass  # closed, or no longer read: both bound it
        grown = engine.memory_kb() - before
    assert grown < 20_000, f"{grown} KB more"


# --- limits of the head -------------------------------------------------------------------------


@pytest.mark.parametrize("count, good", [(20, True), (60, True), (70, False), (2000, False)])
def test_header_lines_are_counted(engine, count, good):
    lines = [f"X{n}: y" for n in range(count)]
    assert answer(engine, get(PATH, *CLOSE, *lines))[0] == (200 if good else 431)


def test_a_head_of_20_000_lines(engine):
    refused(engine, get(PATH, *[f"X{n}:" for n in range(20_000)]), 431, None)


@pytest.mark.parametrize("size, good", [(7000, True), (9000, False), (200_000, False)])
def test_the_head_is_bounded_in_bytes(engine, size, good):
    expected = (200,) if good else (431, None)
    assert answer(engine, get(PATH, *CLOSE, "X: " + "y" * size))[0] in expected
    assert answer(engine, get(PATH + "&x=" + "y" * size, *CLOSE))[0] in expected


# --- slow ones ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty():
    running = Engine(HANDSHAKE_TIMEOUT="700ms")
    yield running
    running.stop()


def test_a_slow_head_is_cut_off(hasty):
    for data in (get(PATH), post(PATH + "&sid=x", "")):
        begun = time.monotonic()
        with Raw(hasty.port) as raw:
            try:
                for byte in data[:-1]:
                    raw.send(bytes([byte]))
                    time.sleep(0.05)
                    assert time.monotonic() - begun < 2, "still open"
            except (ConnectionResetError, BrokenPipeError):
                pass
        assert 0.5 < time.monotonic() - begun < 1.5


def test_a_slow_head_of_a_later_request_is_cut_off(hasty):
    with Raw(hasty.port) as raw:
        raw.send(get(PATH))
        assert raw.answer()[0] == 200
        time.sleep(1)
        raw.send(b"GET /")
        begun = time.monotonic()
        raw.rest()
        assert 0.5 < time.monotonic() - begun < 1.5


def slow_body(port, line, first, drop, every, seconds):
    """How long a body lasts that comes in drops."""
    with Session(port) as session:
        begun = time.monotonic()
        session.posts.send(post(session.target, first, line))
        session.posts.socket.settimeout(every)
        while time.monotonic() - begun < seconds:
            try:
                session.posts.send(drop)
                if not session.posts._more():
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        return time.monotonic() - begun


@pytest.mark.timeout(60)
def test_slow_bodies_are_cut_off(engine):
    """By a deadline that drops of bytes do not move: 30 s for any part of a body."""
    drops = {
        "by length": ("Content-Length: 1000", b"4", b"x"),
        "not begun": ("Content-Length: 1000", b"", b""),
        "chunks": ("Transfer-Encoding: chunked", b"1\r\n4\r\n", b"1\r\nx\r\n"),
        "an extension": ("Transfer-Encoding: chunked", b"1;", b"x"),
        "a trailer": ("Transfer-Encoding: chunked", b"0\r\n", b"x"),
    }
    lasted = {}

    def run(name, line, first, drop):
        lasted[name] = slow_body(engine.port, line, first, drop, every=1, seconds=40)

    threads = [threading.Thread(target=run, args=(name, *it)) for name, it in drops.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print({name: round(seconds, 1) for name, seconds in lasted.items()})
    assert all(28 < seconds < 33 for seconds in lasted.values()), lasted


# --- resets -------------------------------------------------------------------------------------


def test_reset_at_every_byte_of_a_handshake(engine):
    data = get(PATH)
    for length in range(len(data) + 1):
        raw = Raw(engine.port)
        raw.send(data[:length])
        raw.reset()


def test_reset_at_every_byte_of_a_post(engine):
    with Session(engine.port).connect() as session:
        data = post(session.target, '427["nope"]')
        body_at = data.index(b"\r\n\r\n") + 4
        for length in range(body_at):
            raw = Raw(engine.port)
            raw.send(data[:length])
            raw.reset()
        session.works()
    data = post("%s", '427["nope"]')
    for length in range(12):
        with Session(engine.port).connect() as session:
            data = post(session.target, '427["nope"]')
            raw = Raw(engine.port)
            raw.send(data[: len(data) - length])
            raw.reset()


def test_reset_while_a_poll_is_held(engine):
    for _ in range(50):
        session = Session(engine.port).connect()
        session.gets.send(get(session.target))
        session.gets.reset()
        session.ended()
        session.posts.socket.close()


# --- bodies of packets --------------------------------------------------------------------------


def parse_error(engine, body, *lines):
    """Taken, since that is only found out afterwards; then the session ends."""
    with Session(engine.port).connect() as session:
        assert session.say(body, *lines) == (200, b"ok")
        session.ended()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        SEPARATOR.encode() * (LIMIT - 1),
        SEPARATOR.encode(),
        b"3" + SEPARATOR.encode(),
        SEPARATOR.encode() + b"3",
        SEPARATOR.join(["3"] * 1001).encode(),
        b"7",
        b"2",
        b"2probe",
        b"4\xff\xfe",
        b'42["\xc3\x28"]',
        b'42["\xed\xa0\x80"]',
        b"b!!!!",
        b"bAAA=A",
        b"bA",
        b"b",
        b"bAQIDBA==",
        b"\x00",
        b"{}",
        ('42["x",' + "[" * 50_000).encode(),
        b'451-["x",{"_placeholder":true,"num":0}]' + SEPARATOR.encode() + b'42["y"]',
    ],
    ids=lambda body: f"{body[:12]!r} of {len(body)}",
)
def test_bodies_that_do_not_parse_end_their_session(engine, body):
    parse_error(engine, body)
    if body:
        parse_error(engine, chunked(body), "Transfer-Encoding: chunked")


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [33, 1000, 15_000])
def test_deep_json_is_answered_or_ends_the_session(engine, opening, closing, depth):
    body = f'421["message",{{"room":"r","body":{opening * depth}0{closing * depth}}}]'
    with Session(engine.port).connect() as session:
        assert session.say(body) == (200, b"ok")
        status, got = session.poll()
        assert status == 400 or got == b"1" or b'"ok":false' in got, (status, got)


def test_a_million_separators_are_refused_by_length_and_by_count():
    running = Engine(MAX_PAYLOAD="2000000")
    try:
        begun = time.monotonic()
        parse_error(running, SEPARATOR * 1_000_000)
        parse_error(running, SEPARATOR.join(["3"] * 1_000_000))
        assert time.monotonic() - begun < 3
        with Session(running.port).connect() as session:
            assert session.say(SEPARATOR.join(["3"] * 1000)) == (200, b"ok")
            session.works()
    finally:
        running.stop()


def test_bodies_over_the_limit_are_413_and_the_session_survives(engine):
    with Session(engine.port).connect() as session:
        for length in (LIMIT + 1, 2**31, 2**32, 2**63, 2**64 - 1):
            refused(engine, post(session.target, b"", f"Content-Length: {length}"), 413)
        body = b"4" * (LIMIT + 1)
        refused(engine, post(session.target, body), 413)
        refused(engine, post(session.target, body * 10), 413)
        refused(engine, post(session.target, chunked(body), "Transfer-Encoding: chunked"), 413)
        whole = chunked(body * 10, LIMIT)
        refused(engine, post(session.target, whole, "Transfer-Encoding: chunked"), 413, None)
        session.works()
        exact = '427["nope' + "x" * (LIMIT - 11) + '"]'
        assert len(exact) == LIMIT and session.say(exact) == (200, b"ok")
        assert session.poll()[1].startswith(b"437[")


def test_octets_are_no_packets(engine):
    with Session(engine.port).connect() as session:
        data = get(session.target, "Content-Type: application/octet-stream", "Content-Length: 1",
                   method="POST")  # fmt: skip
        refused(engine, data + b"3" + BEHIND, 400)
        session.ended()


def test_a_poll_with_a_body_is_refused(engine):
    with Session(engine.port).connect() as session:
        for lines in (["Content-Length: 1"], ["Transfer-Encoding: chunked"]):
            refused(engine, get(session.target, *lines) + b"3" + BEHIND)
            refused(engine, get(PATH, *lines) + b"3" + BEHIND)
        session.works()


@pytest.mark.parametrize("text", ["AQIDBA==", "AQIDBA", "AQID\r\nBA==\n", "AQIDBA==\n"])
def test_base64_as_clients_write_it_is_taken(engine, text):
    with Session(engine.port).connect() as session:
        head = '451-7["nope",{"_placeholder":true,"num":0}]'
        assert session.say(f"{head}{SEPARATOR}b{text}") == (200, b"ok")
        assert session.poll()[1].startswith(b"437[")


def test_random_bodies(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    good = ['42["join",{"room":"r"}]', "3", "40", "41", "b" + "AQID" * 5, "6", "1",
            '451-["message",{"_placeholder":true,"num":0}]']  # fmt: skip
    for _ in range(150):
        with Session(engine.port) as session:
            parts = ["40", *source.choices(good, k=source.randrange(1, 6))]
            body = bytearray(SEPARATOR.join(parts).encode())
            for _ in range(source.randrange(4)):
                body[source.randrange(len(body))] = source.randrange(256)
            assert session.say(bytes(body))[0] in (200, 400)


def test_random_requests(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    with Session(engine.port).connect() as session:
        good = [post(session.target, '42["x"]'), get(PATH), get(session.target, method="PUT"),
                post(session.target, chunked("3", 1), "Transfer-Encoding: chunked")]  # fmt: skip
        for _ in range(200):
            data = bytearray(source.choice(good))
            for _ in range(source.randrange(1, 6)):
                data[source.randrange(len(data))] = source.randrange(256)
            with Raw(engine.port, timeout=0.05) as raw:
                raw.try_send(bytes(data))
                try:
                    raw.head()
                except TimeoutError:
                    pass


# --- floods on one session ----------------------------------------------------------------------


def test_a_flood_of_polls_ends_the_session(engine):
    with Session(engine.port).connect() as session:
        polls = [Raw(engine.port) for _ in range(50)]
        for raw in polls:
            raw.send(get(session.target, *CLOSE))
        statuses = [raw.answer()[0] for raw in polls]
        for raw in polls:
            raw.socket.close()
        assert set(statuses) <= {200, 400} and statuses.count(200) <= 2, statuses
        session.ended()


def test_a_flood_of_posts_at_once_ends_the_session(engine):
    with Session(engine.port).connect() as session:
        posts = [Raw(engine.port) for _ in range(50)]
        for raw in posts:
            raw.send(post(session.target, "3", "Content-Length: 2"))
        statuses = []
        for raw in posts:
            raw.try_send(b"3")
            statuses.append(raw.answer()[0])
            raw.socket.close()
        assert set(statuses) <= {None, 200, 400}, statuses
        session.ended()


def test_many_requests_one_after_another_are_just_answered(engine):
    with Session(engine.port).connect() as session:
        for _ in range(500):
            assert session.say("3") == (200, b"ok")
        assert session.say('427["nope"]') == (200, b"ok")
        assert session.poll()[1].startswith(b"437[")
        session.works()


def test_other_methods_in_a_flood_do_not_end_the_session(engine):
    with Session(engine.port).connect() as session:
        for _ in range(100):
            assert answer(engine, get(session.target, *CLOSE, method="PUT"))[0] == 500
        session.works()


# --- bytes behind an upgrade --------------------------------------------------------------------


def test_bytes_behind_an_upgrade_are_frames(engine):
    with Session(engine.port).connect() as session, Raw(engine.port) as raw:
        raw.send(
            request(path=UPGRADE + session.sid) + frame(TEXT, "2probe") + frame(TEXT, "5")
            + frame(TEXT, '427["nope"]')
        )  # fmt: skip
        assert raw.head()[0] == 101
        assert raw.recv_text() == "3probe"
        assert raw.recv_text().startswith("437[")
        assert answer(engine, get(session.target, *CLOSE))[0] == 400


def test_garbage_behind_an_upgrade_closes_it_and_spares_the_session(engine):
    for garbage in (b"\xff" * 40, get(PATH), frame(TEXT, "2probe", mask=False)):
        with Session(engine.port).connect() as session, Raw(engine.port) as raw:
            raw.send(request(path=UPGRADE + session.sid) + garbage)
            assert raw.head()[0] == 101
            assert raw.until_closed(3).code in (1002, 1006)
            session.works()


def test_nothing_is_left_of_all_this(engine):
    """But sessions that nobody ended: they last until their pings go unanswered."""

    def gone():
        total = engine.json("/metrics")["total"]
        assert total["connections"] <= 3, total["connections"]

    eventually(gone)
