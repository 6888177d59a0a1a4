"""Proves: many stock asyncio clients in one room agree on the order, and come back after losing the
connection.
"""

import asyncio

import socketio
from engine import Engine


async def open_client(engine, name, **options):
    client = socketio.AsyncClient(reconnection=options.pop("reconnection", False), **options)
    await client.connect(engine.url, transports=["websocket"], auth={"username": name})
    return client


async def ok(client, event, data):
    reply = await client.call(event, data, timeout=10)
    assert reply["ok"] is True, reply
    return reply


def test_one_order_for_all(engine):
    async def run():
        clients = await asyncio.gather(*(open_client(engine, f"u{n}") for n in range(20)))
        seen = [[] for _ in clients]
        done = [asyncio.Event() for _ in clients]
        for n, client in enumerate(clients):

            def on_message(event, n=n):
                seen[n].append(event)
                if len(seen[n]) == 200:
                    done[n].set()

            client.on("message", on_message)
            await ok(client, "join", {"room": "async", "presence": False})

        async def publish(client, p):
            for n in range(50):
                await ok(client, "message", {"room": "async", "body": [p, n]})

        await asyncio.gather(*(publish(client, p) for p, client in enumerate(clients[:4])))
        await asyncio.wait_for(asyncio.gather(*(d.wait() for d in done)), 20)
        assert [m["seq"] for m in seen[0]] == list(range(1, 201))
        for own in seen:
            assert own == seen[0]
        for p in range(4):
            assert [m["body"][1] for m in seen[0] if m["body"][0] == p] == list(range(50))
        await asyncio.gather(*(client.disconnect() for client in clients))

    asyncio.run(run())


def test_binary(engine):
    async def run():
        ada, bob = await open_client(engine, "ada"), await open_client(engine, "bob")
        got = asyncio.get_running_loop().create_future()
        bob.on("message", lambda event: got.set_result(event))
        for client in (ada, bob):
            await ok(client, "join", "async-bytes")
        await ok(
            ada, "message", {"room": "async-bytes", "body": [b"abc", "text", b"\xff" * 30_000]}
        )
        assert (await asyncio.wait_for(got, 5))["body"] == [b"abc", "text", b"\xff" * 30_000]
        await ada.disconnect()
        await bob.disconnect()

    asyncio.run(run())


def test_reconnects_to_the_next_process():
    async def run(first):
        options = {"reconnection": True, "reconnection_delay": 0.1, "reconnection_delay_max": 0.3}
        clients = [await open_client(first, f"u{n}", **options) for n in range(5)]
        for client in clients:
            await ok(client, "join", "again")
        back = [asyncio.Event() for _ in clients]
        for client, event in zip(clients, back, strict=True):
            client.on("connect", event.set)
        await asyncio.to_thread(first.stop)
        second = await asyncio.to_thread(Engine, PORT=str(first.port))
        try:
            await asyncio.wait_for(asyncio.gather(*(event.wait() for event in back)), 20)
            for client in clients:
                await ok(client, "join", "again")
                await client.disconnect()
            await asyncio.to_thread(second.stop)
        finally:
            second.kill()

    first = Engine()
    try:
        asyncio.run(run(first))
    finally:
        first.kill()
