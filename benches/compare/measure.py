"""One measurement: a fresh server on its core, the load on another, and what else used the machine.

Ends only processes that it started.
"""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from peers import Place
from workloads import load_arguments

FIRST_PORT = 15000
OTHERS_CORES_MAX = 0.10  # above it a measurement is repeated
TRIES = 3
LISTEN_SECONDS = 60
STOP_SECONDS = 5
LOAD_SECONDS = 300
RATE_KEPT = 0.98  # of the rate asked for; less is not the workload that was meant


class Refused(Exception):
    """The load client refuses its arguments: nothing else can be measured with it."""


@dataclass(frozen=True)
class Bench:
    """Where everything is, and on which cores it runs."""

    binaries: Path
    load: Path
    server_cpu: int
    load_cpu: int
    spin: bool
    patience: float


class Server:
    """A running server; a context manager, so that none is left behind."""

    def __init__(self, peer, bench, folder, port):
        self.peer, self.folder, self.port = peer, folder, port
        self.command = peer.command(Place(bench.binaries, folder, port))
        self.cpu = bench.server_cpu
        self.process = None

    def __enter__(self):
        log = (self.folder / "output.log").open("wb")
        argv = ["taskset", "-c", str(self.cpu), *self.command.argv]
        with log:
            self.process = subprocess.Popen(  # a group of its own, ended as one
                argv, env={**os.environ, **self.command.env}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        try:
            self.wait_until_it_listens()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_until_it_listens(self):
        """Returns once a connection is accepted."""
        end = time.monotonic() + LISTEN_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.5)
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"does not listen: {self.last_words()}")

    def last_words(self):
        """The end of what it printed."""
        lines = (self.folder / "output.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def pid(self):
        """The process that does the work."""
        pid = self.process.pid
        if self.command.forks:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return pid

    def stop(self):
        """Ends it, politely first."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Runner:
    """Makes measurements, one at a time."""

    def __init__(self, bench):
        self.bench = bench
        self.port = FIRST_PORT
        self.scratch = Path(tempfile.mkdtemp(prefix="throng-compare-"))

    def close(self):
        """Removes what the servers wrote."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def rounds(self, workload, peers, count, runs):
        """Interleaved rounds, A B C A B C; each run goes to those of its peer as soon as it is."""
        for number in range(count):
            for peer in peers:
                run = self.measure(workload, peer)
                runs[peer.name].append(run)
                tell(workload, peer, f"{number + 1}/{count}", run)

    def measure(self, workload, peer):
        """One run on a fresh server; again if something else used the machine."""
        for _ in range(TRIES):
            wait_for_quiet(self.bench.patience)
            run = self.attempt(workload, peer)
            run["disturbed"] = run["others_cores"] > OTHERS_CORES_MAX
            if not run["disturbed"] and not run["failed"]:
                break
        run["remarks"] = remarks(workload, run)
        return run

    def attempt(self, workload, peer):
        """One run, as it is."""
        self.port += 1
        folder = self.scratch / f"{peer.name}-{self.port}"
        folder.mkdir()
        try:
            with Server(peer, self.bench, folder, self.port) as server:
                return self.load(workload, peer, server)
        except (RuntimeError, OSError, IndexError, subprocess.TimeoutExpired) as error:
            return {"figures": {}, "failed": str(error), "others_cores": 0.0}

    def load(self, workload, peer, server):
        """Runs throng-load to its end and reads what it says."""
        pid = server.pid()
        argv = ["taskset", "-c", str(self.bench.load_cpu), str(self.bench.load)]
        argv += [*load_arguments(workload, peer, server.port), "--server-pid", str(pid), "--json"]
        if self.bench.spin:
            argv.append("--spin")
        before = Clocks(pid)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=LOAD_SECONDS, text=True, check=False)
        if done.returncode == 2:
            raise Refused(done.stderr.strip())
        if not done.stdout.strip():
            raise RuntimeError((done.stderr.strip() or "the load client ended").splitlines()[-1])
        outcome = json.loads(done.stdout)
        # Only the server's own end can hide behind figures that are still there.
        gone = server.process.poll() is not None
        failed = f"the server ended: {server.last_words()}" if gone else None
        others = 0.0 if gone else Clocks(pid).others_since(before)
        return {**outcome, "failed": failed, "others_cores": round(others, 3)}


class Clocks:
    """CPU seconds so far: the server's, the load's, the host's."""

    def __init__(self, pid):
        self.wall = time.monotonic()
        tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
        self.server = sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self.load = sum(it.ru_utime + it.ru_stime for it in own)
        self.host = host_busy()

    def others_since(self, before):
        """Cores that were used by neither side."""
        ours = self.server - before.server + self.load - before.load
        return max(0.0, (self.host - before.host - ours) / (self.wall - before.wall))


def host_busy():
    """CPU seconds that this host has spent so far on anything but idling."""
    ticks = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(ticks[index]) for index in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience):
    """Waits until nothing else uses the machine, at most so many seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = host_busy()
        time.sleep(1)
        if host_busy() - before <= OTHERS_CORES_MAX:
            return


def remarks(workload, run):
    """What must be known of a run before its figures are believed, in words."""
    figures = run["figures"]
    found = []
    if run["failed"]:
        found.append(run["failed"])
    for key in ("missing", "gaps", "duplicates", "reordered", "lost", "refused"):
        if figures.get(key):
            found.append(f"{figures[key]:,.0f} {key}")
    rate = figures.get("deliveries_per_s")
    if workload.rate and rate is not None and rate < RATE_KEPT * workload.rate:
        found.append(f"carried {rate:,.0f}/s only")
    if run.get("bottleneck"):
        found.append("the client was the limit")
    if run["disturbed"]:
        found.append(f"others used {run['others_cores']:.2f} cores")
    return found


def tell(workload, peer, number, run):
    """A line of progress."""
    first = workload.figures[0]
    value = run["figures"].get(first.key)
    said = "–" if value is None else f"{value:,.4g} {first.unit}"
    more = f"  [{'; '.join(run['remarks'])}]" if run["remarks"] else ""
    print(f"  {workload.name} {number}  {peer.name:<13} {said}{more}", file=sys.stderr, flush=True)


def raise_open_files():
    """As many open files as this host allows: servers and the load inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
