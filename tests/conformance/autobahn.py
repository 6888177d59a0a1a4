"""Proves: the engine's WebSocket stack conforms to RFC 6455 and to RFC 7692 (permessage-deflate),
by Autobahn's cases.

Runs every case against the echo example, which stands on the same stack as the engine and answers
compressed whatever came compressed. A case passes as OK or INFORMATIONAL (the RFC leaves it open);
anything else passes only if it stands in EXCUSED with a reason. Whatever remains fails the run.

    python autobahn.py [--bin PATH] [--report FOLDER] [CASE …]
"""

import argparse
import asyncio
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import kosoku

ECHO = Path(__file__).parents[2] / "target/release/examples/echo"
GROUPS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13)
CASES_MIN = 517  # the suite has this many; fewer means that some were not run
CONCURRENCY = 2
RUN_S_MAX = 1200
START_S_MAX = 10

# Case id -> (behaviour, why it is right here).
EXCUSED: dict[str, tuple[str, str]] = {}


def free_port():
    """Below the range the kernel takes client ports from."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def start_echo(binary, port):
    libc = ctypes.CDLL(None)
    echo = subprocess.Popen(
        [binary, "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # it dies with this process
    )
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        if echo.poll() is not None:
            sys.exit(f"{binary} ended with {echo.returncode} while starting")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return echo
        except OSError:
            time.sleep(0.05)
    echo.kill()
    sys.exit(f"{binary} does not listen on {port} after {START_S_MAX} s")


def mend_compression_cases():
    """Two things of the runner's that these cases trip over; neither is the server's.

    It hands messages over as `str`, as Python 2 did, and they hash them, as bytes. And any ping
    ends a case as unfinished: a slow one lasts long enough to be sent one, which is answered.
    """
    import kosoku.cases  # noqa: F401  (puts its cases where they can be imported)
    from case12_x_x import Case12_X_X, Case13_X_X

    def mend(case):
        on_message = case.onMessage
        encoding = "latin-1" if case.TESTDATA["binary"] else "utf-8"

        def mended(self, message, binary):
            if isinstance(message, str):
                message = message.encode(encoding)
            on_message(self, message, binary)

        case.onMessage = mended
        case.onPing = lambda self, payload: None

    for case in Case12_X_X + Case13_X_X:
        mend(case)


def run_cases(port, cases):
    mend_compression_cases()

    async def run():
        try:
            return await kosoku.run_fuzzingclient(
                f"ws://127.0.0.1:{port}", cases, None, concurrency=CONCURRENCY
            )
        except kosoku.FailureError as failure:
            return failure.results

    async def bounded():
        return await asyncio.wait_for(run(), RUN_S_MAX)

    return asyncio.run(bounded())


def verdict(case):
    """None where the case passes, otherwise what is wrong with it."""
    behaviour, close = case.behavior.value, case.behavior_close.value
    if close not in ("OK", "INFORMATIONAL"):
        return f"{behaviour}, closing {close} (code {case.remote_close_code})"
    if behaviour in ("OK", "INFORMATIONAL"):
        return None
    if behaviour == EXCUSED.get(case.case_id, ("", ""))[0]:
        return None
    return f"{behaviour}: {case.result}"


def summarise(results, seconds):
    failed = [(case, wrong) for case in results if (wrong := verdict(case))]
    for case, wrong in failed:
        print(f"FAILED {case.case_id}: {wrong}\n    {' '.join(case.description.split())}")
    strict = {case.case_id for case in results if case.behavior.value == "OK"}
    for case_id in sorted(strict & EXCUSED.keys()):
        print(f"note: {case_id} is OK now, take it out of EXCUSED")
    for group in GROUPS:
        cases = [case for case in results if case.case_id.split(".")[0] == str(group)]
        if cases:
            counts = Counter(case.behavior.value for case in cases)
            counted = ", ".join(f"{count} {name}" for name, count in counts.most_common())
            took = sum(case.duration for case in cases) / 1000
            print(f"group {group:>2}: {len(cases):>3} cases, {took:>4.0f} s of cases: {counted}")
    counts = Counter(case.behavior.value for case in results)
    counted = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    state = "failed" if failed else "passed"
    print(
        f"conformance {state}: {len(results)} cases, {len(failed)} failed ({counted})"
        f" in {seconds:.0f} s"
    )
    print(f"conformance: {len(results) - len(failed)} passed, {len(failed)} failed")
    return not failed


def main():
    arguments = argparse.ArgumentParser(description="WebSocket conformance by Autobahn's cases")
    arguments.add_argument(
        "--bin", default=os.environ.get("THRONG_ECHO", ECHO), help="the echo server"
    )
    arguments.add_argument("--report", help="folder for an HTML report")
    arguments.add_argument("cases", nargs="*", metavar="CASE", help="ids or globs; by default all")
    chosen = arguments.parse_args()
    if not Path(chosen.bin).exists():
        sys.exit(f"no echo server at {chosen.bin}: build it (make build) or give --bin")
    port = free_port()
    echo = start_echo(str(chosen.bin), port)
    begun = time.monotonic()
    try:
        results = run_cases(port, chosen.cases or [f"{group}.*" for group in GROUPS])
        alive = echo.poll() is None
    finally:
        echo.kill()
        echo.wait()
    if chosen.report:
        from kosoku._report import write_reports

        write_reports(results, chosen.report)
    passed = summarise(results, time.monotonic() - begun)
    if not alive:
        print(f"conformance failed: the echo server ended with {echo.returncode}")
    if not chosen.cases and len(results) < CASES_MIN:
        print(f"conformance failed: only {len(results)} of at least {CASES_MIN} cases were run")
        passed = False
    # without the interpreter's farewell: it can abort while the runner's threads end
    sys.stdout.flush()
    os._exit(0 if passed and alive else 1)


if __name__ == "__main__":
    main()
