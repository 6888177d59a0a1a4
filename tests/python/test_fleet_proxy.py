"""Proves that the fault proxy does to a connection with a real Redis what its methods say, and
nothing else: what passes is whole and in order, what does not pass never arrives by halves.
"""

import time

import pytest
from engine import eventually
from fleet.proxy import Proxy
from fleet.redis import Redis, have_redis
from fleet.resp import Asker, Reader, command

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")


@pytest.fixture(scope="module")
def redis():
    with Redis() as running:
        yield running


@pytest.fixture
def proxy(redis):
    redis.ask("FLUSHALL")
    with Proxy(redis.port) as running:
        yield running


def gone(asker, *args):
    with pytest.raises((ConnectionError, BrokenPipeError)):
        asker.ask(*args)


def silent(asker, *args):
    with pytest.raises(TimeoutError):
        asker.ask(*args)


def test_the_protocol_is_read_in_any_pieces():
    parts = [b"+OK\r\n", b":12\r\n", b"$3\r\na\r\n\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n",
             b"%1\r\n+a\r\n:1\r\n", b">2\r\n+message\r\n$1\r\nx\r\n", b",1.5\r\n", b"#t\r\n",
             b"-ERR no\r\n", b"=5\r\ntxt:a\r\n", b"~1\r\n:1\r\n", b"*1\r\n*1\r\n:5\r\n"]
    whole = b"".join(parts)
    for size in (1, 2, 3, 7, len(whole)):
        reader, found = Reader(), []
        for at in range(0, len(whole), size):
            reader.feed(whole[at : at + size])
            found += [str(value) for value, _ in reader.values()]
        assert found == ["b'OK'", "12", "b'a\\r\\n'", "None", "None", "None", "[b'a', 1]",
                         "[b'message', b'x']", "b'1.5'", "b't'", "ERR no", "b'txt:a'", "[1]",
                         "[[5]]"], size
    assert command("SET", b"\x00", 1) == b"*3\r\n$3\r\nSET\r\n$1\r\n\x00\r\n$1\r\n1\r\n"


def test_passes_everything_whole(proxy):
    with Asker(proxy.port) as asker:
        big = bytes(range(256)) * 8192
        assert asker.ask("SET", "big", big) == b"OK"
        assert asker.ask("GET", "big") == big
        assert asker.ask("PING") == b"PONG"


def test_delay_with_jitter_keeps_the_order(proxy):
    with Asker(proxy.port) as asker:
        proxy.delay(0.05, 0.04)
        begun = time.monotonic()
        for n in range(20):
            asker._socket.sendall(command("RPUSH", "list", n))
            time.sleep(0.005)
        assert [asker.hear() for _ in range(20)] == list(range(1, 21))
        assert time.monotonic() - begun > 0.05
        proxy.delay(0)
        assert asker.ask("LRANGE", "list", 0, -1) == [b"%d" % n for n in range(20)]


@pytest.mark.parametrize("late", [True, False])
def test_blackhole(proxy, redis, late):
    with Asker(proxy.port, timeout=0.3) as old:
        assert old.ask("PING") == b"PONG"
        proxy.blackhole()
        silent(old, "INCR", "n")
        with Asker(proxy.port, timeout=0.3) as new:
            silent(new, "INCR", "n")
        assert redis.ask("GET", "n") is None
        proxy.heal(late=late)
        if late:  # also what a connection said that has been closed since
            eventually(lambda: _equal(redis.ask("GET", "n"), b"2"))
            assert old.hear() == 1
        else:
            gone(old, "PING")
            assert redis.ask("GET", "n") is None
    with Asker(proxy.port) as again:
        assert again.ask("PING") == b"PONG"


def test_a_hole_for_some(proxy):
    with Asker(proxy.port, timeout=0.3) as one, Asker(proxy.port, timeout=0.3) as two:
        assert two.ask("HELLO", "3") and two.ask("SUBSCRIBE", "channel")
        proxy.blackhole(lambda it: it.is_push)
        assert one.ask("PUBLISH", "channel", "x") == 1
        with pytest.raises(TimeoutError):
            two.hear()
        proxy.heal()
        assert two.hear() == [b"message", b"channel", b"x"]


def test_garbage_comes_between_two_answers(proxy):
    with Asker(proxy.port) as asker:
        assert asker.ask("PING") == b"PONG"
        proxy.garble(b":77\r\n")
        assert [asker.ask("PING"), asker.ask("PING"), asker.ask("PING")] == [b"PONG", 77, b"PONG"]


def _equal(found, wanted):
    assert found == wanted


def test_refuses_for_a_while(proxy):
    with Asker(proxy.port) as asker:
        assert asker.ask("PING") == b"PONG"
        proxy.refuse(0.5)
        gone(asker, "PING")
    with pytest.raises(ConnectionRefusedError):
        Asker(proxy.port)

    def back():
        with Asker(proxy.port) as again:
            assert again.ask("PING") == b"PONG"

    eventually(back)


def test_cuts_some_or_all(proxy):
    with Asker(proxy.port) as one, Asker(proxy.port) as two:
        assert one.ask("PING") == b"PONG"
        assert two.ask("HELLO", "3") and two.ask("SUBSCRIBE", "channel")
        assert proxy.open_connections() == 2
        assert proxy.cut(lambda it: it.is_push) == 1
        gone(two, "PING")
        assert one.ask("PING") == b"PONG" and proxy.open_connections() == 1
        assert proxy.cut() == 1
        gone(one, "PING")


def test_cuts_after_the_commit_and_before_its_answer(proxy, redis):
    with Asker(proxy.port) as asker:
        assert asker.ask("HELLO", "3")
        sha = asker.ask("SCRIPT", "LOAD", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
        trap = proxy.cut_before_reply(containing=b"42")
        assert asker.ask("EVALSHA", sha, 1, "n", 1) == 1
        # a push and other answers of the same pipeline are not mistaken for it
        asker._socket.sendall(
            command("SUBSCRIBE", "c") + command("PUBLISH", "c", "42") + command("INCR", "m")
            + command("EVALSHA", sha, 1, "n", 42) + command("SET", "behind", 1)
        )
        assert trap.wait()[-1] == b"42"
        with pytest.raises(ConnectionError):
            while asker.hear() != 43:
                pass
    assert (redis.ask("GET", "n"), redis.ask("GET", "behind")) == (b"43", None)
    with Asker(proxy.port) as again:  # once
        assert again.ask("EVALSHA", sha, 1, "n", 42) == 85


def test_reads_no_more_until_redis_ends_it(redis):
    redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 128kb 2")
    with Proxy(redis.port, receive_bytes=65536) as proxy:
        with Asker(proxy.port, timeout=2) as asker, Asker(proxy.port) as other:
            assert asker.ask("HELLO", "3") and asker.ask("SUBSCRIBE", "channel")
            proxy.stop_reading(lambda it: it.is_push)

            def killed():
                for _ in range(20):
                    redis.ask("PUBLISH", "channel", "x" * 100_000)
                assert redis.ask("PUBSUB", "NUMSUB", "channel")[1] == 0

            eventually(killed, 20)
            assert other.ask("PING") == b"PONG"
            proxy.read_on()
            with pytest.raises(ConnectionError):
                while True:
                    asker.hear()


def test_throttles_what_redis_says(proxy, redis):
    redis.ask("SET", "big", "x" * 50_000)
    with Asker(proxy.port) as asker:
        proxy.throttle(100_000)
        begun = time.monotonic()
        assert len(asker.ask("GET", "big")) == 50_000
        assert time.monotonic() - begun > 0.3
        proxy.throttle(None)
        begun = time.monotonic()
        assert len(asker.ask("GET", "big")) == 50_000
        assert time.monotonic() - begun < 5


def test_a_redis_that_is_gone(redis):
    with Redis() as other, Proxy(other.port) as proxy:
        with Asker(proxy.port) as asker:
            assert asker.ask("PING") == b"PONG"
            other.kill()
            gone(asker, "PING")
        with pytest.raises(ConnectionError), Asker(proxy.port) as asker:
            asker.ask("PING")
        other.start()
        with Asker(proxy.port) as asker:
            assert asker.ask("PING") == b"PONG"
