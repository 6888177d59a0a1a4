"""Proves that a backup of the embedded store is whole or not there, and that a restore gives back
what was backed up or changes nothing: beside a writer, after `kill -9`, on a full disk, with
damaged copies.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest
from engine import BIN
from stores import open_store, rows, write

BUSY = 75
NAME = re.compile(r"throng-\d{8}T\d{6}\.\d{3}Z")


def throng(*args, data=None, **options):
    """Runs a command to its end: (exit code, what it printed)."""
    done = subprocess.run(
        [BIN, *map(str, args)], env=environment(data), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=100, **options,
    )
    assert "panicked" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def environment(data=None):
    return {"PATH": os.environ["PATH"]} | ({"DATA_DIR": str(data)} if data else {})


def works(*args, **options):
    code, output = throng(*args, **options)
    assert code == 0, output
    return output


def refuses(*args, code=1, **options):
    found, output = throng(*args, **options)
    assert found == code, f"{found}: {output}"
    return output


def backups(data):
    """Folders under a final name, oldest first."""
    found = data.glob("backups/throng-*")
    return sorted(it for it in found if NAME.fullmatch(it.name) and not it.is_symlink())


def tree(folder):
    """Every file below a folder and its content; the engine's lock file has none."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def whole(backup):
    """Checks a backup with other means than Throng's: the sums, and the file itself."""
    sums = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=backup,
                          capture_output=True, text=True)
    assert sums.returncode == 0, sums
    manifest = json.loads((backup / "manifest.json").read_text())
    named = {it["name"] for it in manifest["files"]} | {"manifest.json", "SHA256SUMS"}
    assert named == {it.name for it in backup.iterdir()}
    found = rows(backup / "throng.db")
    counts = {table: len(found[table]) for table in ("messages", "rooms", "users")}
    assert counts == manifest["counts"]
    return found


@pytest.fixture
def data(tmp_path):
    """A store with two rooms."""
    folder = tmp_path / "data"
    store = open_store(folder)
    write(store, "lobby", 1, 500)
    write(store, "ünï/cödé", 1, 20)
    store.close()
    return folder


@pytest.fixture
def backup(data):
    works("backup", data=data)
    (made,) = backups(data)
    return made


def test_a_backup_comes_back_row_by_row(data, backup, tmp_path):
    before = rows(data / "throng.db")
    assert whole(backup) == before
    other = tmp_path / "other" / "data"
    works("restore", backup, data=other)
    assert rows(other / "throng.db") == before


def test_a_backup_is_private_and_holds_no_secret(data, monkeypatch):
    done = subprocess.run([BIN, "backup", "--api-key", "hunter2hunter2hunter2hunter2hunter2"],
                          env=environment(data), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = backups(data)
    assert made.stat().st_mode & 0o777 == 0o700
    for path in made.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert b"hunter2" not in path.read_bytes(), path
    assert "data_dir" in (made / "settings.toml").read_text()


def test_a_backup_beside_a_writer_is_one_moment(data, tmp_path):
    """Messages and lastSeq are written together: a copy of one moment has them agree."""
    stop, written, slowest = threading.Event(), [20], [0.0]

    def keep_writing():
        store = open_store(data)
        while not stop.is_set():
            begun = time.monotonic()
            write(store, "busy", written[0] + 1, 20, body_bytes=2000)
            slowest[0] = max(slowest[0], time.monotonic() - begun)
            written[0] += 20
            time.sleep(0.005)  # or it fills the disk
        store.close()

    store = open_store(data)
    write(store, "large", 1, 20_000, body_bytes=1000)  # so that the copy takes many steps
    write(store, "busy", 1, 20)
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for _ in range(3):
            before = written[0]
            works("backup", "--keep", 9, data=data)
            after = written[0]
            made = backups(data)[-1]
            last = check_moment(whole(made))
            assert before <= last <= after + 20
        assert written[0] > 200, "the writer has hardly written"
    finally:
        stop.set()
        writer.join()
        store.close()
    other = tmp_path / "other"
    works("restore", made, data=other)
    assert check_moment(rows(other / "throng.db")) == last
    live = rows(data / "throng.db")
    restored = rows(other / "throng.db")
    kept = [row for row in live["messages"] if row[1] != "busy" or row[2] <= last]
    assert restored["messages"] == kept
    print(f"slowest write beside a backup: {slowest[0] * 1000:.0f} ms")


def check_moment(found):
    seqs = [row[2] for row in found["messages"] if row[1] == "busy"]
    (last,) = [row[2] for row in found["rooms"] if row[0] == "busy"]
    assert sorted(seqs) == list(range(1, last + 1))
    return last


def test_what_the_wal_alone_holds_is_backed_up(data):
    store = open_store(data)
    store.execute("PRAGMA wal_autocheckpoint = 0")
    write(store, "lobby", 501, 7)
    assert (data / "throng.db-wal").stat().st_size > 0
    works("backup", data=data)
    assert len(whole(backups(data)[-1])["messages"]) == 527
    store.close()


def drawn():
    """A seed of its own for each test that draws lots; `SEED` repeats one."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"SEED={seed}")
    return seed


def flip(path):
    at = random.randrange(path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def resign(backup):
    """As who damages a manifest on purpose: the sums fit again."""
    names = [it["name"] for it in json.loads((backup / "manifest.json").read_text())["files"]]
    lines = []
    for name in [*names, "manifest.json"]:
        path = backup / name
        content = path.read_bytes() if path.is_file() else b""
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    (backup / "SHA256SUMS").write_text("".join(lines))


def change(backup, change):
    path = backup / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest, indent=2) + "\n")
    resign(backup)


def escape(name):
    def rename(manifest):
        manifest["files"][0]["name"] = name
    return lambda backup: change(backup, rename)


def link(backup):
    (backup / "throng.db").rename(backup.parent / "elsewhere.db")
    (backup / "throng.db").symlink_to(backup.parent / "elsewhere.db")


DAMAGES = {
    "flipped": lambda b: flip(b / "throng.db"),
    "flipped settings": lambda b: flip(b / "settings.toml"),
    "flipped manifest": lambda b: flip(b / "manifest.json"),
    "flipped sums": lambda b: flip(b / "SHA256SUMS"),
    "truncated": lambda b: os.truncate(b / "throng.db", 4096),
    "truncated by one": lambda b: os.truncate(
        b / "throng.db", (b / "throng.db").stat().st_size - 1),
    "emptied manifest": lambda b: os.truncate(b / "manifest.json", 0),
    "no file": lambda b: (b / "throng.db").unlink(),
    "no manifest": lambda b: (b / "manifest.json").unlink(),
    "no sums": lambda b: (b / "SHA256SUMS").unlink(),
    "up": escape("../throng.db"),
    "absolute": escape("/etc/passwd"),
    "hidden": escape(".throng.db"),
    "itself": escape("manifest.json"),
    "link": link,
    "newer": lambda b: change(b, lambda it: it.update(format=2)),
    "no format": lambda b: change(b, lambda it: it.pop("format")),
    "no files": lambda b: change(b, lambda it: it.update(files=[])),
    "other kind": lambda b: change(b, lambda it: it.update(kind="mongodb")),
    "a list": lambda b: (b / "manifest.json").write_text("[]"),
    "endless": lambda b: (b / "manifest.json").write_text("[" * 2_000_000),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_backup_is_refused_and_nothing_changes(name, force, data, backup, tmp_path):
    random.seed(drawn())
    DAMAGES[name](backup)
    flags = ["--force"] if force else []
    before = tree(data)
    output = refuses("restore", backup, *flags, data=data)
    assert "throng: " in output
    assert tree(data) == before
    other = tmp_path / "other"
    refuses("restore", backup, *flags, data=other)
    assert not other.exists() or not tree(other)


def test_a_restore_replaces_only_with_force_and_keeps_the_old(data, backup):
    store = open_store(data)
    write(store, "later", 1, 5)
    store.close()
    later = rows(data / "throng.db")
    assert "--force" in refuses("restore", backup, data=data)
    assert rows(data / "throng.db") == later
    works("restore", backup, "--force", data=data)
    assert len(rows(data / "throng.db")["messages"]) == 520
    (aside,) = data.glob("throng.db.before-restore-*Z")
    assert rows(aside) == later


def test_the_wal_of_a_killed_engine_is_kept_with_the_old_and_never_read_with_the_new(data, backup):
    """A writer that dies leaves a WAL with all it has written since the last checkpoint."""
    script = (
        "import sys, os, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from stores import open_store, write\n"
        "store = open_store(pathlib.Path(sys.argv[2]))\n"
        "store.execute('PRAGMA wal_autocheckpoint = 0')\n"
        "write(store, 'late', 1, 50)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    here = os.path.dirname(__file__)
    died = subprocess.run([shutil.which("python3"), "-c", script, here, str(data)])
    assert died.returncode == -signal.SIGKILL
    assert (data / "throng.db-wal").stat().st_size > 0
    works("restore", backup, "--force", data=data)
    assert not (data / "throng.db-wal").exists()
    assert len(rows(data / "throng.db")["messages"]) == 520
    (aside,) = data.glob("throng.db.before-restore-*Z")
    assert len(rows(aside)["messages"]) == 570


def test_a_store_beyond_repair_is_moved_aside_byte_by_byte(data, backup):
    broken = random.randbytes(100_000)
    (data / "throng.db").write_bytes(broken)
    (data / "throng.db-wal").write_bytes(b"no wal")
    works("restore", backup, "--force", data=data)
    assert len(rows(data / "throng.db")["messages"]) == 520
    (aside,) = data.glob("throng.db.before-restore-*Z")
    assert aside.read_bytes() == broken
    assert aside.with_name(aside.name + "-wal").read_bytes() == b"no wal"
    assert not (data / "throng.db-wal").exists()


def hold(path, kind="-x"):
    """Another process with a lock on a file."""
    holder = subprocess.Popen(["flock", kind, str(path), "sh", "-c", "echo held; exec sleep 60"],
                              stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def let_go(holder):
    os.killpg(holder.pid, signal.SIGKILL)  # the lock is its child's, too
    holder.wait()


def test_a_running_engine_is_not_restored_under(data, backup):
    before = tree(data)
    holder = hold(data / "throng.db.lock")
    try:
        for flags in ([], ["--force"], ["--force", "--dry-run"]):
            output = refuses("restore", backup, *flags, code=BUSY, data=data)
            assert "engine runs" in output
        assert "retention itself" in refuses("maintain", code=BUSY, data=data)
        assert tree(data) == before
        works("backup", data=data)  # which does not mind
    finally:
        let_go(holder)


def test_a_linked_store_is_the_file_it_leads_to(data, backup, tmp_path):
    real = tmp_path / "disk" / "real.db"
    real.parent.mkdir()
    (data / "throng.db").rename(real)
    (data / "throng.db").symlink_to(real)
    works("backup", data=data)
    before = whole(backups(data)[-1])
    holder = hold(tmp_path / "disk" / "real.db.lock")  # as the engine, which follows links
    try:
        refuses("restore", backup, "--force", code=BUSY, data=data)
    finally:
        let_go(holder)
    works("restore", backup, "--force", data=data)
    assert (data / "throng.db").is_symlink() and rows(real) == before
    assert list(real.parent.glob("real.db.before-restore-*Z"))


def test_a_folder_named_like_an_address_is_a_folder(data, tmp_path):
    """SQLite would take `file:…` for one."""
    (tmp_path / "file:x?mode=memory").mkdir()
    works("backup", "--to", "file:x?mode=memory", cwd=tmp_path, data=data)
    (made,) = (tmp_path / "file:x?mode=memory").glob("throng-*")
    found = json.loads((made / "manifest.json").read_text())
    assert found["counts"]["messages"] == 520
    assert (made / "throng.db").stat().st_size == (data / "throng.db").stat().st_size


def test_two_backups_to_one_place_do_not_meet(data, backup):
    before = tree(data)
    holder = hold(data / "backups" / ".throng-backup.lock")
    try:
        assert "under way" in refuses("backup", code=BUSY, data=data)
        assert tree(data) == before
        refuses("restore", backup, "--force", code=BUSY, data=data)
    finally:
        let_go(holder)
    works("backup", data=data)


def test_many_at_once_all_end_well_or_busy(data):
    running = [subprocess.Popen([BIN, "backup", "--keep", "99"], env=environment(data),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
               for _ in range(6)]
    codes = [it.wait(60) for it in running]
    assert set(codes) <= {0, BUSY} and 0 in codes
    made = backups(data)
    assert len(made) == codes.count(0)
    for it in made:
        whole(it)


def test_keep_deletes_the_oldest_and_nothing_else(data):
    folder = data / "backups"
    for _ in range(4):
        works("backup", "--keep", 9, data=data)
    oldest, second, third, fourth = backups(data)
    foreign = {
        folder / "throng-notes": "a folder of somebody",
        folder / "throng-20200101T000000.000Z": "looks like one, has no manifest",
        folder / "throng-20200102T000000.000Z.old": "somebody's copy",
    }
    for path in foreign:
        path.mkdir()
        (path / "note").write_text("mine")
    (second / "note").write_text("mine")
    (folder / "throng-20200103T000000.000Z").symlink_to(third)
    works("backup", "--keep", 2, data=data)
    assert not oldest.exists() and not third.exists()
    assert fourth.exists() and (second / "note").read_text() == "mine"
    for path, why in foreign.items():
        assert (path / "note").read_text() == "mine", why
        shutil.rmtree(path)
    newest = backups(data)[-1]
    whole(newest)
    works("backup", "--keep", 1, data=data)
    assert not fourth.exists() and not newest.exists()


def test_the_new_backup_stays_even_if_the_clock_went_back(data):
    works("backup", data=data)
    (made,) = backups(data)
    future = made.rename(made.with_name("throng-29990101T000000.000Z"))
    works("backup", "--keep", 1, data=data)
    (left,) = backups(data)
    assert left != future
    whole(left)


def test_a_dry_run_changes_nothing(data, backup):
    for _ in range(2):
        works("backup", data=data)
    before = tree(data)
    listing = sorted(data.rglob("*"))
    output = works("backup", "--keep", 2, "--dry-run", data=data)
    assert "would make" in output and output.count("would delete") == 2
    assert backup.name in output
    output = works("restore", backup, "--force", "--dry-run", data=data)
    assert "would move" in output and "would put back" in output
    assert "--force" in refuses("restore", backup, "--dry-run", data=data)
    works("maintain", "--dry-run", data=data)
    names = [it for it in sorted(data.rglob("*")) if it.name != "throng.db.lock"]
    assert (names, tree(data)) == (listing, before)


def test_a_dry_run_into_nothing_makes_nothing(data):
    works("backup", "--dry-run", "--to", data / "nowhere", data=data)
    assert not (data / "nowhere").exists()


def test_killed_at_any_moment_it_leaves_no_half_backup(data):
    """Each run is killed at a random moment of what an undisturbed one takes."""
    chance = random.Random(drawn())
    store = open_store(data)
    write(store, "large", 1, 20_000, body_bytes=500)
    store.close()
    begun = time.monotonic()
    works("backup", "--keep", 2, data=data)
    whole_s = time.monotonic() - begun
    killed = 0
    for _ in range(40):
        run = subprocess.Popen([BIN, "backup", "--keep", "2"], env=environment(data),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, whole_s))
        run.kill()
        killed += run.wait() == -signal.SIGKILL
        for made in backups(data):
            assert (made / "SHA256SUMS").exists() and (made / "manifest.json").exists()
        whole(backups(data)[-1])
    assert killed > 5, "hardly any run was still under way when it was killed"
    works("backup", "--keep", 2, data=data)
    assert not list((data / "backups").glob("*.partial"))
    assert len(backups(data)) == 2
    for made in backups(data):
        whole(made)


def test_a_restore_killed_at_any_moment_leaves_the_old_or_the_new(data, backup):
    chance = random.Random(drawn())
    store = open_store(data)
    write(store, "later", 1, 3000, body_bytes=2000)
    store.close()
    old, new = rows(data / "throng.db"), rows(backup / "throng.db")
    begun = time.monotonic()
    works("restore", backup, data=data.parent / "elsewhere")
    whole_s = time.monotonic() - begun
    killed = 0
    for _ in range(30):
        run = subprocess.Popen([BIN, "restore", "--force", str(backup)], env=environment(data),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, whole_s * 1.2))
        run.kill()
        killed += run.wait() == -signal.SIGKILL
        assert rows(data / "throng.db") in (old, new)
    assert killed > 5, "hardly any run was still under way when it was killed"
    works("restore", backup, "--force", data=data)
    assert rows(data / "throng.db") == new
    assert old in [rows(it) for it in data.glob("throng.db.before-restore-*Z")]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_leaves_no_half_backup(data, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small],
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(mounted.stderr)
    try:
        works("backup", "--to", small, data=data)
        store = open_store(data)
        write(store, "large", 1, 2000, body_bytes=1000)
        store.close()
        output = refuses("backup", "--to", small, "--keep", 1, data=data)
        assert "full" in output or "space" in output, output
        (left,) = (it for it in small.iterdir() if it.is_dir())
        whole(left)
        full = tmp_path / "data2"
        full.symlink_to(small)
        works("backup", data=data)
        refuses("restore", backups(data)[-1], data=full)
        assert not (small / "throng.db").exists() and not (small / "throng.db.restoring").exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_there_must_be_a_store(tmp_path):
    assert "no store" in refuses("backup", data=tmp_path)
    assert not [it for it in (tmp_path / "backups").iterdir() if it.is_dir()]
    refuses("restore", tmp_path / "none", data=tmp_path)
    refuses("maintain", data=tmp_path)
    code, output = throng("backup", "--data-dir", "none")
    assert code == 1 and "nothing is stored" in output
    other = sqlite3.connect(tmp_path / "throng.db")
    other.execute("CREATE TABLE something_else (x)")
    other.close()
    assert "no store of Throng" in refuses("backup", data=tmp_path)
    (tmp_path / "throng.db").write_bytes(random.randbytes(50_000))
    refuses("backup", data=tmp_path)
    assert not backups(tmp_path)


def test_a_store_damaged_inside_is_not_backed_up_as_good(data):
    """A page of noise in the midst of the file: the copy is checked before it counts."""
    with open(data / "throng.db", "r+b") as file:
        for page in range(5, 20):
            file.seek(page * 4096)
            file.write(random.randbytes(4096))
    refuses("backup", data=data)
    assert not backups(data)
