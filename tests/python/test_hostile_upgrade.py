"""Proves: a WebSocket that takes a polling session over, or pretends to, can do so only as the
protocol says; whatever else it does spares the session, on every shard, and leaves nothing behind.
"""

import os
import random
import threading
import time

import pytest
from engine import Engine, eventually
from polling import PATH, UPGRADE, Session, get, post
from raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, frame, request

pytestmark = pytest.mark.usefixtures("undisturbed")

WORKERS = 3


@pytest.fixture(scope="module")
def settings():
    return {"MAX_WORKERS": str(WORKERS), "MAX_PAYLOAD": "100000"}


def counts(engine):
    total = engine.json("/metrics")["total"]
    return {name: total[name] for name in ("connections", "sockets", "sessions_polling")}


@pytest.fixture(autouse=True)
def nothing_is_left(engine, bystander):
    """After each test there are as many connections, sockets and sessions as before."""
    before = counts(engine)
    yield

    def same():
        after = counts(engine)
        assert after["connections"] <= max(before["connections"], 2), (before, after)
        assert after["sockets"] <= before["sockets"], (before, after)
        assert after["sessions_polling"] <= before["sessions_polling"], (before, after)

    eventually(same)
    assert "panicked" not in engine.output()


class Polled(Session):
    """A session that says goodbye."""

    def __exit__(self, *rest):
        try:
            self.say("1")
        except (OSError, TimeoutError):
            pass
        super().__exit__(*rest)


def sessions(engine, count=2 * WORKERS):
    """So many that connections have to move between shards for some of them."""
    for _ in range(count):
        with Polled(engine.port).connect() as session:
            yield session


def refused(engine, path, *statuses):
    with Raw(engine.port) as raw:
        raw.send(request(path=path) + frame(TEXT, "2probe"))
        status, _, _ = raw.answer()
        assert status in (statuses or (400,))
        if status == 101:
            raw.until_closed(3)
        else:
            assert b"HTTP/1.1" not in raw.rest()


def probe(engine, session):
    """A WebSocket whose probe has been answered."""
    raw = Raw(engine.port)
    raw.send(request(path=UPGRADE + session.sid))
    assert raw.head()[0] == 101
    raw.text("2probe")
    assert raw.recv_text() == "3probe"
    return raw


def works(raw):
    raw.text('427["nope"]')
    while not (got := raw.recv_text()).startswith("437["):
        assert isinstance(got, str), got


# --- whose session ----------------------------------------------------------------------------


@pytest.mark.parametrize("sid", ["x", "A" * 35, "A" * 7000, "", "%00", "__proto__"])
def test_an_unknown_session(engine, sid):
    refused(engine, UPGRADE + sid)


def test_an_ended_session(engine):
    for session in sessions(engine):
        session.say("1")
        session.ended()
        refused(engine, UPGRADE + session.sid)


def test_a_session_of_another_engine(engine):
    other = Engine(MAX_WORKERS=str(WORKERS))
    try:
        for _ in range(WORKERS):
            with Session(other.port) as session:
                refused(engine, UPGRADE + session.sid)
                session.connect().works()
    finally:
        other.stop()


def test_a_session_that_has_come_over(engine):
    for session in sessions(engine):
        with probe(engine, session) as raw:
            raw.text("5")
            works(raw)
            refused(engine, UPGRADE + session.sid, 101, 400)
            for data in (get(session.target), post(session.target, "3")):
                with Raw(engine.port) as late:
                    late.send(data)
                    assert late.answer()[0] == 400
            works(raw)


def test_a_wrong_handshake_spares_the_session(engine):
    for session in sessions(engine, 1):
        path = UPGRADE + session.sid
        for data, statuses in (
            (request(path=path, Sec_WebSocket_Key="short"), {400}),
            (request(path=path, Sec_WebSocket_Version="8"), {426}),
            (request(path=path, method="POST"), {400, 405}),
            (request(path=path, drop=["Upgrade"]), {400}),
            (request(path=path, Content_Length="5") + b"hello", {400}),
            (request(path=path.replace("EIO=4", "EIO=3")), {400}),
            (request(path=path, Origin="http://evil.example"), {403}),
            (request(path=path.replace("websocket", "polling")), {400}),
        ):
            with Raw(engine.port) as raw:
                raw.send(data)
                assert raw.answer()[0] in statuses, data
        session.works()


# --- what is said instead of a probe ----------------------------------------------------------

COMES_OVER = "come over"
INSTEAD = {
    COMES_OVER: frame(TEXT, "5"),
    "a ping": frame(TEXT, "2"),
    "half a probe": frame(TEXT, "2prob"),
    "more than a probe": frame(TEXT, "2probe2"),
    "the answer": frame(TEXT, "3probe"),
    "nothing": frame(TEXT, ""),
    "a close packet": frame(TEXT, "1"),
    "an event": frame(TEXT, '42["x"]'),
    "a connect": frame(TEXT, "40"),
    "too much": frame(TEXT, "x" * 100_001),
    "a binary probe": frame(BINARY, "2probe"),
    "an empty binary": frame(BINARY, ""),
    "bad text": frame(TEXT, b"\xff\xff"),
    "an unmasked probe": frame(TEXT, "2probe", mask=False),
    "a compressed probe": frame(TEXT, "2probe", rsv=4),
    "a continuation": frame(CONT, "2probe"),
    "a reserved opcode": frame(3, "2probe"),
    "a close": frame(CLOSE),
    "a close with a code": frame(CLOSE, b"\x03\xe8"),
    "a long ping": frame(PING, "x" * 126),
    "garbage": b"\xff" * 100,
    "a request": get(PATH),
}


@pytest.mark.parametrize("said", INSTEAD)
def test_anything_but_a_probe_closes_the_websocket_and_spares_the_session(engine, said):
    for session in sessions(engine, WORKERS):
        with Raw(engine.port) as raw:
            raw.send(request(path=UPGRADE + session.sid))
            assert raw.head()[0] == 101
            raw.try_send(INSTEAD[said])
            raw.until_closed(3)
        session.works()
        with probe(engine, session) as raw:
            raw.text("5")
            works(raw)


@pytest.mark.parametrize("said", [it for it in INSTEAD if it != COMES_OVER])
def test_anything_but_coming_over_after_the_probe_spares_the_session(engine, said):
    for session in sessions(engine, WORKERS):
        with probe(engine, session) as raw:
            raw.try_send(INSTEAD[said])
            raw.until_closed(3)
        session.works()


def test_a_probe_in_pieces_and_between_pings(engine):
    for session in sessions(engine):
        with Raw(engine.port) as raw:
            data = request(path=UPGRADE + session.sid) + frame(PING, "a")
            data += frame(TEXT, "2pr", fin=False) + frame(PONG, "b") + frame(CONT, "obe")
            for byte in data:
                raw.send(bytes([byte]))
            assert raw.head()[0] == 101
            assert raw.recv() == (PONG, b"a")
            assert raw.recv_text() == "3probe"
            raw.text("5")
            works(raw)


def test_two_probes_at_once(engine):
    for session in sessions(engine):
        with probe(engine, session) as first, Raw(engine.port) as second:
            second.send(request(path=UPGRADE + session.sid) + frame(TEXT, "2probe"))
            assert second.head()[0] in (101, 400)
            second.until_closed(3)
            first.text("5")
            works(first)


def test_many_upgrades_of_one_session_at_once(engine):
    for session in sessions(engine):
        raws = [Raw(engine.port) for _ in range(10)]
        for raw in raws:
            raw.send(request(path=UPGRADE + session.sid) + frame(TEXT, "2probe"))
        alive = []
        for raw in raws:
            assert raw.head()[0] in (101, 400)
            got = raw.recv_text()
            if got == "3probe":
                alive.append(raw)
        assert len(alive) == 1
        alive[0].text("5")
        works(alive[0])
        for raw in raws:
            raw.socket.close()


def test_a_flood_of_probes_is_bounded(engine):
    with Polled(engine.port).connect() as session:
        before = engine.memory_kb()
        with Raw(engine.port, timeout=2) as raw:
            raw.send(request(path=UPGRADE + session.sid))
            assert raw.head()[0] == 101
            flood = frame(TEXT, "2probe") * 5000
            try:
                for _ in range(200):
                    raw.send(flood)
            except OSError:
                pass  # closed, or no longer read: both bound it
            grown = engine.memory_kb() - before
        assert grown < 10_000, f"{grown} KB more"
        session.works()


def test_polls_during_an_upgrade_are_let_go_at_a_bounded_rate(engine):
    for session in sessions(engine, 1):
        with probe(engine, session) as raw:
            end, polls = time.monotonic() + 1, 0
            while time.monotonic() < end:
                assert session.poll() == (200, b"6")
                polls += 1
            assert 5 <= polls <= 30, polls
            raw.text("5")
            works(raw)


@pytest.mark.timeout(40)
def test_a_silent_upgrade_is_cut_off_and_spares_the_session(engine):
    """Before the probe and after it: 10 s."""
    with Polled(engine.port).connect() as one, Polled(engine.port).connect() as two:
        begun = time.monotonic()
        with Raw(engine.port, timeout=15) as silent, probe(engine, two) as probed:
            silent.send(request(path=UPGRADE + one.sid))
            assert silent.head()[0] == 101
            for raw in (silent, probed):
                raw.until_closed(13)
                assert 9 < time.monotonic() - begun < 12
        one.works()
        two.works()
        with probe(engine, one) as raw:
            raw.text("5")
            works(raw)


# --- ends in the middle -----------------------------------------------------------------------


def test_reset_at_every_byte_of_an_upgrade(engine):
    for session in sessions(engine, WORKERS):
        data = request(path=UPGRADE + session.sid) + frame(TEXT, "2probe")
        for length in range(len(data) + 1):
            raw = Raw(engine.port)
            raw.send(data[:length])
            raw.reset()
        eventually(session.works, 5)


def test_reset_at_random_moments_of_an_upgrade(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    came_over = 0
    for _ in range(200):
        with Polled(engine.port) as session:
            if source.random() < 0.7:
                session.connect()
            if held := source.random() < 0.5:
                session.gets.send(get(session.target))
            raw = Raw(engine.port)
            steps = [request(path=UPGRADE + session.sid), frame(TEXT, "2probe"), frame(TEXT, "5"),
                     frame(TEXT, '427["nope"]') * 3]  # fmt: skip
            count = source.randrange(1, 5)
            for step in steps[:count]:
                raw.try_send(step)
                if source.random() < 0.5:
                    time.sleep(source.random() * 0.003)
            if source.random() < 0.3:
                session.posts.try_send(post(session.target, '421["x"]'))
            time.sleep(source.random() * 0.004)
            raw.reset()
            if held and source.random() < 0.5:
                session.gets.reset()
            session.posts.socket.close()
            session.posts = Raw(engine.port, 2)
            came_over += count > 2
    assert came_over


def test_the_session_ends_while_its_websocket_probes(engine):
    for session in sessions(engine):
        with probe(engine, session) as raw:
            assert session.say("1") == (200, b"ok")
            raw.until_closed(3)
            session.ended()
    for session in sessions(engine):
        with probe(engine, session) as raw:
            session.say("7")
            raw.until_closed(3)
            session.ended()


def test_coming_over_while_a_post_is_on_its_way(engine):
    for session in sessions(engine):
        data = post(session.target, '427["nope"]')
        with probe(engine, session) as raw:
            session.posts.send(data[:-3])
            raw.text("5")
            session.posts.send(data[-3:])
            assert session.posts.answer()[0] in (200, 400)
            works(raw)


def test_coming_over_while_a_poll_is_held(engine):
    for session in sessions(engine):
        session.gets.send(get(session.target))
        with probe(engine, session) as raw:
            assert session.answer()[0] == 200
            session.gets.send(get(session.target))
            raw.text("5")
            status, body = session.answer()
            assert (status, body) in ((200, b"1"), (200, b"6")) or status == 400
            works(raw)


def test_upgrades_in_parallel(engine):
    """Many sessions, from many threads, each to its end: all of them come over."""
    failures = []
    before = engine.json("/metrics")["total"]

    def run():
        try:
            for _ in range(20):
                with Polled(engine.port).connect() as session, probe(engine, session) as raw:
                    raw.text("5")
                    works(raw)
        except Exception as error:  # noqa: BLE001  (told by the test's thread)
            failures.append(repr(error))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    after = engine.json("/metrics")["total"]
    grown = {name: after[name] - before[name] for name in ("moved_out", "moved_in", "upgraded")}
    assert grown["moved_out"] == grown["moved_in"] > 0 and grown["upgraded"] == 160, grown
