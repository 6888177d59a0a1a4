"""Proves: a stock client that lost its connection comes back by itself and catches up."""

import queue
import threading


def test_comes_back_and_catches_up(connect):
    keeper = connect("keeper")
    traveller = connect("traveller", reconnection=True, reconnection_delay=0.1)
    for client in (keeper, traveller):
        assert client.call("join", "trip", timeout=5)["ok"]
    for n in range(3):
        keeper.call("message", {"room": "trip", "body": n}, timeout=5)
    gone, back = threading.Event(), threading.Event()
    traveller.on("disconnect", lambda *_: gone.set())
    traveller.on("connect", back.set)
    first = traveller.get_sid()
    traveller.eio.ws.sock.close()
    assert gone.wait(5)
    for n in range(3, 6):
        keeper.call("message", {"room": "trip", "body": n}, timeout=5)
    assert back.wait(10)
    assert traveller.get_sid() != first
    reply = traveller.call("join", {"room": "trip", "since": 3}, timeout=5)
    assert [m["body"] for m in reply["messages"]] == [3, 4, 5] and reply["complete"] is True


def test_disconnect_and_connect_again(engine, connect):
    client = connect("again")
    arrived = queue.Queue()
    client.on("message", arrived.put)
    for _ in range(3):
        assert client.call("join", "again", timeout=5)["count"] == 1
        assert client.call("message", {"room": "again", "body": "x"}, timeout=5)["ok"]
        arrived.get(timeout=5)
        assert client.call("leave", "again", timeout=5)["ok"]
        client.disconnect()
        client.connect(engine.url, transports=["websocket"], auth={"username": "again"})
