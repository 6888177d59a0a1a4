"""Starts the engine for a test and ends it.

Owns the child process and its data folder. Never leaves a process behind: `stop` demands exit code
0 after SIGTERM, and the child dies with this process however that ends.
"""

import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

BIN = Path(
    os.environ.get("THRONG_BIN", Path(__file__).parents[2] / "target/release/throng")
).resolve()
READY_S_MAX = 20
STOP_S_MAX = 15
PR_SET_PDEATHSIG = 1

# What every engine gets unless a test says otherwise: no limit a test is not about.
DEFAULTS = {
    "LOG": "info",
    "RUST_BACKTRACE": "1",
    "MAX_CONNECTIONS": "20000",
    "MAX_CONNECTIONS_PER_IP": "0",
    "MESSAGE_RATE_LIMIT": "0",
    "TYPING_RATE_LIMIT": "0",
    "DRAIN_TIMEOUT": "5s",
    "MAX_WORKERS": "2",
}

_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    """A free port below the range the kernel takes client ports from."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::", port))
                return port
            except OSError:
                continue


class Engine:
    """The engine; or an example of it, given as a command that `--port` is added to."""

    def __init__(self, command=(BIN,), **env):
        assert command[0].exists(), (
            f"no engine at {command[0]}: build it (make build) or set THRONG_BIN"
        )
        self.port = int(env.pop("PORT", 0)) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = tempfile.mkdtemp(prefix="throng-test-")
        self.log = open(Path(self.folder) / "output", "w+", encoding="utf-8", errors="replace")
        settings = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
        settings |= DEFAULTS | {"PORT": str(self.port), "DATA_DIR": self.folder} | env
        self.process = subprocess.Popen(
            [*map(str, command), *([] if command[0] == BIN else ["--port", str(self.port)])],
            env=settings,
            cwd=self.folder,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        try:
            self._until_ready()
        except BaseException:
            self.kill()
            raise

    def _until_ready(self):
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            assert self.alive(), (
                f"engine ended while starting: {self.process.poll()}\n{self.output()}"
            )
            try:
                if self.get("/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.025)
        raise AssertionError(f"engine not ready after {READY_S_MAX} s\n{self.output()}")

    def output(self):
        self.log.flush()
        return Path(self.log.name).read_text(encoding="utf-8", errors="replace")[-20_000:]

    def alive(self):
        return self.process.poll() is None

    def memory_kb(self):
        """Resident memory: of user space, without pages of files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0])

    def cpu_s(self):
        """Time of the processor that it has used so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path):
        """(status, body as text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(error) from error
        finally:
            connection.close()

    def json(self, path):
        status, body = self.get(path)
        assert status == 200, f"GET {path}: {status} {body}"
        return json.loads(body)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        try:
            if self.alive():
                self.terminate()
            code = self.process.wait(STOP_S_MAX)
            output = self.output()
            assert code == 0, f"engine ended with {code}\n{output}"
            assert "panicked at" not in output, output
        finally:
            self.kill()

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()
        if not self.log.closed:
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def eventually(check, seconds=10):
    """For what shows only through a request: asks again until `check` stops failing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, OSError, ConnectionError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
