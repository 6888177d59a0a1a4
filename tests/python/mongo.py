"""A server of MongoDB's wire protocol, SecantusDB, with its data in a folder of its own.

Owns the process: `kill`, `restart`, `freeze` and `thaw` it; `fail` makes commands of the engine
fail and never those of the test. Leaves no process behind.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pymongo
from engine import _die_with_parent, free_port

SERVER = Path(
    os.environ.get("THRONG_SECANTUSD", Path(__file__).parents[2] / ".venv/bin/secantusd-py")
)
READY_S_MAX = 60


class Server:
    """`with` it. `uri` is for the engine, `database` for the test."""

    def __init__(self):
        assert SERVER.exists(), f"no {SERVER}: make setup-python, or set THRONG_SECANTUSD"
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="throng-mongo-"))
        # Without one it would look for settings in the host's own places.
        (self.folder / "server.toml").write_text("")
        self.process = None

    def __enter__(self):
        self.restart()
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def uri(self, name, **options):
        """This server does not tell a driver that it is well again after an error that says
        otherwise, as MongoDB does: the driver has to ask.
        """
        asking = {"serverMonitoringMode": "poll", "heartbeatFrequencyMS": "500"}
        query = "&".join(f"{key}={value}" for key, value in (asking | options).items())
        return f"mongodb://127.0.0.1:{self.port}/{name}?{query}"

    def client(self):
        return pymongo.MongoClient(
            f"mongodb://127.0.0.1:{self.port}/?directConnection=true&appName=test",
            serverSelectionTimeoutMS=30_000, tz_aware=True,
        )

    def restart(self):
        self.kill()
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [SERVER, "--host", "127.0.0.1", "--port", str(self.port), "--enable-test-commands",
             "--config", self.folder / "server.toml", "--storage-path", self.folder / "data",
             "--sync-on-commit"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
        )
        log.close()
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                with self.client() as client:
                    client.admin.command("ping")
                return
            except pymongo.errors.PyMongoError:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-5000:]
                assert time.monotonic() < deadline, "the server does not answer"

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def fail(self, *commands, mode="alwaysOn", **data):
        """Commands of the engine fail as `data` says: errorCode, closeConnection, blockTimeMS."""
        data |= {"failCommands": list(commands), "appName": "throng"}
        with self.client() as client:
            client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)

    def heal(self):
        with self.client() as client:
            client.admin.command("configureFailPoint", "failCommand", mode="off")
