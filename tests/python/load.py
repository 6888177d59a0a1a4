"""Runs `throng-load` for a test and reads what it says."""

import ctypes
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

BIN = Path(
    os.environ.get("THRONG_LOAD", Path(__file__).parents[2] / "target/release/throng-load")
).resolve()
RUN_S_MAX = 90
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Ran:
    """How a run ended. `said` is the JSON object, where there is one."""

    code: int
    out: str
    err: str

    @property
    def said(self):
        assert self.out, f"nothing on stdout; exit {self.code}\n{self.err}"
        return json.loads(self.out)

    @property
    def figures(self):
        return self.said["figures"]

    def wrong(self):
        """The figures that were not what they must be."""
        bounds = self.said["bounds"]
        return {it["key"]: it["value"] for it in bounds if not holds(it["value"], **it["bound"])}


def holds(value, at_most=None, at_least=None, exactly=None):
    """Whether a figure is what it must be; one that was not measured is not wrong."""
    if value is None:
        return True
    if exactly is not None:
        return value == exactly
    return value <= at_most if at_least is None else value >= at_least


def start(*arguments):
    """A run under way; dies with this process."""
    assert BIN.exists(), f"no load generator at {BIN}: build it (make build) or set THRONG_LOAD"
    return subprocess.Popen(
        [str(BIN), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_die_with_parent,
    )


def finish(process, seconds=RUN_S_MAX):
    """Waits for the end of a run; one that does not end fails the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"not over after {seconds} s: {process.args}\n{out}\n{err}") from None
    assert "panicked at" not in err, err
    return Ran(process.returncode, out, err)


def load(*arguments, seconds=RUN_S_MAX):
    """Runs it to its end."""
    return finish(start(*arguments), seconds)


def measure(server, workload, *arguments, seconds=RUN_S_MAX):
    """The same against a server, with the outcome as JSON."""
    url = server.url.replace("http://", "ws://")
    return load(workload, "--url", url, "--json", *arguments, seconds=seconds)
