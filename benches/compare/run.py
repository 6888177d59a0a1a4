#!/usr/bin/env python3
"""Compares Throng with the bare epoll server and with socketioxide, interleaved, and prints ratios.

One server at a time on one core, the load client on another; a fresh server for every measurement.
Rounds go A B C A B C, ratios are taken within a round, and the table gives their median and spread.
See ../README.md for what the workloads mean. Only the standard library is used.
"""

import argparse
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST_PORT = 15000
OTHERS_BUSY_MAX = 0.10  # of a core: above it the measurement is repeated
TRIES = 3


@dataclass
class Server:
    """A server binary as it is started for a measurement."""

    name: str
    command: list
    env: dict = field(default_factory=dict)


@dataclass
class Metric:
    """A number of a result, and what Throng's ratio to others must be."""

    name: str
    path: tuple
    limits: dict = field(default_factory=dict)  # other server -> (comparison, bound)

    def of(self, result):
        """The number, None where the result has none."""
        for key in self.path:
            result = (result or {}).get(key)
        return result


CPU = ("server_cpu", "us_each")
P99 = ("latency", "p99_us")
BEST = {"floor": ("<=", 1.0), "socketioxide": ("<=", 0.6)}


class Runner:
    """Starts servers and the load client, one pair at a time."""

    def __init__(self, args):
        self.args = args
        self.port = FIRST_PORT
        self.scratch = Path(tempfile.mkdtemp(prefix="throng-compare-"))
        self.dirty = 0

    def binary(self, name):
        return str(Path(self.args.bin) / name)

    def server(self, name, workers=1):
        """What to start for a name, None if it has not been built."""
        if name != "throng":
            binary = {"floor": "epoll-floor", "socketioxide": "socketioxide-peer"}[name]
            return Server(name, [self.binary(binary), "--port", "{port}"])
        if not Path(self.args.throng).exists():
            print(f"  {self.args.throng} is not there: Throng is left out", file=sys.stderr)
            return None
        env = {
            "MAX_WORKERS": str(workers), "MAX_CONNECTIONS_PER_IP": "0", "MESSAGE_RATE_LIMIT": "0",
            "MAX_CONNECTIONS": "20000", "LOG": "warn",
        }
        return Server("throng" if workers == 1 else f"throng-{workers}", [self.args.throng], env)

    def start(self, server):
        """Starts a server on its core and waits until it accepts."""
        self.port += 1
        data = self.scratch / f"data-{self.port}"
        data.mkdir()
        env = {**os.environ, **server.env, "PORT": str(self.port), "DATA_DIR": str(data)}
        command = [part.format(port=self.port) for part in server.command]
        with open(self.scratch / f"{server.name}-{self.port}.log", "wb") as log:
            process = subprocess.Popen(
                ["taskset", "-c", str(self.args.server_cpu), *command],
                env=env, cwd=data, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        for _ in range(200):
            if process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.5)
                return process
            except OSError:
                time.sleep(0.1)
        self.stop(process)
        raise RuntimeError(f"{server.name} does not listen; its output is in {self.scratch}")

    @staticmethod
    def stop(process):
        """Ends a process that this run started."""
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def measure(self, server, load):
        """One measurement on a fresh server; again if something else used the machine."""
        for attempt in range(TRIES):
            wait_for_quiet(self.args.patience)
            process = self.start(server)
            try:
                result = self.load(process.pid, load)
            finally:
                self.stop(process)
            if result.get("others_busy", 0) <= OTHERS_BUSY_MAX:
                return result
            print(f"  {server.name}: others used {result['others_busy']:.2f} cores, "
                  f"try {attempt + 1} of {TRIES}", file=sys.stderr)
        self.dirty += 1
        return result

    def load(self, pid, load):
        """Runs the load client to its end and reads its result."""
        command = ["taskset", "-c", str(self.args.client_cpu), self.binary("bench-load"), *load]
        command += ["--port", str(self.port), "--server-pid", str(pid)]
        if self.args.spin and load[0] in ("fanout", "disturb"):
            command.append("--spin")
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=True)
        return json.loads(done.stdout)

    def rounds(self, servers, load, pairs=None):
        """Interleaved rounds: server's name -> its results."""
        servers = [server for server in servers if server]
        results = {server.name: [] for server in servers}
        for _ in range(pairs or self.args.pairs):
            for server in servers:
                results[server.name].append(self.measure(server, load))
        return results


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
        if host_busy() - before <= OTHERS_BUSY_MAX:
            return


def spread(values, digits=3):
    """Median and range as text."""
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def judge(ratio, comparison, bound):
    """Says whether a ratio keeps its bound."""
    kept = ratio <= bound if comparison == "<=" else ratio >= bound
    return f"{'holds' if kept else 'FAILS'}: {comparison} {bound}"


def table(title, results, metrics, subject="throng"):
    """Prints each server's numbers and the subject's ratios to the others."""
    print(f"\n## {title}\n")
    print(f"| server | {' | '.join(metric.name for metric in metrics)} | wrong |")
    print(f"|---|{'---|' * (len(metrics) + 1)}")
    for name, runs in results.items():
        cells = [spread([metric.of(run) for run in runs], 2) for metric in metrics]
        print(f"| {name} | {' | '.join(cells)} | {faults(runs)} |")
    for other in results:
        if other == subject or subject not in results:
            continue
        for metric in metrics:
            pairs = zip(results[subject], results[other])
            pairs = [(metric.of(mine), metric.of(theirs)) for mine, theirs in pairs]
            ratios = [mine / theirs for mine, theirs in pairs if theirs]
            if not ratios or (metric.limits and other not in metric.limits):
                continue
            limit = metric.limits.get(other)
            verdict = f"  **{judge(statistics.median(ratios), *limit)}**" if limit else ""
            print(f"\n{subject} / {other}, {metric.name}: {spread(ratios)}{verdict}")
    sys.stdout.flush()


def faults(runs):
    """What makes runs invalid, in words."""
    names = ("missing", "duplicates", "reordered", "gaps", "foreign", "errors", "refused",
             "lost_connections", "lost")
    found = [f"{name} {run[name]}" for run in runs for name in names if run.get(name)]
    if any((run.get("client") or {}).get("bottleneck") for run in runs):
        found.append("client was the bottleneck")
    return ", ".join(found) or "nothing"


def fanout(runner, *extra):
    """The load client's arguments for a fan-out."""
    return ["fanout", "--connections", "1000", "--seconds", str(runner.args.seconds), *extra]


def all_servers(runner):
    return [runner.server(name) for name in runner.args.servers]


def run_fanout_60k(runner):
    results = runner.rounds(all_servers(runner), fanout(runner, "--rate", "60000"))
    metrics = [Metric("CPU µs per delivery", CPU, BEST), Metric("p99 µs", P99)]
    table("fanout-60k: 1,000 connections, rooms of 100, 60,000 deliveries/s", results, metrics)
    return results


def run_saturated(runner, rooms):
    load = fanout(runner, "--closed", "--rooms", str(rooms))
    results = runner.rounds(all_servers(runner), load)
    metrics = [
        Metric("deliveries/s", ("deliveries_per_s",), {"floor": (">=", 1.2)}),
        Metric("p99 µs", P99, {"floor": ("<=", 1.0)}),
        Metric("CPU µs per delivery", CPU),
    ]
    table(f"saturated-{rooms}: closed loop, 1,000 connections, {rooms} rooms", results, metrics)
    return results


def run_connect(runner):
    load = ["connect", "--connections", "15000", "--rooms", "150", "--then-close"]
    results = runner.rounds(all_servers(runner), load)
    metrics = [
        Metric("CPU µs per connection", CPU), Metric("connections/s", ("connects_per_s",)),
        Metric("p99 µs to joined", ("connect_to_joined", "p99_us")),
    ]
    table("connect: 15,000 connections as fast as one client core can", results, metrics)
    return results


def run_half(runner):
    leader = runner.server("throng") or runner.server("floor")
    top = runner.rounds([leader], fanout(runner, "--closed"))[leader.name]
    half = int(statistics.median(run["deliveries_per_s"] for run in top) / 2)
    results = runner.rounds(all_servers(runner), fanout(runner, "--rate", str(half)))
    metrics = [Metric("p99 µs", P99), Metric("p99.9 µs", ("latency", "p999_us")),
               Metric("CPU µs per delivery", CPU)]
    table(f"half: {half} deliveries/s, half of {leader.name}'s saturation", results, metrics)
    for run in results.get("throng", []):
        print(f"\nthrong p99 {run['latency']['p99_us']} µs  "
              f"**{judge(run['latency']['p99_us'], '<=', 5000)}**")
    return results


def run_shards_8(runner):
    servers = [runner.server("throng", 8), runner.server("throng", 1)]
    results = runner.rounds(servers, fanout(runner, "--rate", "60000"))
    metrics = [Metric("CPU µs per delivery", CPU, {"throng": ("<=", 1.25)}),
               Metric("p99 µs", P99)]
    table("shards-8: eight shards on one core against one", results, metrics, "throng-8")
    return results


def run_memory(runner):
    load = ["memory", "--connections", "15000", "--rooms", "150"]
    results = runner.rounds(all_servers(runner), load, pairs=1)
    metrics = [
        Metric("user B each", ("user_bytes_each",)),
        Metric("kept after they left", ("user_bytes_each_kept",)),
        Metric("kernel B each, server", ("kernel_bytes_each_server",)),
        Metric("kernel B each, client", ("kernel_bytes_each_client",)),
    ]
    table("memory: 15,000 idle connections, each in a room", results, metrics)
    for run in results.get("throng", []):
        print(f"\nthrong user memory  **{judge(run['user_bytes_each'], '<=', 512)}**")
    return results


def run_disturb(runner):
    # A stalled member gets 0.6 MB/s: in 12 seconds more than the kernel and an outbox hold.
    large = ["--connections", "200", "--body", "30000", "--rate", "4000"]
    kinds = {"stalled": (["--count", "20"], large),
             "garbage": (["--count", "100"], ["--rate", "30000"]),
             "silent": (["--count", "10000"], ["--rate", "30000"])}
    results = {}
    for kind, (crowd, load) in kinds.items():
        seconds = max(12, runner.args.seconds)
        load = ["disturb", "--kind", kind, *crowd, *load, "--seconds", str(seconds)]
        results[kind] = runner.rounds(all_servers(runner), load, pairs=1)
        phases = ("alone", "disturbed", "after")
        metrics = [Metric(f"p99 µs {phase}", (phase, *P99)) for phase in phases]
        metrics += [Metric(f"Pss {phase}", (f"pss_{phase}",)) for phase in phases]
        table(f"disturb: {kind}, {' '.join(crowd)}", results[kind], metrics)
        for name, runs in results[kind].items():
            print(f"\n{name}: {json.dumps(runs[0]['disturbers'])}, the others: "
                  f"{faults([runs[0]['disturbed']])} wrong")
    return results


WORKLOADS = {
    "fanout-60k": run_fanout_60k,
    "saturated-10": lambda runner: run_saturated(runner, 10),
    "saturated-100": lambda runner: run_saturated(runner, 100),
    "connect": run_connect,
    "half": run_half,
    "shards-8": run_shards_8,
    "memory": run_memory,
    "disturb": run_disturb,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="this workload (repeat)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=8, help="measured seconds of a fan-out")
    parser.add_argument("--bin", default=ROOT / "target/release", help="the bench binaries")
    parser.add_argument("--throng", default=ROOT / "target/release/throng", help="the engine")
    parser.add_argument("--servers", nargs="+", default=["throng", "floor", "socketioxide"],
                        choices=["throng", "floor", "socketioxide"], help="who takes part")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--sleep", dest="spin", action="store_false",
                        help="let the client sleep: servers then pay for waking it")
    parser.add_argument("--patience", type=float, default=30,
                        help="seconds to wait for a quiet machine before a measurement")
    parser.add_argument("--json", type=Path, help="write all results here")
    return parser.parse_args()


def main():
    args = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.throng = str(Path(args.throng).resolve())
    args.bin = Path(args.bin).resolve()
    runner = Runner(args)
    results = {name: WORKLOADS[name](runner) for name in args.only or WORKLOADS}
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if runner.dirty:
        print(f"\n{runner.dirty} measurements were disturbed by other processes: repeat them.")
    shutil.rmtree(runner.scratch)


if __name__ == "__main__":
    main()
