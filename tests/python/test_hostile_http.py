"""Proves: no handshake or HTTP request, however bad, is taken for a good one, disturbs another
client or ends the process; a slow one is cut off by an absolute deadline.
"""

import json
import os
import random
import socket
import time

import pytest
from engine import Engine, eventually
from raw import ACCEPT, KEY, PATH, PING, PONG, TEXT, Raw, frame, open_websocket, request

pytestmark = pytest.mark.usefixtures("undisturbed")


def answer(engine, data, timeout=5):
    """(status, headers, body); status None where the connection just ends."""
    with Raw(engine.port, timeout) as raw:
        raw.try_send(data)
        return raw.answer()


def assert_refused(engine, data, *statuses):
    status, _, body = answer(engine, data)
    allowed = statuses or (None, *range(400, 500), 501, 505)
    assert status in allowed, f"{status} {body[:200]} for {data[:200]}"


# --- the request line -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW", "get"])
def test_another_method_is_no_handshake(engine, method):
    assert_refused(engine, request(method=method), 400, 405, 501, None)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.9", "HTTP", ""])
def test_another_http_version_is_no_handshake(engine, version):
    assert_refused(engine, request(version=version))


def test_http2_preface_is_refused(engine):
    assert_refused(engine, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")


def test_tls_hello_is_refused(engine):
    assert_refused(engine, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 512)


@pytest.mark.parametrize(
    "query, code",
    [
        ("EIO=4", 0),
        ("EIO=4&transport=", 0),
        ("EIO=4&transport=carrier-pigeon", 0),
        ("EIO=4&transport=__proto__", 0),
        ("transport=websocket", 5),
        ("EIO=3&transport=websocket", 5),
        ("EIO=x&transport=websocket", 5),
        ("EIO=4&transport=websocket&sid=unknown", 1),
        ("EIO=4&transport=websocket&sid=" + "A" * 4000, 1),
    ],
)
def test_engineio_refuses_by_its_own_messages(engine, query, code):
    messages = {0: "Transport unknown", 1: "Session ID unknown", 5: "Unsupported protocol version"}
    status, headers, body = answer(engine, request(path="/socket.io/?" + query))
    assert status == 400
    assert messages[code] in body.decode()
    assert headers.get("connection", "").lower() == "close"


def test_engineio_refuses_plain_requests_in_json(engine):
    def ask(path, method="GET"):
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        status, headers, body = answer(engine, head.encode())
        assert headers["content-type"].startswith("application/json"), headers
        return status, json.loads(body)

    assert ask("/socket.io/?EIO=4") == (400, {"code": 0, "message": "Transport unknown"})
    assert ask(PATH) == (400, {"code": 3, "message": "Bad request"})
    unsupported = (400, {"code": 5, "message": "Unsupported protocol version"})
    assert ask("/socket.io/?EIO=3&transport=websocket") in (
        unsupported,
        (400, {"code": 3, "message": "Bad request"}),
    )


@pytest.mark.parametrize(
    "query",
    ["%", "%zz", "%ff%fe", "&&&&", "=", "EIO=4&EIO=4&transport=websocket&transport=websocket",
     "EIO[]=4&transport[]=websocket", "a=" + "b" * 6000, "EIO=4%00&transport=websocket", "?" * 100],
)  # fmt: skip
def test_odd_queries_are_answered(engine, query):
    status, _, _ = answer(engine, request(path="/socket.io/?" + query))
    assert status in (101, 400, 414, 431)


def test_absolute_form_is_answered(engine):
    target = f"http://localhost:{engine.port}/health"
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert answer(engine, head.encode())[0] in (200, 400, 404)


# --- headers ----------------------------------------------------------------------------------


def test_the_good_handshake_is_good(engine):
    status, headers, _ = answer(engine, request())
    assert status == 101
    assert headers["sec-websocket-accept"] == ACCEPT
    assert headers["upgrade"].lower() == "websocket"
    assert "sec-websocket-extensions" not in headers
    assert "sec-websocket-protocol" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade"},
        {"Connection": "Upgrade,keep-alive"},
        {"Upgrade": "WebSocket"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"},
        {"Content_Length": "0"},
        {"Origin": "http://localhost"},
    ],
)
def test_what_real_clients_send_is_accepted(engine, headers):
    assert answer(engine, request(**headers))[0] == 101


@pytest.mark.parametrize("missing", ["Connection", "Upgrade", "Sec-WebSocket-Key", "Host"])
def test_a_missing_header_is_refused(engine, missing):
    assert_refused(engine, request(drop=[missing]), 400)


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive"},
        {"Connection": "Upgraded"},
        {"Upgrade": "h2c"},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "c2hvcnQ="},
        {"Sec_WebSocket_Key": "!!!!!!!!!!!!!!!!!!!!!!!!"},
        {"Sec_WebSocket_Key": "A" * 5000},
    ],
)
def test_a_wrong_header_is_refused(engine, headers):
    assert_refused(engine, request(**headers), 400, 426)


@pytest.mark.parametrize(
    "line", ["Host: other", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
)
def test_a_doubled_header_is_refused(engine, line):
    assert_refused(engine, request(extra=[line]), 400)


@pytest.mark.parametrize("version", ["0", "7", "8", "12", "14", "25", "x", "", "13, 8", "013"])
def test_another_websocket_version_is_426_and_closed(engine, version):
    status, headers, _ = answer(engine, request(Sec_WebSocket_Version=version))
    assert status == 426
    assert headers["sec-websocket-version"] == "13"


def test_a_missing_websocket_version_is_refused(engine):
    assert_refused(engine, request(drop=["Sec-WebSocket-Version"]), 400, 426)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "", "hello"],
        ["Transfer-Encoding: chunked", "", "5", "hello", "0"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: -1"],
        ["Content-Length: 5 5"],
        ["Content-Length: 99999999999999999999999"],
        ["Transfer-Encoding: chunked, identity"],
    ],
)
def test_a_handshake_with_a_body_is_refused(engine, lines):
    assert_refused(engine, request(extra=lines))


@pytest.mark.parametrize(
    "bad",
    [
        b"X-Folded: a\r\n b\r\n",
        b"X-Space : a\r\n",
        b" X-Leading: a\r\n",
        b"NoColon\r\n",
        b": empty\r\n",
        b"X-Nul: a\x00b\r\n",
        b"X-Return: a\rb\r\n",
        b"X\x00Nul: a\r\n",
        b"X\xffHigh: a\r\n",
        b"X(paren): a\r\n",
    ],
)
def test_a_malformed_header_is_refused(engine, bad):
    assert_refused(engine, request()[:-2] + bad + b"\r\n")


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe\x80",
        b"\xc3\x28",
        b"a" * 7000,
        b"," * 6000,
        b"a;" * 3000,
        b"constructor, __proto__",
        b"",
    ],
)
@pytest.mark.parametrize(
    "name", [b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Origin", b"User-Agent"]
)
def test_pathological_values_are_answered_quickly(engine, name, value):
    begun = time.monotonic()
    status, _, _ = answer(engine, request()[:-2] + name + b": " + value + b"\r\n\r\n")
    assert status in (101, 400, 403, 431)
    assert time.monotonic() - begun < 1


# --- limits -----------------------------------------------------------------------------------


def test_sixty_headers_are_accepted(engine):
    assert answer(engine, request(extra=[f"X-{n}: {n}" for n in range(55)]))[0] == 101


@pytest.mark.parametrize("count", [65, 100, 2000])
def test_too_many_headers_are_431(engine, count):
    head = request(extra=[f"X{n}: 1" for n in range(count - 5)])
    status, _, _ = answer(engine, head)
    assert status == 431


def test_a_head_over_8_kb_is_431(engine):
    assert answer(engine, request(extra=["X-Long: " + "x" * 9000]))[0] == 431
    assert answer(engine, request(path=PATH + "&t=" + "x" * 9000))[0] in (414, 431)


def test_a_head_that_never_ends_is_431(engine):
    assert answer(engine, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 20_000)[0] == 431
    assert answer(engine, b"x" * 20_000)[0] in (400, 431)


# --- segments ---------------------------------------------------------------------------------


def test_frames_may_follow_in_the_same_segment(engine):
    with Raw(engine.port) as raw:
        raw.send(request() + frame(TEXT, "40") + frame(PING, "ping"))
        assert raw.head()[0] == 101
        seen = [raw.recv(), raw.recv(), raw.recv()]
        assert (PONG, b"ping") in seen
        texts = [payload for opcode, payload in seen if opcode == TEXT]
        assert texts[0].startswith(b'0{"sid":') and texts[1].startswith(b'40{"sid":')


def test_half_a_frame_in_the_same_segment(engine):
    bytes_ = frame(TEXT, "40")
    with Raw(engine.port) as raw:
        raw.send(request() + bytes_[:3])
        assert raw.head()[0] == 101
        assert raw.recv_text().startswith('0{"sid":')
        raw.send(bytes_[3:])
        assert raw.recv_text().startswith('40{"sid":')


def test_garbage_in_the_same_segment_closes(engine):
    with Raw(engine.port) as raw:
        raw.send(request() + b"\xff" * 40)
        assert raw.head()[0] == 101
        assert raw.until_closed().code == 1002


def test_one_byte_at_a_time(engine):
    with Raw(engine.port) as raw:
        for byte in request():
            raw.send(bytes([byte]))
        assert raw.head()[0] == 101
        assert raw.recv_text().startswith('0{"sid":')


def test_what_follows_a_refusal_is_not_run(engine):
    with Raw(engine.port) as raw:
        raw.send(request(drop=["Sec-WebSocket-Key"]) + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.head()[0] == 400
        assert b"HTTP/1.1 200" not in raw.rest()


def test_reset_at_every_byte_of_the_handshake(engine):
    data = request() + frame(TEXT, "40")
    for length in range(len(data) + 1):
        raw = Raw(engine.port)
        raw.send(data[:length])
        raw.reset()
    open_websocket(engine.port).socket.close()


def test_the_client_may_stop_sending_early(engine):
    with Raw(engine.port) as raw:
        raw.send(request()[:40])
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.head()[0] in (None, 400)


def test_random_bytes(engine):
    seed = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={seed}")
    source = random.Random(seed)
    for _ in range(200):
        data = source.randbytes(source.randrange(1, 400))
        if source.random() < 0.5:
            good = bytearray(request())
            for _ in range(source.randrange(1, 6)):
                good[source.randrange(len(good))] = source.randrange(256)
            data = bytes(good)
        with Raw(engine.port) as raw:
            raw.try_send(data)
            raw.socket.shutdown(socket.SHUT_WR)
            raw.rest()


# --- the deadline -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty():
    running = Engine(HANDSHAKE_TIMEOUT="700ms")
    yield running
    running.stop()


def ended_after(raw, seconds):
    begun = time.monotonic()
    raw.socket.settimeout(seconds)
    raw.rest()
    return time.monotonic() - begun


def test_silence_is_cut_off(hasty):
    with Raw(hasty.port) as raw:
        assert 0.5 < ended_after(raw, 5) < 1.5


def test_drops_of_bytes_do_not_move_the_deadline(hasty):
    begun = time.monotonic()
    with Raw(hasty.port) as raw:
        try:
            for byte in request():
                raw.send(bytes([byte]))
                time.sleep(0.05)
                assert time.monotonic() - begun < 2, "still open"
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert 0.5 < time.monotonic() - begun < 1.5


def test_after_the_handshake_the_deadline_is_off(hasty):
    with open_websocket(hasty.port) as raw:
        time.sleep(1)
        raw.text("40")
        assert raw.recv_text().startswith("40{")


def test_many_slow_ones_hold_nobody_up(hasty):
    slow = [Raw(hasty.port) for _ in range(300)]
    for raw in slow:
        raw.send(b"GET /socket.io/?EIO=4")
    with open_websocket(hasty.port) as raw:
        raw.text("40")
        assert raw.recv_text().startswith("40{")
    for raw in slow:
        ended_after(raw, 5)
        raw.socket.close()

    def few_left():
        assert hasty.json("/metrics")["connections"] <= 1

    eventually(few_left)
