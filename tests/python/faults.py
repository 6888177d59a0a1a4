"""What stands in for a broken engine, so that a load generator's checks can be seen to fail.

`Between` passes everything between clients and the engine, but for the one fault it is given;
`RoomServer` is a bare WebSocket server whose messages carry no numbers of its own. Both run in a
thread of their own and count what they did.
"""

import asyncio
import re
import threading

from aiohttp import ClientSession, WSMsgType, web
from engine import free_port

MESSAGE = re.compile(r'42\["message"|\{"event":"message"')


class _Served:
    """An aiohttp application in a thread. `with` it: afterwards nothing of it is left."""

    def __init__(self):
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_):
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(15)

    async def _start(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self.serve)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()

    async def _end(self):
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class Between(_Served):
    """Between clients and the engine. `fault` sees every text that the engine sends to a client.

    `fault(texts, text)` gets the texts of that connection so far and the next, and returns those
    to be sent instead, or None to end the connection.
    """

    def __init__(self, engine, fault):
        super().__init__()
        self._engine = engine
        self._fault = fault

    async def serve(self, request):
        target = f"http://127.0.0.1:{self._engine.port}{request.path_qs}"
        async with ClientSession() as session:
            if request.headers.get("Upgrade", "").lower() != "websocket":
                async with session.get(target, headers={"Accept": "application/json"}) as answer:
                    body = await answer.read()
                    return web.Response(body=body, content_type="application/json")
            subprotocols = request.headers.get("Sec-WebSocket-Protocol", "").split()
            near = web.WebSocketResponse(autoping=False, protocols=subprotocols)
            await near.prepare(request)
            far = session.ws_connect(target, autoping=False, protocols=subprotocols, max_msg_size=0)
            async with far as far:
                up = asyncio.create_task(self._pass(near, far, lambda text: [text]))
                heard = []
                await self._pass(far, near, lambda text: self._judge(heard, text))
                up.cancel()
            await near.close()
            return near

    def _judge(self, heard, text):
        instead = self._fault(heard, text)
        heard.append(text)
        return instead

    @staticmethod
    async def _pass(source, target, through):
        try:
            async for message in source:
                if message.type == WSMsgType.TEXT:
                    texts = through(message.data)
                    if texts is None:
                        break
                    for text in texts:
                        await target.send_str(text)
                elif message.type == WSMsgType.PING:
                    await target.ping(message.data)
                elif message.type == WSMsgType.PONG:
                    await target.pong(message.data)
        except (ConnectionError, RuntimeError):
            pass
        await target.close()


class Once:
    """A fault that happens once: to the first connection that gets its message number `at`.

    `kind` says what: see the methods. `done` counts how often it happened.
    """

    def __init__(self, kind, at=8):
        self.kind = getattr(self, kind)
        self.at = at
        self.done = 0
        self.victim = None

    def __call__(self, heard, text):
        if not self._concerns(text):
            return [text]
        if self.victim is heard:
            return self.kind(text)
        seen = sum(1 for it in heard if self._concerns(it))
        if self.victim is not None or seen + 1 != self.at:
            return [text]
        self.victim = heard
        self.held = None
        return self.kind(text)

    @staticmethod
    def _concerns(text):
        return MESSAGE.match(text) is not None

    def _first(self):
        self.done += 1
        return self.done == 1

    def drop(self, text):
        """One message is lost."""
        return [] if self._first() else [text]

    def duplicate(self, text):
        """One comes twice."""
        return [text, text] if self._first() else [text]

    def swap(self, text):
        """Two change places."""
        if self._first():
            self.held = text
            return []
        held, self.held = self.held, None
        return [text, held] if held else [text]

    def repeat_late(self, text):
        """One comes again after the next."""
        if self._first():
            self.held = text
            return [text]
        held, self.held = self.held, None
        return [text, held] if held else [text]

    def mute(self, text):
        """This one and all after it are lost: no later number shows the gap."""
        self.done += 1
        return []

    def misdirect(self, text):
        """One comes with the stamp of another room."""
        other = re.sub(r"(~[0-9a-f]{16})[0-9a-f]{8}", r"\g<1>000000ff", text)
        return [other] if self._first() else [text]

    def cut(self, text):
        """The connection ends."""
        self._first()
        return None


class OnceAnswer(Once):
    """The same, with answers to messages."""

    @staticmethod
    def _concerns(text):
        return text.startswith("432[")

    def refuse(self, text):
        """One answer says no."""
        no = '432[{"ok":false,"error":{"code":"forbidden","message":"no"}}]'
        return [no] if self._first() else [text]


class RoomServer(_Served):
    """What is said on a path reaches everybody on it, the sender too, as it is: no numbers.

    `fault` is called for each delivery with the connection's index in its room and the count of
    messages to it so far, and returns how often it is delivered.
    """

    def __init__(self, fault=lambda index, count: 1):
        super().__init__()
        self._rooms = {}
        self._fault = fault

    async def serve(self, request):
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise web.HTTPNotFound
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        members = self._rooms.setdefault(request.path, {})
        members[socket] = [len(members), 0]
        try:
            async for message in socket:
                await self._deliver(members, message.data)
        finally:
            del members[socket]
        return socket

    async def _deliver(self, members, text):
        for socket, told in list(members.items()):
            told[1] += 1
            for _ in range(self._fault(*told)):
                await socket.send_str(text)
