"""Real Redis servers: one alone, one watched by Sentinels, a cluster; started, killed, stopped.

Owns the processes and their folders; each dies with this process however that ends. Never touches
a Redis that it has not started.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from engine import _die_with_parent, eventually, free_port
from fleet.resp import RedisError, ask

UP_S_MAX = 20
SLOTS = 16384
MASTER = "throng"


def have_redis():
    return bool(shutil.which("redis-server") and shutil.which("redis-cli"))


class Redis:
    """One redis-server with a folder of its own; what it holds is lost with the process, unless
    `aof`. Options are those of its command line; `host` is where it listens.
    """

    def __init__(self, *options, aof=False, port=None, host="127.0.0.1", password=None, before=()):
        self.port, self.host, self.password = port or free_port(), host, password
        self.folder = Path(tempfile.mkdtemp(prefix="throng-redis-"))
        self.options = [
            "--bind", host, "--dir", str(self.folder), "--save", "", "--protected-mode", "no",
            "--enable-debug-command", "local",
            "--appendonly", "yes" if aof else "no", "--appendfsync", "everysec",
            *(["--requirepass", password] if password else []), *options,
        ]
        self.before = list(before)
        self.process = None
        self.start()

    @property
    def url(self):
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}{self.host}:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def start(self, wait=True, more=()):
        """The same port, folder and options."""
        assert not self.alive(), "it runs already"
        self.log = self.folder / "output"
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*self.before, "redis-server", *self._address(), *map(str, [*self.options, *more])],
                cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_parent,
            )
        if wait:
            self.until_up()

    def _address(self):
        return ["--port", str(self.port)]

    def until_up(self):
        def answers():
            assert self.alive(), f"redis-server has ended\n{self.output()}"
            try:
                assert self.ask("PING") == b"PONG"
            except RedisError as error:
                raise AssertionError(error) from error

        eventually(answers, UP_S_MAX)

    def output(self):
        return self.log.read_text(errors="replace")[-4000:]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL."""
        if self.alive():
            self.process.kill()
            self.process.wait()

    def stop(self):
        """SIGTERM: it says goodbye to its clients."""
        self.process.terminate()
        self.process.wait(UP_S_MAX)

    def restart(self, down_s=0.0):
        """Killed, away for a while, and back with what it had on disk."""
        self.kill()
        time.sleep(down_s)
        self.start()

    def pause(self):
        """SIGSTOP: its connections stay and nothing comes."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *args, timeout=10):
        """The answer on a connection of its own."""
        return ask(self.port, *args, host=self.host, timeout=timeout, password=self.password)

    def cli(self, *args):
        """What redis-cli prints."""
        return cli(self.port, *args, host=self.host, password=self.password)

    def keys(self, pattern="*"):
        return sorted(it.decode() for it in self.ask("KEYS", pattern))

    def info(self, section):
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def cut_tail(self, bytes_count):
        """Takes the end of what a stopped server has appended to disk, as a failing host would."""
        assert not self.alive()
        files = sorted(self.folder.glob("appendonlydir/*.incr.aof"))
        size = files[-1].stat().st_size
        os.truncate(files[-1], max(0, size - bytes_count))
        return min(size, bytes_count)


def cli(port, *args, host="127.0.0.1", password=None, more=()):
    env = os.environ | ({"REDISCLI_AUTH": password} if password else {})
    done = subprocess.run(
        ["redis-cli", "-h", host, "-p", str(port), *more, *map(str, args)],
        capture_output=True, text=True, env=env, timeout=60,
    )
    assert done.returncode == 0, done
    return done.stdout.removesuffix("\n")


class TlsRedis(Redis):
    """Speaks TLS alone, with a certificate for 127.0.0.1 of an authority of its own (`ca`)."""

    def __init__(self, *options, **more):
        self.certificates = Path(tempfile.mkdtemp(prefix="throng-tls-"))
        self.ca = make_certificates(self.certificates)
        self.plain_port = free_port()  # for tests' own questions
        super().__init__(
            "--tls-cert-file", self.certificates / "redis.crt",
            "--tls-key-file", self.certificates / "redis.key",
            "--tls-ca-cert-file", self.ca, "--tls-auth-clients", "no", *options, **more,
        )

    @property
    def url(self):
        return super().url.replace("redis://", "rediss://")

    def _address(self):
        return ["--tls-port", str(self.port), "--port", str(self.plain_port)]

    def ask(self, *args, timeout=10):
        return ask(self.plain_port, *args, timeout=timeout, password=self.password)

    def end(self):
        super().end()
        shutil.rmtree(self.certificates, ignore_errors=True)


def make_certificates(folder):
    """An authority (`ca.crt`) and a server's certificate and key (`redis.crt`, `redis.key`)."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-days", "2", "-subj", "/CN=test authority",
            "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *curve, "-subj", "/CN=127.0.0.1", "-keyout", "redis.key", "-out", "redis.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("x509", "-req", "-in", "redis.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2",
            "-CAcreateserial", "-extfile", "names", "-out", "redis.crt")
    return folder / "ca.crt"


class Sentinel(Redis):
    """One process that watches a master."""

    def __init__(self, master, down_ms):
        self.master, self.down_ms = master, down_ms
        super().__init__()

    def start(self, wait=True, more=()):
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\nprotected-mode no\ndir {self.folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master} 2\n"
            f"sentinel down-after-milliseconds {MASTER} {self.down_ms}\n"
            f"sentinel failover-timeout {MASTER} 4000\n"
        )
        self.options = ["--sentinel"]
        super().start(wait, more)

    def _address(self):
        return [str(self.folder / "sentinel.conf")]


class Watched:
    """A master and a replica that three Sentinels watch. `with` it, or `end` it."""

    def __init__(self, down_ms=1000):
        self.servers = [Redis("--repl-diskless-sync-delay", "0")]
        port = self.servers[0].port
        replica = Redis("--replicaof", f"127.0.0.1 {port}", "--repl-diskless-sync-delay", "0")
        self.servers.append(replica)
        eventually(lambda: self._in_step(replica), 20)
        self.sentinels = [Sentinel(port, down_ms) for _ in range(3)]
        eventually(self._agreed, 20)

    @staticmethod
    def _in_step(replica):
        status = replica.info("replication").get("master_link_status")
        assert status == "up", f"the replica is not one: {status}"

    def _agreed(self):
        for it in self.sentinels:
            told = it.ask("SENTINEL", "MASTER", MASTER)
            fields = dict(zip(told[::2], told[1::2]))
            assert (fields[b"num-slaves"], fields[b"num-other-sentinels"]) == (b"1", b"2")
            assert it.ask("SENTINEL", "CKQUORUM", MASTER).startswith(b"OK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def url(self):
        places = ",".join(f"127.0.0.1:{it.port}" for it in self.sentinels)
        return f"redis-sentinel://{places}/{MASTER}"

    @property
    def master(self):
        """The server that most Sentinels take for the master."""
        told = [it.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER) for it in self.sentinels]
        ports = [int(port) for _, port in told]
        port = max(ports, key=ports.count)
        return next(it for it in self.servers if it.port == port)

    @property
    def other(self):
        return next(it for it in self.servers if it is not self.master)

    def until_master(self, server, seconds=20):
        def is_master():
            assert self.master is server
            assert server.ask("ROLE")[0] == b"master"

        eventually(is_master, seconds)

    def end(self):
        for it in [*self.sentinels, *self.servers]:
            it.end()


class Cluster:
    """Three masters. `with` it, or `end` it."""

    def __init__(self, *options):
        more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *options]
        # The second port is 10000 above the first unless it is named, where clients have theirs.
        self.servers = [Redis(*more, "--cluster-port", free_port()) for _ in range(3)]
        places = [f"127.0.0.1:{it.port}" for it in self.servers]
        cli(self.servers[0].port, "--cluster", "create", *places, "--cluster-yes")
        eventually(self._agreed, 20)

    def _agreed(self):
        for it in self.servers:
            told = it.ask("CLUSTER", "INFO").decode()
            assert "cluster_state:ok" in told and "cluster_known_nodes:3" in told, told
            assert "cluster_slots_ok:16384" in told, told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def url(self):
        return ",".join(f"redis://127.0.0.1:{it.port}" for it in self.servers)

    def cli(self, *args):
        return cli(self.servers[0].port, *args, more=["-c"])

    def keys(self, pattern="*"):
        return sorted(key for it in self.servers for key in it.keys(pattern))

    def owner(self, slot):
        for first, last, (_, port, *_), *_ in self.servers[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(it for it in self.servers if it.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def slot_of(self, key):
        return self.servers[0].ask("CLUSTER", "KEYSLOT", key)

    def move_slot(self, slot, pause=lambda: None):
        """To another node, as a resharding does; `pause` is called with half of it done."""
        source = self.owner(slot)
        target = next(it for it in self.servers if it is not source)
        ids = {it: it.ask("CLUSTER", "MYID") for it in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        pause()
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        pause()
        for it in (target, source, *(it for it in self.servers if it not in ids)):
            it.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        return source, target

    def end(self):
        for it in self.servers:
            it.end()
