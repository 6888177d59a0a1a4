#!/usr/bin/env python3
"""Compares Throng with its peers: the same workloads, interleaved, on the same cores, as ratios.

Prints tables and writes results.json, plots and report.html; ../README.md says what each number may
be used for. Ends only processes that it started.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import report
from measure import Bench, Refused, Runner, raise_open_files
from peers import BASE, HERE, NODE, PEERS, USUAL, nginx
from summary import print_workload
from workloads import FULL, QUICK, all_workloads

ROOT = HERE.parents[1]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    parser.add_argument("--only", action="append", choices=all_workloads(FULL),
                        help="this workload alone (may be repeated)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, metavar="PEER",
                        help=f"who takes part beside {BASE}: {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, help=f"rounds (default {FULL.rounds})")
    parser.add_argument("--seconds", type=float,
                        help=f"measured seconds of a fan-out (default {FULL.seconds:g})")
    parser.add_argument("--quick", action="store_true",
                        help="a few minutes: shorter, fewer and smaller")
    parser.add_argument("--bin", type=Path, default=target / "release", help="folder of binaries")
    parser.add_argument("--out", type=Path, default=target / "compare", help="where results go")
    parser.add_argument("--redraw", type=Path, metavar="RESULTS.json",
                        help="measure nothing: tables and plots of an earlier run")
    parser.add_argument("--server-cpu", type=int, default=0, help="the servers' core (default 0)")
    parser.add_argument("--load-cpu", type=int, default=1, help="the load's core (default 1)")
    parser.add_argument("--sleep", dest="spin", action="store_false",
                        help="let the load sleep: servers then pay for waking it")
    parser.add_argument("--patience", type=float, default=30,
                        help="seconds to wait for a quiet machine before each run (default 30)")
    return parser.parse_args()


def scale_of(args):
    scale = QUICK if args.quick else FULL
    changes = {"rounds": args.rounds, "seconds": args.seconds}
    return replace(scale, **{key: value for key, value in changes.items() if value})


def chosen_workloads(args, workloads):
    if args.only:
        return [workloads[name] for name in dict.fromkeys(args.only)]
    return [workload for workload in workloads.values() if workload.quick or not args.quick]


def present_peers(args):
    """Those that can be started, Throng first; says of the others what they lack."""
    names = [BASE, *(name for name in args.peers or USUAL if name != BASE)]
    found = []
    for name in dict.fromkeys(names):
        lacking = PEERS[name].lacks(args.bin)
        if lacking is None:
            found.append(PEERS[name])
        elif name == BASE:
            sys.exit(lacking)
        else:
            print(f"{name} is left out: {lacking}", file=sys.stderr)
    return found


def said(*argv):
    """What a command prints, one line."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return "?"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "?"


def package_version(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return "?"


def facts(args, scale, peers):
    """Where it was measured, and what with."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="ascii"))
    lock = re.search(r'name = "socketioxide"\nversion = "(.*)"', (ROOT / "Cargo.lock").read_text())
    modules = NODE / "node_modules"
    versions = [
        f"Throng {said('git', 'rev-parse', '--short', 'HEAD')}",
        f"socketioxide {lock[1] if lock else '?'}",
        f"socket.io {package_version(modules / 'socket.io/package.json')}",
        f"ws {package_version(modules / 'ws/package.json')}",
        f"Node {said('node', '--version')}",
        f"{said(nginx() or 'nginx', '-v').removeprefix('nginx version: ')} with nchan",
    ]
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "host": f"Linux {platform.release()}, {cpu[1] if cpu else platform.machine()}, "
                f"{os.cpu_count()} cores",
        "cores": f"servers on {args.server_cpu}, load on {args.load_cpu}, which "
                 f"{'spins' if args.spin else 'sleeps'}; one server at a time, new for each run",
        "rounds": f"{scale.rounds}, interleaved: {', '.join(peer.name for peer in peers)}",
        "fan-outs": f"{scale.seconds:g} s after {scale.warmup:g} s of warm-up",
        "versions": "; ".join(versions),
    }


def write(out, scale, about, results):
    """Everything so far, so that an interrupted run leaves what it has."""
    workloads = all_workloads(scale)
    svgs = report.plots_of(workloads, results)
    out.mkdir(parents=True, exist_ok=True)
    for name, svg in svgs.items():
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    saved = {"scale": vars(scale), "about": about, "results": results}
    (out / "results.json").write_text(json.dumps(saved, indent=1), encoding="utf-8")
    page = report.page(workloads, results, about, svgs)
    (out / "report.html").write_text(page, encoding="utf-8")


def redraw(args):
    saved = json.loads(args.redraw.read_text(encoding="utf-8"))
    scale = replace(FULL, **saved["scale"])
    for name, runs in saved["results"].items():
        print_workload(all_workloads(scale)[name], runs)
    write(args.out, scale, saved["about"], saved["results"])


def measure(args):
    bench = Bench(args.bin, args.bin / "throng-load", args.server_cpu, args.load_cpu, args.spin,
                  args.patience)
    if not bench.load.exists():
        sys.exit(f"{bench.load} is missing: cargo build --release -p throng-load")
    cores = os.sched_getaffinity(0)
    if not {args.server_cpu, args.load_cpu} <= cores:
        sys.exit(f"cores {args.server_cpu} and {args.load_cpu} are not both among {sorted(cores)}")
    raise_open_files()
    scale, peers = scale_of(args), present_peers(args)
    about, results = facts(args, scale, peers), {}
    runner = Runner(bench)
    try:
        for workload in chosen_workloads(args, all_workloads(scale)):
            runs = results[workload.name] = {peer.name: [] for peer in peers}
            runner.rounds(workload, peers, scale.rounds, runs)
            print_workload(workload, runs)
            sys.stdout.flush()
            write(args.out, scale, about, results)
    except Refused as refused:
        sys.exit(f"throng-load refuses: {refused}")
    except KeyboardInterrupt:
        write(args.out, scale, about, results)
        sys.exit("interrupted: what was measured before is in the report")
    finally:
        runner.close()


def main():
    args = arguments()
    args.bin, args.out = args.bin.resolve(), args.out.resolve()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the server, too
    if args.redraw:
        redraw(args)
    else:
        measure(args)
    print(f"\nreport: {args.out / 'report.html'}")


if __name__ == "__main__":
    main()
