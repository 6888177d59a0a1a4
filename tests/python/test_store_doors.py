"""Proves: who may come into a room is decided by settings that outlive the engine; and a DATA_DIR
that cannot be used is refused at start, with words that say why, and is left alone.
"""

import os
import sqlite3
import subprocess
from contextlib import closing

import pytest
from engine import BIN, DEFAULTS, free_port
from keeping import env, select, start  # noqa: F401
from plain import Plain
from test_api_store import OWNER, configure, configured, read, room_path


def check_doors(engine):
    def tries(name, room, **more):
        with Plain(engine.port, name) as client:
            answer = client.call("join", {"room": room} | more)
            return "ok" if answer["ok"] else answer["error"]["code"]

    assert tries("ann", "closed") == "ok" and tries("ANN", "closed") == "ok"
    assert tries("eve", "closed") == "forbidden"
    assert tries("eve", "closed", password="any") == "forbidden"
    assert tries("eve", "locked", password="open sesame") == "ok"
    for wrong in ("open sesame ", "", "Open sesame"):
        assert tries("eve", "locked", password=wrong) == "forbidden", wrong
    assert tries("eve", "locked") == "forbidden"
    assert tries("ann", "locked") == "ok", "who is named needs no password"
    assert tries("eve", "locked", password={"$ne": None}) == "invalid"
    assert tries("eve", "locked", password="x" * 129) == "invalid"
    assert tries("eve", "nobody") == "forbidden"
    with Plain(engine.port, "one") as one, Plain(engine.port, "two") as two:
        one.ok("join", {"room": "narrow"})
        two.ok("join", {"room": "narrow"})
        assert tries("three", "narrow") == "room_full"
        one.ok("leave", {"room": "narrow"})
        assert tries("three", "narrow") == "ok"
    with Plain(engine.port, "eve") as eve:
        for event in ("message", "history", "participants"):
            eve.refused(event, {"room": "closed", "body": 1}, "not_in_room")


def test_doors_stay_closed_over_a_restart(start):
    engine = start()
    configured(engine, "closed", {"private": True, "users": ["Ann"]})
    configured(engine, "locked", {"password": "open sesame", "users": ["ann"]})
    configured(engine, "nobody", {"private": True})
    configured(engine, "narrow", {"capacity": 2})
    check_doors(engine)
    engine.stop()
    engine = start()
    check_doors(engine)
    configured(engine, "locked", {"password": "another", "users": None})
    configured(engine, "nobody", {"private": False})
    with Plain(engine.port, "eve") as eve:
        eve.refused("join", {"room": "locked", "password": "open sesame"}, "forbidden")
        eve.ok("join", {"room": "locked", "password": "another"})
        eve.ok("join", {"room": "nobody"})
    engine.stop()


def test_settings_survive_a_kill(start):
    engine = start()
    for number in range(20):
        configured(engine, f"set {number}", {"capacity": number + 1})
    engine.process.kill()
    engine.process.wait()
    engine = start()
    for number in range(20):
        _, room = read(engine, room_path(f"set {number}"), OWNER)
        assert room["settings"]["capacity"] == number + 1
    engine.stop()


# --- what cannot be used ----------------------------------------------------------------------


def refuses_to_start(env, **more):
    """What it says; the exit code is a refusal (2: of a setting as such), not a crash."""
    settings = {"PATH": os.environ["PATH"]} | DEFAULTS | env | more
    ran = subprocess.run([BIN], env=settings, capture_output=True, text=True, timeout=60)
    text = ran.stdout + ran.stderr
    assert ran.returncode in (1, 2) and "panicked" not in text, (ran.returncode, text)
    return text


def test_a_data_dir_has_one_engine(start, env):
    engine = start()
    text = refuses_to_start(env, PORT=str(free_port()))
    assert "in use by another engine" in text and "DATA_DIR" in text
    assert str(engine.process.pid) in text, "it says which"
    with Plain(engine.port, "ada") as ada:
        ada.ok("join", {"room": "mine"})
        assert ada.write("mine", 1)["seq"] == 1
    engine.process.kill()
    engine.process.wait()
    # The lock goes with the process, whatever it left.
    start().stop()


def test_a_newer_schema_is_refused_and_left_alone(start, env):
    start().stop()
    path = f"{env['DATA_DIR']}/throng.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("UPDATE schema_version SET version=version+1")
        version = store.execute("SELECT version FROM schema_version").fetchone()
    text = refuses_to_start(env)
    assert "newer" in text and f"version {version[0]}" in text and "throng.db" in text
    assert select(env, "SELECT version FROM schema_version") == [version]


@pytest.mark.parametrize("what", ["no database", "other tables"])
def test_another_file_is_refused_and_left_alone(env, what):
    os.makedirs(env["DATA_DIR"])
    path = f"{env['DATA_DIR']}/throng.db"
    if what == "no database":
        with open(path, "wb") as file:
            file.write(b"precious notes " * 500)
    else:
        with closing(sqlite3.connect(path)) as store:
            store.execute("CREATE TABLE precious(note)")
    with open(path, "rb") as file:
        before = file.read()
    assert "throng.db" in refuses_to_start(env)
    if what == "no database":
        with open(path, "rb") as file:
            assert file.read() == before
    else:
        assert select(env, "SELECT name FROM sqlite_schema") == [("precious",)]


@pytest.mark.parametrize("what", ["a file", "below a file", "read-only"])
def test_a_data_dir_that_cannot_be_written_is_refused(env, tmp_path, what):
    (tmp_path / "file").write_text("x")
    place = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "data"}
    text = refuses_to_start(env, DATA_DIR=str(place.get(what, "/proc/sys/throng")))
    assert "DATA_DIR" in text, text


def test_a_folder_without_write_permission_is_refused(env, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    os.makedirs(env["DATA_DIR"], mode=0o500)
    text = refuses_to_start(env)
    assert "DATA_DIR" in text and "denied" in text


def test_configuring_needs_a_store_that_can_take_it(start):
    engine = start(DATA_DIR="none")
    status, _ = configure(engine, "lobby", {"capacity": 1})
    assert status == 200, "without a store settings live in memory"
    with Plain(engine.port, "a") as one, Plain(engine.port, "b") as two:
        one.ok("join", {"room": "lobby"})
        two.refused("join", {"room": "lobby"}, "room_full")
    engine.stop()
