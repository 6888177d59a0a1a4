"""Runs a command beside a server that speaks MongoDB's protocol, told by THRONG_TEST_MONGODB_URI.

    with-mongodb.py COMMAND [ARG...]

The server (THRONG_SECANTUSD, or secantusd-py beside this Python) has a port and a folder of its own
and ends with the command, whose exit code is passed on.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_S_MAX = 90


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(server, port):
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"with-mongodb: the server has ended with {server.returncode}")
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"with-mongodb: the server is not up after {START_S_MAX} s")


def main(command):
    if not command:
        sys.exit(__doc__)
    beside = Path(sys.executable).with_name("secantusd-py")
    program = os.environ.get("THRONG_SECANTUSD", beside)
    if not Path(program).exists():
        sys.exit(f"with-mongodb: there is no {program}: make setup-python")
    with tempfile.TemporaryDirectory(prefix="throng-mongodb-") as folder:
        settings = Path(folder, "server.toml")
        settings.write_text("")
        port = free_port()
        args = [program, "--host", "127.0.0.1", "--port", str(port), "--enable-test-commands"]
        args += ["--storage-path", str(Path(folder, "data")), "--config", str(settings)]
        with open(Path(folder, "log"), "w") as log:
            server = subprocess.Popen(args, stdout=log, stderr=log)
            try:
                wait_until_open(server, port)
                uri = f"mongodb://127.0.0.1:{port}"
                env = {**os.environ, "THRONG_TEST_MONGODB_URI": uri}
                return subprocess.run(command, env=env).returncode
            finally:
                server.kill()
                server.wait()


sys.exit(main(sys.argv[1:]))
