"""Proves that deploy/backup/redis-snapshot.sh copies a snapshot that a Redis loads, of what was
written before it was called, and that it says so when it cannot: with a real redis-server.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from engine import free_port

SCRIPT = Path(__file__).parents[2] / "deploy/backup/redis-snapshot.sh"
PASSWORD = "a word with spaces"

pytestmark = pytest.mark.skipif(
    not shutil.which("redis-server"), reason="redis-server is not installed"
)


class Redis:
    def __init__(self, folder, *options):
        folder.mkdir(exist_ok=True)
        self.port, self.folder = free_port(), folder
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder,
             "--save", "", "--requirepass", PASSWORD, *options],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while "PONG" not in self.cli("PING", check=False):
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)

    def cli(self, *args, check=True):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *args], capture_output=True,
                              text=True, env=os.environ | {"REDISCLI_AUTH": PASSWORD})
        assert not check or done.returncode == 0, done
        return done.stdout.strip()

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path):
    running = Redis(tmp_path / "redis")
    yield running
    running.stop()


def script(redis, to, *args, code=0, **env):
    env = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": PASSWORD,
           "REDIS_URL": f"redis://127.0.0.1:{redis.port}", "SNAPSHOT_WAIT_S": "30"} | env
    done = subprocess.run([SCRIPT, "--to", to, *args], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=100)
    assert done.returncode == code, done.stdout
    assert PASSWORD not in done.stdout
    return done.stdout


def made(to):
    return sorted(to.glob("redis-*.rdb"))


def test_a_snapshot_loads_elsewhere(redis, tmp_path):
    to = tmp_path / "to"
    redis.cli("SET", "key", "before")
    redis.cli("XADD", "stream", "*", "field", "value")
    script(redis, to)
    redis.cli("SET", "key", "after")
    (snapshot,) = made(to)
    assert snapshot.stat().st_mode & 0o777 == 0o600
    sums = subprocess.run(["sha256sum", "-c", f"{snapshot.name}.sha256"], cwd=to)
    assert sums.returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(snapshot, other / "dump.rdb")
    copy = Redis(other)
    try:
        assert copy.cli("GET", "key") == "before" and copy.cli("XLEN", "stream") == "1"
    finally:
        copy.stop()


def test_keep_lock_and_dry_run(redis, tmp_path):
    to = tmp_path / "to"
    output = script(redis, to, "--dry-run")
    assert "would ask" in output and not to.exists()
    assert not (redis.folder / "dump.rdb").exists()
    for _ in range(2):
        script(redis, to)
    (to / "redis-mine.rdb").write_text("mine")
    (to / ".redis-20200101T000000.000Z.rdb.partial").write_text("cut off")
    first = made(to)[0]
    assert f"would delete {first}" in script(redis, to, "--keep", "2", "--dry-run")
    script(redis, to, "--keep", "2")
    left = made(to)
    assert first not in left and len(left) == 3 and (to / "redis-mine.rdb").exists()
    assert len(list(to.glob("*.sha256"))) == 2 and not list(to.glob(".*.partial"))
    holder = subprocess.Popen(["flock", to / ".redis-snapshot.lock", "sh", "-c",
                               "echo held; exec sleep 60"], stdout=subprocess.PIPE, text=True,
                              start_new_session=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert "under way" in script(redis, to, code=75)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    assert made(to) == left


def test_what_cannot_be_done_is_said(redis, tmp_path):
    to = tmp_path / "to"
    assert "refuses" in script(redis, to, code=1, REDISCLI_AUTH="wrong")
    assert "does not answer" in script(redis, to, code=1, REDIS_URL="redis://127.0.0.1:1")
    output = script(redis, to, code=2, REDIS_URL="redis://:hunter2@127.0.0.1:1")
    assert "REDISCLI_AUTH" in output and "hunter2" not in output
    for args in (["--keep", "0"], ["--keep"], ["--nothing"]):
        assert "usage" in script(redis, to, *args, code=2)
    assert not made(to)


def test_a_snapshot_that_redis_cannot_write_is_no_backup(redis, tmp_path):
    to = tmp_path / "to"
    script(redis, to)
    (kept,) = made(to)
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()
    # A folder where Redis wants to put its file: the renaming at the end of BGSAVE fails.
    (redis.folder / "dump.rdb").unlink()
    (redis.folder / "dump.rdb").mkdir()
    assert "could not write" in script(redis, to, "--keep", "1", code=1)
    assert made(to) == [kept] and hashlib.sha256(kept.read_bytes()).hexdigest() == digest
    (redis.folder / "dump.rdb").rmdir()
    script(redis, to, "--keep", "1")  # the bad status of before does not count
    assert kept not in made(to) and len(made(to)) == 1
