"""Proves: `throng-load` measures what it says, ends with a status that tells how it went, and its
checks can fail: each single message that is lost, doubled, swapped or misled is counted as what it
is, and the run ends with status 1.
"""

import re
import signal
import time

import pytest
from engine import Engine, eventually, free_port
from faults import Between, Once, OnceAnswer, RoomServer
from load import finish, load, measure, start

# Twenty members in two rooms, twenty messages a second to each room.
STEADY = "-n 20 --rooms 2 --rate 400 --seconds 2s --warmup 500ms".split()
# Through a proxy in Python, which a busy machine holds up for seconds: as little as shows a fault.
GENTLE = "-n 10 --rooms 2 --rate 100 --seconds 2s --warmup 500ms".split()
CHAT = "--messages 2/s --typing 10/m --leaves 10/m --reconnects 10/m".split()
PERCENTILES = ("p50", "p90", "p99", "p999", "max")
# What must be zero in every run.
VERDICTS = ("lost", "gaps", "duplicates", "reordered", "foreign", "errors")


@pytest.fixture(scope="module")
def settings():
    return {"PING_INTERVAL": "2s"}


def all_well(ran):
    assert ran.code == 0, (ran.code, ran.wrong(), ran.err)
    assert ran.said["ok"] is True and ran.wrong() == {}
    assert [ran.figures[key] for key in VERDICTS] == [0] * len(VERDICTS)
    return ran.figures


def percentiles_rise(figures, of):
    values = [figures[f"{of}_{it}_us"] for it in PERCENTILES]
    assert None not in values and values == sorted(values), values


# -- What each workload says ----------------------------------------------------------------------


def test_connect_says_how_fast_and_at_which_cost(engine):
    ran = measure(engine, "connect", "-n", 300, "--server-pid", engine.process.pid)
    figures = all_well(ran)
    assert set(ran.said) >= {"workload", "what", "ok", "bottleneck", "figures", "bounds", "notes"}
    assert ran.said["workload"] == "connect" and "300 connections in 3 rooms" in ran.said["what"]
    assert (figures["ready"], figures["refused"]) == (300, 0)
    assert figures["seconds"] > 0 and figures["connects_per_s"] > 0
    assert figures["server_cpu_us_per_connection"] > 0
    percentiles_rise(figures, "connect")
    held = {it["key"] for it in ran.said["bounds"]}
    assert held == {"ready", "refused", *VERDICTS}


def test_stdout_is_one_json_object_and_stderr_is_silent(engine):
    ran = measure(engine, "connect", "-n", 10)
    assert ran.out.startswith("{") and ran.out.endswith("}\n")
    assert ran.said and ran.err == ""


def test_people_get_a_table(engine):
    ran = load("connect", "--url", engine.url.replace("http", "ws"), "-n", 10)
    assert ran.code == 0 and "\x1b" not in ran.out
    assert re.search(r"connections in their rooms +10 +\D*10 +✓", ran.out), ran.out
    assert "✓ all 8 bounds held" in ran.out


def test_held_connections_answer_pings_and_leave(engine):
    figures = all_well(measure(engine, "connect", "-n", 50, "--hold", "5s", "--leave"))
    assert figures["pings"] >= 100

    def gone():
        assert engine.json("/metrics")["connections"] <= 1

    eventually(gone)


@pytest.mark.parametrize("protocol", ["socketio", "ws"])
@pytest.mark.parametrize("answers", [[], ["--answers"]])
def test_fanout_on_a_schedule(engine, protocol, answers):
    figures = all_well(measure(engine, "fanout", *STEADY, "--protocol", protocol, *answers))
    assert (figures["ready"], figures["missing"]) == (20, 0)
    # 40 messages a second for two and a half seconds, whatever the machine does meanwhile.
    assert 95 <= figures["sent"] <= 110
    assert 300 <= figures["deliveries_per_s"] <= 500
    percentiles_rise(figures, "latency")
    assert figures["lag_p99_us"] is not None


@pytest.mark.parametrize("protocol", ["socketio", "ws"])
@pytest.mark.parametrize("in_flight", [1, 4])
def test_fanout_in_a_closed_loop(engine, protocol, in_flight):
    ran = measure(
        engine,
        "fanout",
        *"-n 20 --rooms 2 --seconds 1s --warmup 200ms --closed".split(),
        *("--in-flight", in_flight, "--protocol", protocol),
    )
    figures = all_well(ran)
    assert figures["sent"] > 20 and figures["deliveries_per_s"] > 100
    assert figures["missing"] == 0


@pytest.mark.parametrize("protocol", ["socketio", "ws"])
def test_chat_with_people_who_come_and_go(engine, protocol):
    ran = measure(engine, "chat", "-n", 40, "--seconds", "5s", *CHAT, "--protocol", protocol)
    figures = all_well(ran)
    assert figures["ready"] == 40
    assert figures["reconnects"] > 0 and figures["joins"] > figures["reconnects"]
    for rate in ("messages_per_s", "deliveries_per_s", "presence_per_s", "typing_per_s"):
        assert figures[rate] > 0, rate
    percentiles_rise(figures, "latency")


def test_who_comes_back_while_others_talk_misses_nothing(engine):
    """What comes before the answer to a join is newer than the answer: it is no gap."""
    returns = "-n 100 --messages 30/m --typing 0 --leaves 0 --reconnects 20/m --seconds 4s"
    figures = all_well(measure(engine, "chat", *returns.split()))
    assert figures["reconnects"] > 20


def test_storm_brings_everybody_back(engine):
    figures = all_well(measure(engine, "storm", *"-n 200 --waves 2 --rest 300ms".split()))
    assert figures["ready"] == 200 and figures["seconds"] > 0
    percentiles_rise(figures, "connect")


def test_soak_sees_the_memory(engine):
    # So short a time says nothing about growth.
    watched = ("--server-pid", engine.process.pid, "--slope-max", 1e9)
    ran = measure(engine, "soak", "-n", 40, "--time", "6s", *CHAT, *watched)
    figures = all_well(ran)
    assert figures["user_mib_per_hour"] is not None
    assert any("ten minutes" in note for note in ran.said["notes"])


def test_a_million_in_small(engine):
    small = "-n 2000 --ping-interval 2s --rate 2000".split()
    ran = measure(engine, "million", *small, "--server-pid", engine.process.pid)
    figures = ran.figures
    assert (figures["ready"], figures["refused"], figures["missing"]) == (2000, 0, 0)
    assert [figures[key] for key in VERDICTS] == [0] * len(VERDICTS)
    assert figures["pings"] >= 2000 * 5 and figures["pings_unanswered"] == 0
    assert figures["user_bytes_per_connection"] > 0
    # What costs and how late is the machine's affair here; what must arrive is not.
    machine = {"user_bytes", "kernel_bytes", "user_share_kept", "ping_us", "latency_p99_us"}
    assert set(ran.wrong()) <= machine, ran.wrong()
    assert ran.code == (1 if ran.wrong() else 0)


def test_a_seed_makes_people_do_the_same(engine):
    """Not to the message: what is due is, when it is sent and arrives is the machine's affair."""
    chat = ("chat", "-n", 40, "--seconds", "2s", "--rings", 1, *CHAT, "--seed", 7)
    one, other = (measure(engine, *chat).figures["reconnects"] for _ in range(2))
    assert abs(one - other) <= 4, (one, other)


def test_a_report_needs_nothing_else(engine, tmp_path):
    page = tmp_path / "report.html"
    ran = measure(engine, "fanout", *STEADY, "--report", page)
    all_well(ran)
    html = page.read_text()
    assert html.lower().startswith("<!doctype html>") and "</html>" in html
    assert "<svg" in html and "fanout" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)
    assert not re.search(r"""<(?:link|iframe|img)\b|@import|url\(\s*["']?http""", html)


# -- That its checks can fail ---------------------------------------------------------------------


def faulty(engine, fault, *arguments, workload="fanout", load_=GENTLE):
    """A run through a fault. Its figures, once it has failed with status 1."""
    with Between(engine, fault) as between:
        ran = measure(between, workload, *load_, *arguments)
    assert fault.done, "the fault did not happen"
    assert ran.code == 1 and ran.said["ok"] is False, (ran.code, ran.figures, ran.err)
    return ran.figures


def counted(figures, *keys):
    return {key: figures[key] for key in (*VERDICTS, *keys) if figures[key]}


@pytest.mark.parametrize("protocol", ["socketio", "ws"])
def test_a_proxy_without_a_fault_changes_nothing(engine, protocol):
    with Between(engine, lambda _, text: [text]) as between:
        figures = all_well(measure(between, "fanout", *GENTLE, "--protocol", protocol))
    assert figures["missing"] == 0 and figures["sent"] >= 45


@pytest.mark.parametrize("protocol", ["socketio", "ws"])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("drop", {"gaps": 1, "missing": 1}),
        ("duplicate", {"duplicates": 1}),
        # The later one comes too early, which is a gap, then the other comes too late.
        ("swap", {"gaps": 1, "reordered": 1}),
        ("misdirect", {"foreign": 1, "missing": 1}),
    ],
)
def test_one_fault_is_counted_as_what_it_is(engine, protocol, kind, expected):
    figures = faulty(engine, Once(kind), "--protocol", protocol)
    if kind == "misdirect":
        figures = figures | {"gaps": 0}  # whether its number counts is no matter
    assert counted(figures, "missing") == expected


def test_what_comes_again_later_is_wrong(engine):
    figures = faulty(engine, Once("repeat_late"))
    assert figures["duplicates"] + figures["reordered"] == 1 and figures["gaps"] == 0


def test_messages_that_are_missing_at_the_end_are_missed(engine):
    """No later number shows the gap: what was sent does."""
    fault = Once("mute")
    figures = faulty(engine, fault)
    assert counted(figures, "missing") == {"missing": fault.done}


def test_chat_misses_the_end_too(engine):
    """By the numbers that the senders were told."""
    fault = Once("mute")
    quiet = "-n 10 --messages 1/s --typing 0 --leaves 0 --reconnects 0 --seconds 3s".split()
    figures = faulty(engine, fault, workload="chat", load_=quiet)
    assert counted(figures) == {"gaps": fault.done}


def test_an_answer_that_says_no_is_an_error(engine):
    figures = faulty(engine, OnceAnswer("refuse", at=2), "--answers")
    assert counted(figures, "missing") == {"errors": 1}


def test_a_connection_that_ends_is_lost(engine):
    figures = faulty(engine, Once("cut"))
    assert (figures["lost"], figures["ready"]) == (1, 9)


def test_faults_in_the_closed_loop_end_the_run_in_time(engine):
    closed = "-n 10 --rooms 2 --closed --seconds 1s --warmup 200ms".split()
    figures = faulty(engine, Once("drop"), load_=closed)
    assert figures["missing"] == 1


def test_without_numbers_of_the_server_doubles_and_losses_are_seen():
    plain = (*GENTLE, "--protocol", "plain", "--path", "/room/{room}", "--metrics", "off")
    for times, expected in [(1, {}), (2, {"duplicates": 2}), (0, {"missing": 2})]:
        # The third member of each of the two rooms, its eighth message.
        with RoomServer(lambda who, n, t=times: t if (who, n) == (2, 8) else 1) as server:
            ran = measure(server, "fanout", *plain)
        assert counted(ran.figures, "missing") == expected
        assert ran.code == (1 if expected else 0)


# -- A server that is away, full or dying ---------------------------------------------------------


@pytest.mark.parametrize("workload", ["connect", "fanout", "chat", "storm", "soak"])
def test_a_server_that_is_not_there(workload):
    ran = load(workload, "--url", f"ws://127.0.0.1:{free_port()}", "-n", 5, seconds=30)
    assert ran.code in (1, 2)
    assert "refused" in (ran.out + ran.err).lower()


def test_a_host_that_has_no_address():
    ran = load("connect", "--url", "ws://nowhere.invalid:5000", "-n", 5)
    assert ran.code == 2 and "nowhere.invalid" in ran.err


def test_a_server_that_dies(settings):
    engine = Engine(**settings)
    try:
        url = engine.url.replace("http", "ws")
        run = start("fanout", "--url", url, "--json", *"-n 100 --rate 1000 --seconds 5s".split())
        time.sleep(3)
        engine.process.kill()
        ran = finish(run)
    finally:
        engine.kill()
    assert ran.code == 1 and ran.figures["lost"] == 100 and ran.figures["ready"] == 0


def test_a_server_that_refuses(settings):
    engine = Engine(**settings | {"MAX_CONNECTIONS_PER_IP": "10"})
    try:
        # Its metrics are asked for over a connection, too.
        ran = measure(engine, "connect", "-n", 30, "--metrics", "off")
    finally:
        engine.stop()
    assert ran.code == 1 and (ran.figures["ready"], ran.figures["refused"]) == (10, 20)
    assert ran.wrong() == {"ready": 10, "refused": 20}
    assert ran.figures["seconds"] < 10  # all have had their answer: there is nothing to wait for


def test_a_rate_limit_is_no_mystery(settings):
    engine = Engine(**settings | {"MESSAGE_RATE_LIMIT": "1/m"})
    try:
        ran = measure(engine, "fanout", *STEADY, "--answers")
    finally:
        engine.stop()
    assert ran.code == 1 and ran.figures["missing"] > 0


def test_ending_it_early_still_tells_what_was_seen(engine):
    url = engine.url.replace("http", "ws")
    run = start("fanout", "--url", url, "--json", *"-n 20 --rate 400 --seconds 60s".split())
    time.sleep(4)
    run.send_signal(signal.SIGINT)
    ran = finish(run, seconds=20)
    assert ran.figures["ready"] == 20 and ran.figures["sent"] > 0


# -- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "Usage"),
        ("conect", "connect"),
        ("connect --nonsense", "--nonsense"),
        ("connect -n 0", "connections"),
        ("connect -n many", "--connections"),
        ("connect -n 10 --rooms 20", "no empty room"),
        ("connect --rings 0", "--rings"),
        ("connect --url wss://127.0.0.1:5000", "ws://HOST:PORT"),
        ("connect --url ws://127.0.0.1", "ws://HOST:PORT"),
        ("connect --targets here", "--targets"),
        ("connect --protocol soap", "socketio"),
        ("fanout --seconds 5d", "ms, s, m and h"),
        ("fanout --rate 0", "--rate"),
        ("connect --window 0", "--window"),
        ("fanout --closed --rate 5", "--rate"),
        ("fanout --closed --in-flight 17", "1..=16"),
        ("fanout --in-flight 2", "--closed"),
        ("chat --messages 2/d", "s, m and h"),
    ],
)
def test_bad_arguments(arguments, says):
    ran = load(*arguments.split(), seconds=10)
    assert ran.code == 2 and ran.out == "", (ran.code, ran.out)
    assert says in ran.err, ran.err


def test_help_names_every_option_of_a_workload():
    ran = load("fanout", "--help")
    assert ran.code == 0
    for option in ("--url", "--rate", "--closed", "--spin", "--report", "--json", "--server-pid"):
        assert option in ran.out
