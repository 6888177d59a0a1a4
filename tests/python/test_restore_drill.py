"""Proves: what a running engine has acknowledged before a backup began is in that backup, and an
engine that starts on what was restored from it goes on where it ended.
"""

import subprocess

from engine import BIN, DEFAULTS
from keeping import env, pages, start  # noqa: F401
from plain import Plain

ROOM = "drill"


def throng(*args, data, code=0):
    settings = DEFAULTS | {"DATA_DIR": str(data)}
    done = subprocess.run([BIN, *map(str, args)], env=settings, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def say(client, numbers):
    for number in numbers:
        client.ok("message", {"room": ROOM, "body": {"n": number}, "clientId": f"c{number}"})


def test_a_restored_store_goes_on_where_its_backup_ended(start, env, tmp_path):  # noqa: F811
    engine = start(HISTORY_SIZE="5")
    with Plain(engine.port, "ann") as ann:
        ann.ok("join", {"room": ROOM})
        say(ann, range(200))
        throng("backup", "--to", tmp_path / "backups", data=env["DATA_DIR"])
        say(ann, range(200, 250))
        kept = pages(ann, ROOM, 100)
    refused = throng("restore", *(tmp_path / "backups").glob("throng-*"), data=env["DATA_DIR"], code=75)
    assert "engine" in refused.stderr
    engine.stop()
    [backup] = (tmp_path / "backups").glob("throng-*")
    throng("restore", backup, data=tmp_path / "elsewhere")
    engine = start(DATA_DIR=str(tmp_path / "elsewhere"))
    with Plain(engine.port, "ann") as ann:
        joined = ann.ok("join", {"room": ROOM})
        assert 200 <= joined["lastSeq"] < 250
        assert pages(ann, ROOM, 100) == kept[: joined["lastSeq"]]
        again = ann.ok("message", {"room": ROOM, "body": {}, "clientId": "c7"})
        assert (again["seq"], again["id"]) == (kept[7]["seq"], kept[7]["id"])
        new = ann.ok("message", {"room": ROOM, "body": {}})
        assert new["seq"] == joined["lastSeq"] + 1
