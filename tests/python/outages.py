"""What an engine must do while its store fails, whatever the store and however it fails.

`check_memory` and `check_store` run one outage each at their ACK_LEVEL, given how to begin and to
end it. Never knows what the store is.
"""

import time

from durable import stored
from engine import eventually
from plain import Plain

COUNT = 20
# An append is waited for 10 s, and the store may fail for 5 s before anybody is told.
TOLD_S_MAX = 20
# The same on a machine that is busy with other things.
SLACK = 2
RECOVERED_S_MAX = 60


def join(client, room):
    client.ok("join", {"room": room})


def alerts(engine):
    return {it["name"]: it for it in engine.json("/alerts")["alerts"]}


def health(engine):
    return engine.json("/health")["status"], engine.json("/health")["store"]


def shows_the_outage(engine):
    """In /health, /metrics and /alerts."""
    assert health(engine) == ("degraded", "down")
    assert engine.get("/ready")[0] == 200, "a restart would lose what waits"
    store = engine.json("/metrics")["store"]
    assert store["up"] is False and store["downSeconds"] >= 0
    assert "store_down" in alerts(engine)
    alert = alerts(engine)["store_down"]
    assert (alert["severity"], alert["threshold"]) == ("critical", 0)


def shows_none(engine):
    assert health(engine) == ("ok", "ok")
    store = engine.json("/metrics")["store"]
    assert (store["up"], store["downSeconds"]) == (True, 0)
    assert (store["queuedMessages"], store["queuedBytes"]) == (0, 0)


def alert_is_over(engine):
    def over():
        assert "store_down" not in alerts(engine)

    eventually(over, 40)


def check_memory(engine, begin, end, room="memory", body="x"):
    """Acknowledgements and deliveries go on, and what was acknowledged is kept in the end."""
    with Plain(engine.port, "ada") as ada, Plain(engine.port, "bob") as bob:
        join(ada, room), join(bob, room)
        acked = [ada.write(room, [0, body], "before")]
        begin()
        acked += [ada.write(room, [n, body], f"c{n}") for n in range(1, COUNT)]
        eventually(lambda: shows_the_outage(engine), 40)
        assert engine.json("/metrics")["store"]["queuedMessages"] > 0
        acked += [ada.write(room, [n, body], f"c{n}") for n in range(COUNT, 2 * COUNT)]
        again = ada.write(room, "again", "c5")
        assert (again["id"], again["seq"]) == (acked[5]["id"], 6)

        def all_came():
            assert [it[0] for it in bob.bodies(room)] == list(range(2 * COUNT))

        eventually(all_came, 20)
        ada.ok("leave", {"room": room}), bob.ok("leave", {"room": room})
        # Nobody is in the room any more, and what waits for the store stays.
        late = ada.ok("join", {"room": room, "since": 1})
        assert [it["seq"] for it in late["messages"]] == list(range(2, 2 * COUNT + 1))
        assert late["complete"] is True
        acked.append(ada.write(room, [2 * COUNT, body], "last"))
        end()
        eventually(lambda: shows_none(engine), RECOVERED_S_MAX)
    check_kept(engine, room, acked)
    assert engine.json("/metrics")["store"]["retries"] > 0


def check_store(engine, begin, end, room="store", body="x", meanwhile=None):
    """What was taken is delivered, its writers hear `unavailable` in time and never `ok`; in the
    end all of it is kept once, and repetitions are answered with it.
    """
    with Plain(engine.port, "ada") as ada, Plain(engine.port, "bob") as bob:
        join(ada, room), join(bob, room)
        acked = [ada.write(room, [0, body], "c0")]
        begin()
        begun = time.monotonic()
        numbers = range(1, COUNT + 1)
        waiting = [
            ada.say("message", {"room": room, "body": [n, body], "clientId": f"c{n}"})
            for n in numbers
        ]

        def taken_came():
            assert [it[0] for it in bob.bodies(room)] == [0, *numbers]

        eventually(taken_came, 20)
        while not all(it.done() for it in waiting):
            assert time.monotonic() < begun + SLACK * TOLD_S_MAX, "nobody is told"
            (meanwhile or time.sleep)(0.2)
        told_s = time.monotonic() - begun
        print(f"{room}: told after {told_s:.1f} s")
        codes = [it.result()["ok"] or it.result()["error"]["code"] for it in waiting]
        assert codes == ["unavailable"] * COUNT, codes
        ada.refused("message", {"room": room, "body": "no", "clientId": "no"}, "unavailable")
        eventually(lambda: shows_the_outage(engine), 20)
        end()
        eventually(lambda: shows_none(engine), RECOVERED_S_MAX)
        for n in numbers:
            acked.append(ada.write(room, [n, body], f"c{n}"))
            assert acked[-1]["seq"] == n + 1, "a repetition is the first"
        acked.append(ada.write(room, [COUNT + 1, body], "after"))
        assert len(bob.bodies(room)) >= COUNT + 1
    check_kept(engine, room, acked)


def check_kept(engine, room, acked):
    """Exactly these, by rising number."""
    kept = stored(engine, room)
    assert [it["seq"] for it in kept] == list(range(1, len(acked) + 1))
    assert [it["id"] for it in kept] == [it["id"] for it in acked]
    assert [it["body"][0] for it in kept] == list(range(len(acked)))
