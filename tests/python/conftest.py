"""Fixtures: one engine per test module, and a bystander that no test may disturb."""

import pytest
import socketio
from engine import Engine


@pytest.fixture(scope="module")
def settings():
    """Override in a module to start its engine differently."""
    return {}


@pytest.fixture(scope="module")
def engine(settings):
    running = Engine(**settings)
    yield running
    running.stop()


@pytest.fixture
def connect(engine):
    """Connects stock clients and closes them when the test ends."""
    clients = []

    def make(name=None, **options):
        client = socketio.Client(reconnection=options.pop("reconnection", False), **options)
        clients.append(client)
        auth = {"username": name} if name else None
        client.connect(engine.url, transports=["websocket"], auth=auth, wait_timeout=5)
        return client

    yield make
    for client in clients:
        client.shutdown() if hasattr(client, "shutdown") else client.disconnect()


@pytest.fixture(scope="module")
def bystander(engine):
    """A stock client in a room of its own, connected through all of a module's tests."""
    client = socketio.Client(reconnection=False)
    client.connect(engine.url, transports=["websocket"], auth={"username": "bystander"})
    assert client.call("join", "bystanders", timeout=5)["ok"]
    yield client
    client.disconnect()


@pytest.fixture
def undisturbed(engine, bystander):
    """After the test the process is up and the bystander still talks on its first connection."""
    sid = bystander.get_sid()
    before = bystander.call("message", {"room": "bystanders", "body": "before"}, timeout=5)["seq"]
    yield bystander
    assert engine.alive(), engine.output()
    assert bystander.connected and bystander.get_sid() == sid
    after = bystander.call("message", {"room": "bystanders", "body": "after"}, timeout=10)
    assert after["ok"] and after["seq"] == before + 1
    assert engine.get("/health")[0] == 200
