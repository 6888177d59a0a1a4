"""A proxy between a host and its Redis that breaks what lies between them, while it runs.

Every byte it passes is Redis's or the host's own, in order; what it changes is when, and whether.
It reads the protocol along on both sides to know which answer belongs to which command. Methods
take effect for the connections that stand and those that come, until they are undone.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import deque

from engine import free_port
from fleet.resp import Push, Reader

CHUNK = 65536
# What one direction of a connection holds back before the proxy stops reading.
HELD_BYTES_MAX = 32 << 20
# Commands of RESP3 that are answered by pushes alone.
ANSWERED_BY_PUSHES = (b"SUBSCRIBE", b"SSUBSCRIBE", b"PSUBSCRIBE", b"UNSUBSCRIBE",
                      b"SUNSUBSCRIBE", b"PUNSUBSCRIBE")
RESET = struct.pack("ii", 1, 0)


class Trap:
    """Waits for one command; then its answer comes and the connection ends instead of it."""

    def __init__(self, word, containing):
        self.word, self.containing = word.upper(), containing
        self.caught, self.sprung = None, threading.Event()

    def fits(self, command):
        return command[0].upper() == self.word and any(self.containing in it for it in command)

    def wait(self, seconds=15):
        assert self.sprung.wait(seconds), (
            f"no {self.word} with {self.containing} was answered within {seconds} s"
        )
        return self.caught


class _Way:
    """One direction of a connection: what was read and waits to be written."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.reader = Reader()
        self.chunks, self.held_bytes = deque(), 0
        self.count = 0  # commands, or answers
        self.something = asyncio.Event()
        self.due = 0.0


class Connection:
    """One connection of a host to Redis."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.up, self.down = _Way(near, far), _Way(far, near)
        self.is_push = False  # has subscribed to something
        self.trap, self.trap_at = None, None
        self.ended = False

    def reset(self):
        """Both sides get RST, at once."""
        self.ended = True
        for it in (self.near, self.far):
            try:
                it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            except OSError:
                pass
            it.close()


class Proxy:
    """`with` it, or `close` it. Listens on `port`, passes to the target."""

    def __init__(self, target_port, target_host="127.0.0.1", seed=1, receive_bytes=None):
        self.target = (target_host, target_port)
        self.receive_bytes = receive_bytes
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.accepted = 0
        self._random = random.Random(seed)
        self._connections, self._tasks = set(), set()
        self._delay, self._rate, self._stopped = (0.0, 0.0), None, None
        self._trap, self._server = None, None
        self._loop = asyncio.new_event_loop()
        self._hole, self._garbage = None, None
        self._passing = asyncio.Event()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.accept()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # What a test does with it, from its own thread.

    def delay(self, seconds, jitter=0.0):
        """Each piece comes so much later, in either direction; order stays."""
        self._delay = (seconds, jitter)

    def blackhole(self, only=lambda connection: True):
        """Nothing passes, nothing is refused, nobody is told."""
        self._hole = only

    def heal(self, late=True):
        """Ends a blackhole. What was held comes late, as TCP's repetitions do; or never."""
        if not late:
            self.cut(self._hole or (lambda connection: False))
        self._hole = None
        self._do(self._passing.set)

    def refuse(self, seconds=None):
        """New connections are refused, those that stand are cut; until `accept`, or so long."""
        self._do(self._close_door)
        self.cut()
        if seconds is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._open_door)

    def accept(self):
        self._do(self._open_door)

    def cut(self, only=lambda connection: True):
        """Connections end with RST. How many did."""
        def reset():
            victims = [it for it in self._connections if not it.ended and only(it)]
            for it in victims:
                self._end(it)
            return len(victims)

        return self._do(reset)

    def cut_before_reply(self, containing=b"", word=b"EVALSHA"):
        """Once: the next such command is passed on, and when Redis has answered it, the connection
        ends instead of that answer.
        """
        self._trap = Trap(word, containing)
        return self._trap

    def garble(self, data, only=lambda connection: True):
        """Redis seems to say this, between two of its answers: once on each connection that now
        stands.
        """
        self._garbage = (data, self._do(lambda: {it for it in self._connections if only(it)}))

    def throttle(self, bytes_per_s):
        """What Redis says passes no faster; None: as fast as it can."""
        self._rate = bytes_per_s

    def stop_reading(self, only=lambda connection: True):
        """Redis is not read from, so that it must hold what it says."""
        self._stopped = only

    def read_on(self):
        self._stopped = None
        self._do(self._changed.set)

    def open_connections(self, only=lambda connection: True):
        return self._do(lambda: sum(not it.ended and only(it) for it in self._connections))

    def close(self):
        self._do(self._close_door)
        self.cut()
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # From here on everything runs on the loop.

    def _do(self, deed):
        async def work():
            return deed()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    async def _finish(self):
        for it in self._tasks:
            it.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _open_door(self):
        if self._server is None:
            self._server = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._server.setblocking(False)
            self._spawn(self._accept(self._server))

    def _close_door(self):
        if self._server is not None:
            self._loop.remove_reader(self._server.fileno())
            self._server.close()
            self._server = None

    def _spawn(self, work):
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, server):
        while self._server is server:
            try:
                near, _ = await self._loop.sock_accept(server)
            except OSError:
                return
            self._spawn(self._serve(near))

    async def _serve(self, near):
        far = socket.socket()
        if self.receive_bytes:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        for it in (near, far):
            it.setblocking(False)
            it.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(near, far)
        self._connections.add(connection)
        self.accepted += 1
        try:
            await self._loop.sock_connect(far, self.target)
        except OSError:
            return self._end(connection)
        for way, pass_on in ((connection.up, self._commands), (connection.down, self._answers)):
            self._spawn(self._read(connection, way, pass_on))
            self._spawn(self._write(connection, way))

    def _end(self, connection):
        self._connections.discard(connection)
        for it in (connection.near, connection.far):
            if it.fileno() >= 0:
                self._loop.remove_reader(it.fileno())
                self._loop.remove_writer(it.fileno())
        connection.reset()
        for way in (connection.up, connection.down):
            way.something.set()
        self._changed.set()
        self._passing.set()

    async def _read(self, connection, way, pass_on):
        while not connection.ended:
            try:
                await self._may_read(connection, way)
                data = await self._loop.sock_recv(way.source, CHUNK)
            except OSError:
                data = b""
            if connection.ended:
                return
            data = pass_on(connection, way, data) if data else None
            now = time.monotonic()
            wait, jitter = self._delay
            way.due = max(way.due, now + wait + self._random.uniform(-jitter, jitter))
            way.chunks.append((way.due, data))
            way.held_bytes += len(data or b"")
            way.something.set()
            if data is None:
                return

    async def _may_read(self, connection, way):
        while not connection.ended and (
            way.held_bytes > HELD_BYTES_MAX
            or way is connection.down and self._stopped and self._stopped(connection)
        ):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 0.05)
            except TimeoutError:
                pass

    async def _write(self, connection, way):
        while not connection.ended:
            while not way.chunks:
                way.something.clear()
                await way.something.wait()
                if connection.ended:
                    return
            due, data = way.chunks.popleft()
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            while self._hole and self._hole(connection) and not connection.ended:
                self._passing.clear()
                await self._passing.wait()
            if connection.ended:
                return
            if data is None:
                return self._close_softly(connection)
            try:
                await self._put(connection, way, data)
            except OSError:
                return self._end(connection)

    async def _put(self, connection, way, data):
        if way is connection.down and self._rate:
            step = max(1, self._rate // 20)
            for at in range(0, len(data), step):
                await self._loop.sock_sendall(way.target, data[at : at + step])
                await asyncio.sleep(step / (self._rate or 1e9))
        else:
            await self._loop.sock_sendall(way.target, data)
        way.held_bytes -= len(data)
        self._changed.set()

    def _close_softly(self, connection):
        """One side has ended: the other hears of it as of any end of TCP."""
        self._connections.discard(connection)
        connection.ended = True
        for it in (connection.near, connection.far):
            if it.fileno() >= 0:
                self._loop.remove_reader(it.fileno())
                self._loop.remove_writer(it.fileno())
            it.close()
        for way in (connection.up, connection.down):
            way.something.set()

    def _commands(self, connection, way, data):
        """What of it passes on: nothing behind a command that is in a trap."""
        if connection.trap:
            return b""
        way.reader.feed(data)
        for value, left in way.reader.values():
            word = value[0].upper()
            connection.is_push |= word in ANSWERED_BY_PUSHES
            way.count += word not in ANSWERED_BY_PUSHES
            if self._trap and self._trap.fits(value):
                connection.trap, self._trap = self._trap, None
                connection.trap.caught, connection.trap_at = value, way.count
                return data[: len(data) - left]
        return data

    def _answers(self, connection, way, data):
        way.reader.feed(data)
        left = len(data)
        for value, left in way.reader.values():
            way.count += not isinstance(value, Push)
            if connection.trap and way.count >= connection.trap_at:
                connection.trap.sprung.set()
                self._end(connection)
                return b""
        if self._garbage and left == 0:
            garbage, victims = self._garbage
            if connection in victims:
                victims.remove(connection)
                return data + garbage
        return data
