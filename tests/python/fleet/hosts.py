"""Hosts of one fleet: engines that share a Redis, each on a port of its own.

Owns the processes. Never touches Redis but through them.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine import Engine, eventually

NAMES = "ABCDEFGH"
# A host's key lives so long after its last sign of life.
HOST_TTL_S = 10
# From a fault's end until every host is ready again, on a machine that is busy with other things.
HEALED_S_MAX = 20


class Host(Engine):
    """One of them. Nothing is kept but in Redis unless DATA_DIR or MONGODB_URI say so."""

    def __init__(self, name, url, wait=True, **env):
        self.name, self.env = name, {"REDIS_URL": url, "DATA_DIR": "none"} | env
        self.waits = wait
        super().__init__(**self.env)
        self.env["PORT"] = str(self.port)

    def __str__(self):
        return f"host {self.name}"

    def _until_ready(self):
        if self.waits:
            super()._until_ready()

    def ready(self):
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def kill9(self):
        """SIGKILL; its folder stays."""
        self.process.kill()
        self.process.wait()

    def again(self, **more):
        """A new process with the same settings and port."""
        assert not self.alive()
        return Host(self.name, **{"url": self.env["REDIS_URL"]} | _without_url(self.env) | more)


def _without_url(env):
    return {key: value for key, value in env.items() if key != "REDIS_URL"}


class Hosts:
    """Several. `with` it: each must end well on SIGTERM, unless the test has ended it."""

    def __init__(self, urls, wait=True, **env):
        """`urls`: each host's way to Redis. `wait`: until they are ready."""
        self.all = []
        try:
            # By this thread: a child dies with the thread that has started it.
            for name, url in zip(NAMES, urls):
                self.all.append(Host(name, url, wait=False, **env))
            for it in self.all if wait else []:
                Engine._until_ready(it)
        except BaseException:
            print(self.outputs())
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.no_own_faults()
            self.stop()
        else:
            print(self.outputs())
        self.end()

    def __getitem__(self, index):
        return self.all[index]

    def __iter__(self):
        return iter(self.all)

    def __len__(self):
        return len(self.all)

    def ports(self):
        """Of those that run, in order."""
        return [it.port for it in self.all if it.alive()]

    def until_ready(self, seconds=HEALED_S_MAX):
        begun = time.monotonic()

        def ready():
            late = [str(it) for it in self.all if it.alive() and not it.ready()]
            assert not late, f"{late} not ready {time.monotonic() - begun:.1f} s after the fault"

        eventually(ready, seconds)

    def until_unready(self, host, seconds):
        def unready():
            assert not host.ready(), f"{host} still says that it is ready"

        eventually(unready, seconds)

    def replace(self, index, **more):
        """A host that has ended comes back."""
        old = self.all[index]
        self.all[index] = old.again(**more)
        old.kill()
        return self.all[index]

    def no_own_faults(self):
        """What a host counts that must never be: a room that was behind without a cause."""
        for host in (it for it in self.all if it.alive()):
            swept = host.json("/metrics")["redis"]["sweptBehind"]
            assert swept == 0, f"{host}: {swept} rooms were behind, and only a sweep found out"

    def stop(self):
        living = [it for it in self.all if it.alive()]
        with ThreadPoolExecutor(max(1, len(living))) as pool:
            for done in [pool.submit(it.stop) for it in living]:
                done.result()

    def end(self):
        for it in self.all:
            it.kill()

    def outputs(self):
        parts = []
        for it in self.all:
            if Path(it.log.name).exists():
                parts.append(f"--- {it} (port {it.port})\n{it.output()[-3000:]}")
        return "\n".join(parts)


def members(host, room, limit=1000):
    """Ids of a room's participants as one host knows them; none: nobody knows the room."""
    status, _ = host.get(f"/api/rooms/{room}")
    if status == 404:
        return set()
    return {it["id"] for it in host.json(f"/api/rooms/{room}")["participants"]}


def agree(hosts, room, ids, seconds=10):
    """Every living host must come to know exactly these participants."""
    def same():
        for host in (it for it in hosts if it.alive()):
            found = members(host, room)
            assert found == set(ids), (
                f"{host} in {room}: stale {found - set(ids)}, missing {set(ids) - found}"
            )

    eventually(same, seconds)
