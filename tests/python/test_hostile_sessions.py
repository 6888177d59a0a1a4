"""Proves: polling sessions that clients open and abandon are bounded in number and in memory, which
comes back; an idle one costs no more than it may.
"""

import json
import resource
import time

import pytest
from engine import Engine, eventually
from polling import PATH, Session, get, post
from raw import Raw

pytestmark = pytest.mark.usefixtures("undisturbed")

ABANDONED = 5000
# so many that what the allocator rounds up to does not matter
IDLE = 6000
IDLE_BYTES_MAX = 2048

_, FILES_MAX = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))


@pytest.fixture(scope="module")
def settings():
    return {"PING_INTERVAL": "2s", "PING_TIMEOUT": "1s", "MAX_PAYLOAD": "100000"}


def polling_sessions(engine):
    return engine.json("/metrics")["total"]["sessions_polling"]


def opened(engine, count):
    """Opens sessions over one connection, of which nothing more is heard; their ids."""
    sids = []
    with Raw(engine.port) as raw:
        for _ in range(0, count, 50):
            raw.send(get(PATH) * 50)
            for _ in range(50):
                status, _, body = raw.answer()
                assert status == 200, (status, body)
                sids.append(json.loads(body[1:])["sid"])
    return sids


def test_abandoned_sessions_end_and_give_their_memory_back(engine):
    opened(engine, 500)
    eventually(lambda: none_left(engine))
    before = engine.memory_kb()
    assert len(set(opened(engine, ABANDONED))) == ABANDONED
    held = engine.memory_kb() - before
    eventually(lambda: none_left(engine))

    def comes_back():
        assert engine.memory_kb() - before < 3000, engine.memory_kb() - before

    eventually(comes_back, 8)
    left = engine.memory_kb() - before
    print(f"{ABANDONED} abandoned sessions: {held} KB more, {left} KB after their end")
    assert held * 1024 / ABANDONED < IDLE_BYTES_MAX


def none_left(engine):
    assert polling_sessions(engine) == 0


def test_sessions_abandoned_again_and_again_do_not_pile_up(engine):
    levels = []
    for _ in range(3):
        opened(engine, 3000)
        eventually(lambda: none_left(engine))
        levels.append(engine.memory_kb())
    print(f"memory after each round: {levels} KB")
    assert levels[-1] - levels[0] < 3000, levels


def test_abandoned_sessions_with_unread_messages(engine):
    """They are in a room where much is said and never fetch it: OUTBOX_BYTES bounds each."""
    running = Engine(OUTBOX_BYTES="64KiB", PING_INTERVAL="25s", PING_TIMEOUT="20s")
    try:
        sessions = [Session(running.port).connect() for _ in range(50)]
        for session in sessions:
            join(session, "loud")
        before = running.memory_kb()
        with Session(running.port).connect() as speaker:
            join(speaker, "loud")
            for n in range(200):
                message = {"room": "loud", "body": str(n) + "x" * 5000}
                packet = "421" + json.dumps(["message", message], separators=(",", ":"))
                assert speaker.say(packet) == (200, b"ok")
                assert speaker.poll()[0] == 200
        grown = running.memory_kb() - before
        print(f"50 sessions that owe 1 MB each: {grown} KB more")
        assert grown < 50 * 64 + 8000
        for session in sessions:
            session.__exit__()
    finally:
        running.stop()


def join(session, room):
    packet = f'421["join",{{"room":"{room}","presence":false}}]'
    assert session.say(packet) == (200, b"ok")
    assert b'"ok":true' in session.poll()[1]


# --- how many -----------------------------------------------------------------------------------


def test_sessions_per_address_are_bounded():
    running = Engine(MAX_CONNECTIONS_PER_IP="50", PING_INTERVAL="1s", PING_TIMEOUT="500ms")
    try:
        with Raw(running.port) as raw:
            sids = []
            for _ in range(50):
                raw.send(get(PATH))
                status, _, body = raw.answer()
                assert status == 200
                sids.append(json.loads(body[1:])["sid"])
            for _ in range(20):
                raw.send(get(PATH))
                status, headers, _ = raw.answer()
                assert status == 503 and headers["retry-after"]
            raw.send(post(f"{PATH}&sid={sids[0]}", "1"))
            assert raw.answer()[0] == 200

            def one_more():
                raw.send(get(PATH))
                assert raw.answer()[0] == 200

            eventually(one_more, 2)
            raw.send(get(PATH))
            assert raw.answer()[0] == 503

        def all_gone():
            assert polling_sessions(running) == 0

        eventually(all_gone)
        opened(running, 50)
        assert running.json("/metrics")["total"]["refused_ip"] >= 21
    finally:
        running.stop()


def test_sessions_are_bounded_in_all():
    running = Engine(MAX_CONNECTIONS="100", PING_INTERVAL="1s", PING_TIMEOUT="500ms")
    try:
        opened(running, 100)
        with Raw(running.port) as raw:
            raw.send(get(PATH) * 300)
            assert {raw.answer()[0] for _ in range(300)} == {503}

        def again():
            with Raw(running.port) as raw:
                raw.send(get(PATH))
                assert raw.answer()[0] == 200

        eventually(again)
    finally:
        running.stop()


# --- what one costs -----------------------------------------------------------------------------


def test_an_idle_session_costs_little():
    """In a room, with a GET that is held: user memory, without what the kernel keeps."""
    running = Engine(MAX_WORKERS="2")
    held = []

    def hold(count):
        for _ in range(count):
            get_conn = Raw(running.port)
            get_conn.send(get(PATH))
            sid = json.loads(get_conn.answer()[2][1:])["sid"]
            target = f"{PATH}&sid={sid}"
            for packet in ("40", '421["join",{"room":"idle","presence":false}]'):
                posts.send(post(target, packet))
                assert posts.answer()[2] == b"ok"
                get_conn.send(get(target))
                assert get_conn.answer()[0] == 200
            get_conn.send(get(target))
            held.append(get_conn)

    try:
        with Raw(running.port) as posts:
            # what is needed once, and what only the start needed: gone when connections come and go
            hold(1000)
            for raw in [Raw(running.port) for _ in range(1200)]:
                raw.socket.close()
            time.sleep(5)
            before = running.memory_kb()
            hold(IDLE)
            time.sleep(5)
            each = (running.memory_kb() - before) * 1024 / IDLE
        total = running.json("/metrics")["total"]
        assert total["sessions_polling"] == IDLE + 1000 and total["memberships"] == IDLE + 1000
        print(f"user memory per idle polling session with its held GET: {each:.0f} bytes")
        assert each <= IDLE_BYTES_MAX
    finally:
        for raw in held:
            raw.socket.close()
        running.stop()
