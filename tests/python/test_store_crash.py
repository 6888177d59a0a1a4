"""Proves: what was acknowledged at ACK_LEVEL=store survives SIGKILL of the engine at any moment,
exactly once, with its id and its number, and order and numbers go on; and that the checker which
says so sees each kind of fault.
"""

import copy
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest
from durable import KINDS, Publisher, Write, judge, stored
from engine import BIN, DEFAULTS, Engine, free_port
from plain import Plain

ROUNDS = 30
SECONDS_MAX = 50
SEED = int(os.environ.get("SEED", 0)) or random.randrange(1 << 32)


def summary(faults):
    return {kind: len(found) for kind, found in faults.items()}


def finished(publishers):
    for it in publishers:
        it.enough()
    for it in publishers:
        it.join(60)
        assert not it.is_alive(), f"{it.user} still waits for {len(it.again)} answers"


def again_is_the_same(engine, writes, rnd):
    """Repetitions of any age are answered as at first, and not delivered."""
    with Plain(engine.port, "late") as client:
        for write in rnd.sample(writes, min(40, len(writes))):
            client.ok("join", {"room": write.room})
            answer = client.write(write.room, write.body, write.client_id)
            assert (answer["id"], answer["seq"]) == (write.id, write.seq), (write, answer)
        assert client.messages == []


def kill_while_starting(env, seconds):
    """While it opens the store, or just afterwards."""
    settings = {"PATH": os.environ["PATH"]} | DEFAULTS | env
    process = subprocess.Popen([BIN], env=settings, stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_by_kill(tmp_path):
    print(f"SEED={SEED}")
    rnd = random.Random(SEED)
    rooms = [f"kill {number}" for number in range(5)]
    env = {"DATA_DIR": str(tmp_path), "PORT": str(free_port())}
    env |= {"ACK_LEVEL": "store", "HISTORY_SIZE": "5", "LOG": "warn"}
    engine = Engine(**env)
    publishers = [Publisher(engine.port, f"p{n}", rooms, SEED) for n in range(6)]
    for it in publishers:
        it.start()
    deadline, rounds = time.monotonic() + SECONDS_MAX, 0
    while rounds < ROUNDS and time.monotonic() < deadline:
        time.sleep(rnd.choice([0.05, 0.4, 0.8, 1.5]) * rnd.random())
        engine.process.send_signal(signal.SIGKILL)
        engine.process.wait()
        engine.kill()
        if rounds % 3 == 0:
            kill_while_starting(env, rnd.random() * 0.08)
        engine, rounds = Engine(**env), rounds + 1
    finished(publishers)
    skipped = engine.json("/metrics")["store"]["lookupsFailed"]
    writes = [write for it in publishers for write in it.writes]
    faults = judge(writes, {room: stored(engine, room) for room in rooms})
    repeated = sum(write.tries > 1 for write in writes)
    print(f"{rounds} kills, {len(writes)} messages, {repeated} repeated, {summary(faults)}")
    assert not any(it.faults for it in publishers), [it.faults for it in publishers]
    assert not any(faults.values()), (SEED, skipped, {k: v[:5] for k, v in faults.items()})
    assert rounds >= 15 and repeated > 0 and len(writes) > 200, (rounds, repeated, len(writes))
    again_is_the_same(engine, writes, rnd)
    engine.stop()
    with sqlite3.connect(f"file:{tmp_path}/throng.db?mode=ro", uri=True) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert store.execute("SELECT count(*) FROM messages").fetchone() == (len(writes),)


def a_history():
    """Ten messages of one writer, each sent after the one before was acknowledged, and the room."""
    writes = [
        Write(f"c{n}", "room", {"n": n}, sent=2 * n, tries=1, acked=2 * n + 1, id=f"m{n}", seq=n)
        for n in range(1, 11)
    ]
    kept = [{"id": it.id, "seq": it.seq, "clientId": it.client_id, "body": it.body}
            for it in writes]
    return writes, kept


def lose(writes, kept):
    del kept[-1]


def lose_in_the_middle(writes, kept):
    del kept[4]


def repeat(writes, kept):
    kept.append(kept[3] | {"seq": 11, "id": "m11"})


def repeat_without_its_id(writes, kept):
    kept.append({"seq": 11, "id": "m11", "body": kept[3]["body"]})


def swap(writes, kept):
    for first, second in [(kept[3], kept[7])]:
        first["seq"], second["seq"] = second["seq"], first["seq"]
    kept.sort(key=lambda it: it["seq"])
    for write in writes:
        write.seq = next(it["seq"] for it in kept if it["id"] == write.id)


def invent(writes, kept):
    kept.append({"seq": 11, "id": "m11", "clientId": "c99", "body": 1})


def rename(writes, kept):
    kept[5]["id"] = "other"


def garble(writes, kept):
    kept[5]["body"] = {"n": "?"}


@pytest.mark.parametrize(
    "fault, kinds",
    [
        (lambda *_: None, set()),
        (lose, {"lost"}),
        (lose_in_the_middle, {"lost", "gap"}),
        (repeat, {"duplicate"}),
        (repeat_without_its_id, {"duplicate", "phantom"}),
        (swap, {"reordered"}),
        (invent, {"phantom"}),
        (rename, {"changed"}),
        (garble, {"phantom"}),
    ],
)
def test_the_checker_sees(fault, kinds):
    writes, kept = copy.deepcopy(a_history())
    fault(writes, kept)
    faults = judge(writes, {"room": kept})
    assert {kind for kind in KINDS if faults[kind]} == kinds, faults
