"""What the servers are put through, and which figures of it are compared.

A workload is a command line of throng-load. Bounds are what Throng has to keep beside a peer: its
figure divided by the peer's.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A figure of throng-load's outcome."""

    key: str
    title: str
    unit: str
    more: bool = False  # more of it is better


@dataclass(frozen=True)
class Bound:
    """Throng's figure divided by the peer's must be so; without a peer, the figure itself."""

    key: str
    peer: str | None
    sign: str  # "<=" or ">="
    value: float


@dataclass(frozen=True)
class Workload:
    """One command line, the same for all servers."""

    name: str
    title: str
    load: tuple
    figures: tuple
    bounds: tuple = ()
    rate: float | None = None  # deliveries per second that were asked for
    quick: bool = True  # also part of a quick run


@dataclass(frozen=True)
class Scale:
    """How long and how large."""

    rounds: int
    seconds: float
    warmup: float
    connections: int  # of the workload that brings up many
    leave: bool  # and whether they leave while the memory is watched: 15 s more


FULL = Scale(rounds=5, seconds=8, warmup=2, connections=15000, leave=True)
QUICK = Scale(rounds=2, seconds=3, warmup=1, connections=5000, leave=False)

# Per room: 8,000 deliveries on their way keep a server busy; with half of that Throng waits for the
# load now and then.
IN_FLIGHT = 8

CPU = Figure("server_cpu_us_per_delivery", "CPU per delivery", "µs")
P99 = Figure("latency_p99_us", "p99 latency", "µs")
DELIVERIES = Figure("deliveries_per_s", "deliveries per second", "/s", more=True)
CONNECTION_FIGURES = (
    Figure("connects_per_s", "connects per second", "/s", more=True),
    Figure("server_cpu_us_per_connection", "CPU per connect", "µs"),
    Figure("connect_p99_us", "p99 to joined", "µs"),
    Figure("user_bytes_per_connection", "user memory per connection", "bytes"),
    Figure("kernel_bytes_per_connection", "kernel memory per connection", "bytes"),
)
KEPT = Figure("user_bytes_kept_per_connection", "user memory kept after leaving", "bytes")

# The figures that say the most, for the overview.
HEADLINES = (
    ("rate-60k", CPU.key), ("rate-15k", CPU.key), ("saturated", DELIVERIES.key),
    ("saturated", P99.key), ("connect", "connects_per_s"),
    ("connect", "user_bytes_per_connection"),
)


def fanout(scale, *extra):
    """Rooms of 1,000 connections."""
    return ("fanout", "--connections", "1000", "--seconds", f"{scale.seconds:g}",
            "--warmup", f"{scale.warmup:g}", "--body", "100", *extra)


def at_rate(scale, rate, bounds=()):
    """A constant schedule: what a delivery costs when all servers do the same."""
    return Workload(
        f"rate-{rate // 1000}k", f"1,000 connections in 10 rooms, {rate:,} deliveries/s",
        fanout(scale, "--rooms", "10", "--rate", str(rate)), (CPU, P99), bounds, rate=rate,
    )


def saturated(scale, name, rooms, bounds=(), quick=True):
    """A closed loop: as much as a server can."""
    return Workload(
        name, f"1,000 connections in {rooms} rooms, {IN_FLIGHT} messages always in flight per room",
        fanout(scale, "--rooms", str(rooms), "--closed", "--in-flight", str(IN_FLIGHT)),
        (DELIVERIES, P99, CPU), bounds, quick=quick,
    )


def connect(scale):
    """Many connections at once; then they rest, and may leave."""
    count = scale.connections
    load = ("connect", "--connections", str(count), "--rooms", str(count // 100),
            "--window", "512")
    return Workload(
        "connect", f"{count:,} connections into {count // 100} rooms, as fast as one core can",
        (*load, "--leave") if scale.leave else load,
        (*CONNECTION_FIGURES, KEPT) if scale.leave else CONNECTION_FIGURES,
        # Over fewer connections what a shard needs for itself shows.
        (Bound("user_bytes_per_connection", None, "<=", 512),) if count >= FULL.connections else (),
    )


def all_workloads(scale):
    """Every workload, by name."""
    beats_floor = (Bound(DELIVERIES.key, "floor", ">=", 1.2), Bound(P99.key, "floor", "<=", 1.0))
    found = (
        at_rate(scale, 60_000, (Bound(CPU.key, "floor", "<=", 1.0),
                                Bound(CPU.key, "socketioxide", "<=", 0.6),
                                Bound(CPU.key, "throng-8", ">=", 1 / 1.25),
                                Bound(P99.key, None, "<=", 5000))),
        at_rate(scale, 15_000),
        saturated(scale, "saturated", 10, beats_floor),
        saturated(scale, "saturated-100", 100, beats_floor, quick=False),
        connect(scale),
    )
    return {workload.name: workload for workload in found}


def load_arguments(workload, peer, port):
    """throng-load's arguments for a peer on a port."""
    spoken = ["--url", f"ws://127.0.0.1:{port}", "--protocol", peer.protocol]
    if peer.path:
        spoken += ["--path", peer.path]
    # One ring, since there is one core; Throng's /metrics would be asked for, the others' not.
    return [*workload.load, *spoken, "--rings", "1", "--metrics", "off"]

