"""The scripts of the differential suite on python-socketio's asyncio client.

    differential-client.py URL TRANSPORTS          runs every script, prints {script: log} as JSON
    differential-client.py URL TRANSPORTS --death  connects, prints `ready`, prints its log once it
                                                   has lost its server

A log is what the handlers saw: one lane for each namespace, values as in differential-clients.mjs.
"""

import asyncio
import hashlib
import json
import sys

import socketio

WAIT_S_MAX = 20
LONG = 200
MAX = 1_000_000

EVENTS = [
    (),
    (None,),
    (0, -1, 1.5, 2**53 - 1),
    (True, False, ""),
    ([], {}, [[]], [{}]),
    ({"a": {"b": [{"c": None, "d": [1, [2, [3]]]}]}, "z": 1},),
    ("é", "日本語", "😀", "\u2028\u2029", "\0\x01\x1e", '"\\/\b\f\n\r\t'),
    ("x" * 5000, "ü" * 5000),
    (list(range(1000)),),
]
BINARIES = [
    (bytes(range(4)),),
    (b"",),
    (b"\1", b"\2\3"),
    ({"a": b"abc", "b": [{"c": b"defg"}, "text", b"hijkl"]},),
    ("text", bytes(5000), 1, {"deep": {"deeper": [bytes(2000)]}}),
]


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return f"<binary {len(value)} {hashlib.sha1(value).hexdigest()[:12]}>"
    if isinstance(value, str) and len(value) > LONG:
        return f"<text {len(value)} {hashlib.sha1(value.encode()).hexdigest()[:12]}>"
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


class Client:
    """One script's client; everything it lives through is recorded."""

    def __init__(self, url, transports):
        self.url, self.transports = url, transports
        self.lanes = {}
        self.changed = asyncio.Event()
        self.sio = socketio.AsyncClient(reconnection=False)

    def add(self, lane, *entry):
        self.lanes.setdefault(lane, []).append(plain(entry))
        self.changed.set()

    async def seen(self, lane, first, times=1):
        async def wait():
            while sum(e[0] == first for e in self.lanes.get(lane, [])) < times:
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), WAIT_S_MAX)
        except asyncio.TimeoutError:
            self.add(lane, "never", first, times)

    def record(self, namespace):
        on = self.sio.on
        on("connect", lambda: self.add(namespace, "connect"), namespace=namespace)
        on("disconnect", lambda why: self.add(namespace, "disconnect", why), namespace=namespace)
        refused = "connect_error"
        on(refused, lambda *a: self.add(namespace, refused, *a), namespace=namespace)
        on("*", lambda event, *a: self.add(namespace, event, *a), namespace=namespace)

    async def open(self, namespaces=("/",), **options):
        for namespace in namespaces:
            self.record(namespace)
        options = {"wait_timeout": WAIT_S_MAX, **options}
        await self.sio.connect(
            self.url, transports=self.transports, namespaces=list(namespaces), **options
        )
        for namespace in namespaces:
            await self.seen(namespace, "auth")
        self.add("engine", "transport", self.sio.transport())

    async def fence(self, namespace="/"):
        reply = await self.sio.call("message-with-ack", "fence", namespace, timeout=WAIT_S_MAX)
        self.add(namespace, "fence", reply)


async def connect(client):
    await client.open()
    client.add("/", "ids differ", client.sio.sid != client.sio.get_sid())


async def connect_with_auth(client):
    await client.open(auth={"token": "x", "deep": {"list": [1, None, "é"]}})
    await client.fence()


async def second_namespace(client):
    await client.open(("/", "/custom"), auth={"n": 1})
    for n in range(10):  # more than 16 at once and this client drops Node, see differences.mjs
        await client.sio.emit("message", n, namespace="/custom" if n % 2 else "/")
    await client.fence()
    await client.fence("/custom")


async def unknown_namespace(client):
    client.record("/nowhere")
    try:
        await client.open(("/nowhere",))
    except socketio.exceptions.ConnectionError as error:
        client.add("/nowhere", "refused", str(error))


async def events(client):
    await client.open()
    for n, args in enumerate(EVENTS):
        await client.sio.emit("message", args)
        await client.seen("/", "message-back", n + 1)
    await client.sio.emit("nobody", 1)
    await client.fence()


async def binary(client):
    await client.open()
    for n, args in enumerate(BINARIES):
        await client.sio.emit("message", args)
        await client.seen("/", "message-back", n + 1)


async def acks(client):
    await client.open()
    for args in EVENTS + BINARIES:
        reply = await client.sio.call("message-with-ack", args, timeout=WAIT_S_MAX)
        client.add("/", "ack", reply)
    try:
        await client.sio.call("nobody", 1, timeout=0.2)
    except socketio.exceptions.TimeoutError:
        client.add("/", "late")
    await client.fence()


async def many_messages(client):
    await client.open()
    for n in range(1000):
        await client.sio.emit("message", n)
    ended = asyncio.create_task(client.seen("/", "disconnect"))
    done = asyncio.create_task(client.seen("/", "message-back", 1000))
    await asyncio.wait([ended, done], return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, done):
        task.cancel()
    client.lanes.pop("engine")


async def large(client):
    await client.open()
    await client.sio.emit("message", "x" * (MAX - 100))
    await client.seen("/", "message-back")
    await client.sio.emit("message", bytes(700_000))
    await client.seen("/", "message-back", 2)
    await client.sio.emit("message", "x" * (MAX + 100_000))
    await client.seen("/", "disconnect")


async def idle(client):
    """Three pings, and what they keep alive."""
    await client.open()
    await asyncio.sleep(3.5)
    await client.fence()


async def disconnect(client):
    await client.open()
    await client.sio.emit("message", "last words")
    await client.seen("/", "message-back")
    await client.sio.disconnect()
    await client.seen("/", "disconnect")


SCRIPTS = {
    "connect": connect,
    "connect with auth": connect_with_auth,
    "second namespace": second_namespace,
    "unknown namespace": unknown_namespace,
    "events": events,
    "binary": binary,
    "acks": acks,
    "many messages": many_messages,
    "large payloads": large,
    "idle": idle,
    "disconnect": disconnect,
}


async def run(url, transports, script):
    client = Client(url, transports)
    try:
        await script(client)
    except Exception as error:  # the log of a script that failed says so
        client.add("script", "failed", type(error).__name__, str(error))
    lanes = json.loads(json.dumps(client.lanes))
    await client.sio.disconnect()
    return lanes


async def die(client):
    await client.open(("/", "/custom"))
    print("ready", flush=True)
    await client.seen("/", "disconnect")
    await client.seen("/custom", "disconnect")


async def main(url, transports, *flags):
    transports = transports.split(",")
    if "--death" in flags:
        logs = await run(url, transports, die)
    else:
        logs = dict(
            zip(
                SCRIPTS,
                await asyncio.gather(*(run(url, transports, s) for s in SCRIPTS.values())),
            )
        )
    print(json.dumps(logs), flush=True)


asyncio.run(main(*sys.argv[1:]))
