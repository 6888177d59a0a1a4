"""Proves: while the embedded store fails - another process holds its lock, the disk is full - the
engine delivers and says what it cannot promise, its memory stays bounded, and nothing that it took
is lost once the store is back. /health, /alerts and /metrics tell of it.
"""

import os
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from engine import Engine, eventually, free_port
from outages import (
    COUNT,
    alert_is_over,
    check_kept,
    check_memory,
    check_store,
    health,
    join,
    shows_none,
)
from plain import Plain
from test_api_store import KEY, configure, configured, refused

BODY_BYTES = 60 * 1024
# What may wait for the store, what the recent messages take, and as much again for copies of it.
MEMORY_KB_MAX = 2 * (256 + 128) * 1024


class Locked:
    """Another process's write lock on the store's file."""

    def __init__(self, folder):
        self.store = sqlite3.connect(
            folder / "throng.db", isolation_level=None, check_same_thread=False, timeout=30
        )

    def begin(self):
        self.store.execute("BEGIN IMMEDIATE")

    def end(self):
        self.store.execute("ROLLBACK")


@pytest.fixture
def locked(tmp_path):
    made = []

    def lock():
        made.append(Locked(tmp_path))
        return made[-1]

    yield lock
    for it in made:
        it.store.close()


@pytest.fixture
def start(tmp_path):
    engines = []
    port = str(free_port())

    def begin(**env):
        engines.append(Engine(**{"DATA_DIR": str(tmp_path), "PORT": port} | env))
        return engines[-1]

    yield begin
    for it in engines:
        it.kill()


def test_memory_acks_go_on_without_the_store(start, locked):
    engine = start(ACK_LEVEL="memory", HISTORY_SIZE="5")
    lock = locked()
    check_memory(engine, lock.begin, lock.end)
    alert_is_over(engine)
    engine.stop()


def test_store_acks_say_unavailable(start, locked):
    engine = start(ACK_LEVEL="store", HISTORY_SIZE="5")
    lock = locked()
    check_store(engine, lock.begin, lock.end)
    engine.stop()


def test_a_store_that_only_reads_is_down_too(start, locked):
    """Reads that succeed say nothing of writes: their writers are told in the same time."""
    engine = start(ACK_LEVEL="store", HISTORY_SIZE="5")
    with Plain(engine.port, "reader") as reader:
        join(reader, "old")
        for number in range(30):
            reader.write("old", number)

        def reads(pause_s):
            page = reader.ok("history", {"room": "old", "before": 20, "limit": 5})
            assert len(page["messages"]) == 5
            time.sleep(pause_s)

        lock = locked()
        check_store(engine, lock.begin, lock.end, meanwhile=reads)
    engine.stop()


def test_settings_that_cannot_be_kept_are_refused(start, locked):
    engine = start(API_KEY=KEY)
    configured(engine, "door", {"capacity": 5})
    lock = locked()
    lock.begin()
    refused(configure(engine, "door", {"capacity": 1}), 503, "unavailable")
    refused(configure(engine, "other", {"private": True}), 503, "unavailable")
    lock.end()
    eventually(lambda: shows_none(engine), 60)
    assert configured(engine, "door", {})["settings"]["capacity"] == 5
    assert configured(engine, "other", {})["settings"]["private"] is False
    engine.stop()


def test_what_waits_is_kept_by_a_shutdown(start, locked):
    engine = start(ACK_LEVEL="memory", DRAIN_TIMEOUT="10s")
    lock = locked()
    with Plain(engine.port, "ada") as ada:
        join(ada, "late")
        acked = [ada.write("late", [0], "c0")]
        lock.begin()
        acked += [ada.write("late", [n], f"c{n}") for n in range(1, 50)]
        engine.terminate()
        time.sleep(1)  # So that it drains while the store fails; it may not have begun to.
        lock.end()
    assert engine.process.wait(20) == 0
    engine = start()
    check_kept(engine, "late", acked)
    engine.stop()


def test_a_shutdown_does_not_wait_for_ever(start, locked):
    """What was not acknowledged as kept may be lost, and nobody is told that it was kept."""
    engine = start(ACK_LEVEL="store", DRAIN_TIMEOUT="3s")
    lock = locked()
    with Plain(engine.port, "ada") as ada:
        join(ada, "late")
        acked = [ada.write("late", [0], "c0")]
        lock.begin()
        waiting = [ada.say("message", {"room": "late", "body": [n]}) for n in range(1, 10)]
        engine.terminate()
        code = engine.process.wait(20)
        print(f"exit code {code}")
        told = [it.exception(10) or it.result()["ok"] for it in waiting]
        assert True not in told, told
    assert "panicked" not in engine.output()
    lock.end()
    engine = start()
    check_kept(engine, "late", acked)
    engine.stop()


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root for a disk of its own")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if (ran := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"no disk of its own: {ran.stderr}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


class Full:
    """A file that takes all that is left of a disk."""

    def __init__(self, folder):
        self.path = folder / "ballast"

    def begin(self):
        with open(self.path, "wb", buffering=0) as file:
            for size in (65536, 4096):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:
                    pass

    def end(self):
        self.path.unlink()


@pytest.mark.parametrize("level, check", [("memory", check_memory), ("store", check_store)])
def test_a_full_disk_loses_nothing(small_disk, start, level, check):
    engine = start(ACK_LEVEL=level, HISTORY_SIZE="5")
    full = Full(small_disk)
    # Greater than a page, so that what is left of the last one cannot hold it.
    check(engine, full.begin, full.end, body="x" * 5000)
    engine.process.kill()
    engine.process.wait()
    full.begin()
    engine = start(ACK_LEVEL=level)
    with Plain(engine.port, "late") as late:
        # What is there can be read, and the rest comes back by itself.
        assert late.ok("join", {"room": level, "since": 0})["lastSeq"] > COUNT
        full.end()
        eventually(lambda: shows_none(engine), 60)
        late.write(level, "on")
    with closing(sqlite3.connect(f"file:{small_disk}/throng.db?mode=ro", uri=True)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    engine.stop()


@pytest.mark.timeout(180)
def test_what_waits_for_the_store_is_bounded(start, locked, tmp_path):
    engine = start(ACK_LEVEL="memory", HISTORY_SIZE="5", OUTBOX_BYTES="64MiB")
    lock, body = locked(), "x" * BODY_BYTES
    rooms = [f"much {number}" for number in range(8)]
    acked, refused, most_kb = [], set(), 0
    with Plain(engine.port, "ada", timeout=60) as ada:
        for room in rooms:
            join(ada, room)
            acked.append(ada.write(room, 0)["id"])
        lock.begin()
        for number in range(8000):
            left = [it for it in rooms if it not in refused]
            if not left:
                break
            answers = [(room, ada.say("message", {"room": room, "body": body})) for room in left]
            for room, answer in answers:
                answer = answer.result(60)
                if answer["ok"]:
                    acked.append(answer["id"])
                else:
                    assert answer["error"]["code"] == "unavailable", answer
                    refused.add(room)
            ada.messages.clear()
            most_kb = max(most_kb, engine.memory_kb()) if number % 20 == 0 else most_kb
        assert refused == set(rooms), "there is no bound"
        most_kb = max(most_kb, engine.memory_kb())
        waiting = engine.json("/metrics")["store"]
        waiting_mib = waiting["queuedBytes"] >> 20
        print(f"{len(acked)} taken, {waiting_mib} MiB wait, {most_kb} KiB resident")
        assert 200 << 20 < waiting["queuedBytes"] <= (256 << 20) + 2 * 65536 * len(rooms)
        assert most_kb < MEMORY_KB_MAX
        lock.end()
        eventually(lambda: shows_none(engine), 90)
        for room in rooms:
            acked.append(ada.write(room, "after")["id"])
    assert engine.memory_kb() < MEMORY_KB_MAX
    engine.stop()
    with closing(sqlite3.connect(f"file:{tmp_path}/throng.db?mode=ro", uri=True)) as store:
        kept = [it for (it,) in store.execute("SELECT _id FROM messages")]
        gaps = store.execute(
            "SELECT room FROM messages GROUP BY room HAVING max(seq) != count(*)"
        ).fetchall()
    assert sorted(kept) == sorted(acked) and gaps == []


def test_a_file_that_vanishes_is_an_outage(start, tmp_path):
    """It would go on taking messages that nobody ever finds again."""
    engine = start(ACK_LEVEL="store")
    path, away = tmp_path / "throng.db", tmp_path / "away"
    check_store(engine, lambda: path.rename(away), lambda: away.rename(path))
    assert health(engine) == ("ok", "ok")
    engine.stop()
