"""Proves that a backup of MongoDB gives back every document, option and index, and that a damaged
one, or one into collections that are not empty, changes nothing. Against a server of MongoDB's wire
protocol, SecantusDB, unless MONGODB_URI names another.
"""

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine import free_port
from test_backup import DAMAGES, backups, refuses, resign, works

pymongo = pytest.importorskip("pymongo")
bson = pytest.importorskip("bson")

SERVER = Path(sys.executable).with_name("secantusd-py")
COLLECTIONS = ("messages", "users", "rooms", "throng_schema")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if "MONGODB_URI" in os.environ:
        yield os.environ["MONGODB_URI"].rsplit("/", 1)[0]
        return
    with served() as uri:
        yield uri


@contextmanager
def served(*options):
    """A server of our own: a replica set of one, unless the options say otherwise."""
    if not SERVER.exists():
        pytest.fail("no secantusd-py in this environment and no MONGODB_URI: make setup-python")
    port = free_port()
    process = subprocess.Popen(
        [SERVER, "--port", str(port), "--storage-path", ":memory:", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def uri(server, request):
    """A database of its own for each test."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    client = pymongo.MongoClient(server, directConnection=True, serverSelectionTimeoutMS=30_000)
    fill(client[name])
    yield f"{server}/{name}?directConnection=true"
    for database in (name, f"{name}_other"):
        client.drop_database(database)
    client.close()


def database(uri):
    return pymongo.MongoClient(uri).get_default_database()


def elsewhere(uri):
    return uri.replace("?", "_other?")


def fill(db):
    db.create_collection("messages")
    db.messages.create_index([("room", 1), ("seq", -1)], unique=True)
    db.messages.create_index([("room", 1), ("clientId", 1)], unique=True,
                             partialFilterExpression={"clientId": {"$exists": True}})
    db.messages.create_index("at", expireAfterSeconds=1_000_000_000, name="expiry")
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    odd = [{"$oid": "no id"}, {"$numberLong": "1"}, {"a.b": 1}, "\u0000", "", [], None, 1.5, -0.0,
           2**53 + 1, b"\x00\xff", {"$date": {"$numberLong": "x"}}, "x" * 100_000]
    db.messages.insert_many(
        {"_id": f"m{i}", "room": f"r{i % 7}", "seq": bson.Int64(i // 7 + 1),
         "from": {"id": "s", "user": "ann", "name": "Ann"}, "at": now,
         "body": odd[i % len(odd)] if i < 100 else {"text": f"number {i}"}}
        for i in range(3000)
    )
    db.rooms.insert_many({"_id": f"r{i}", "lastSeq": 429, "settings": {}} for i in range(7))
    db.users.insert_one({"_id": "ann", "name": "Ann"})
    db.throng_schema.insert_one({"_id": "schema", "version": 1})


def content(db, tail=""):
    """Every document as its bytes, and every index."""
    raw = bson.codec_options.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    return {
        name: (
            sorted(bytes(it.raw) for it in db.get_collection(name + tail, raw).find()),
            {key: value for key, value in db[name + tail].index_information().items()},
        )
        for name in COLLECTIONS
    }


def test_everything_comes_back(uri, tmp_path):
    before = content(database(uri))
    works("backup", "--mongodb-uri", uri, data=tmp_path)
    (made,) = backups(tmp_path)
    works("restore", made, "--mongodb-uri", elsewhere(uri), data=tmp_path)
    assert content(database(elsewhere(uri))) == before
    names = database(elsewhere(uri)).list_collection_names()
    assert sorted(names) == sorted(COLLECTIONS)


def test_no_credentials_are_written(uri, tmp_path):
    secret = uri.replace("mongodb://", "mongodb://ann:hunter2@")
    # Whether the server refuses the name or knows none, the password is nowhere.
    done = subprocess.run([os.environ["THRONG_BIN"], "backup", "--mongodb-uri", secret],
                          env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path)},
                          capture_output=True, text=True)
    assert "hunter2" not in done.stdout + done.stderr
    works("backup", "--mongodb-uri", uri, data=tmp_path)
    for path in backups(tmp_path)[-1].iterdir():
        assert b"hunter2" not in path.read_bytes()
        assert uri.encode() not in path.read_bytes()


def test_what_is_there_is_replaced_only_with_force_and_kept(uri, tmp_path):
    db = database(uri)
    works("backup", "--mongodb-uri", uri, data=tmp_path)
    (made,) = backups(tmp_path)
    before = content(db)
    db.messages.insert_one({"_id": "later", "room": "r0", "seq": 9999})
    later = content(db)
    assert "--force" in refuses("restore", made, "--mongodb-uri", uri, data=tmp_path)
    works("restore", made, "--force", "--dry-run", "--mongodb-uri", uri, data=tmp_path)
    assert content(db) == later and sorted(db.list_collection_names()) == sorted(COLLECTIONS)
    works("restore", made, "--force", "--mongodb-uri", uri, data=tmp_path)
    assert content(db) == before
    (aside,) = (it for it in db.list_collection_names() if it.startswith("messages_before"))
    assert content(db, aside.removeprefix("messages")) == later


@pytest.mark.parametrize("name", ["flipped", "truncated", "missing", "fewer", "up", "newer",
                                  "another's gzip"])
def test_a_damaged_backup_is_refused_and_nothing_changes(name, uri, tmp_path):
    db = database(uri)
    works("backup", "--mongodb-uri", uri, data=tmp_path)
    (made,) = backups(tmp_path)
    messages = made / "messages.bson.gz"
    half = messages.stat().st_size // 2
    if name == "flipped":
        content_ = bytearray(messages.read_bytes())
        content_[half] ^= 1
        messages.write_bytes(content_)
    elif name == "truncated":
        os.truncate(messages, half)
    elif name == "missing":
        messages.unlink()
    elif name in ("up", "newer"):
        DAMAGES[name](made)
    else:  # what the sums do not show: whoever made it has signed it
        if name == "fewer":
            os.truncate(messages, half)
        else:
            shutil.copy(made / "users.bson.gz", messages)
        sign(made, messages)
    before = content(db)
    refuses("restore", made, "--force", "--mongodb-uri", uri, data=tmp_path)
    assert content(db) == before and sorted(db.list_collection_names()) == sorted(COLLECTIONS)


def sign(made, path):
    manifest = json.loads((made / "manifest.json").read_text())
    for it in manifest["files"]:
        if it["name"] == path.name:
            it["bytes"] = path.stat().st_size
            it["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (made / "manifest.json").write_text(json.dumps(manifest))
    resign(made)


def test_a_restore_that_was_killed_is_done_by_the_next(uri, tmp_path):
    works("backup", "--mongodb-uri", uri, data=tmp_path)
    (made,) = backups(tmp_path)
    other = elsewhere(uri)
    for wait_s in (0.02, 0.05, 0.1, 0.2):
        run = subprocess.Popen([os.environ["THRONG_BIN"], "restore", made, "--force"],
                               env={"MONGODB_URI": other, "DATA_DIR": str(tmp_path)},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait_s)
        run.kill()
        run.wait()
    works("restore", made, "--force", "--mongodb-uri", other, data=tmp_path)
    assert content(database(other)) == content(database(uri))
    names = database(other).list_collection_names()
    assert not [it for it in names if it.startswith("throng_restore_")]


def test_beside_a_writer_no_room_is_behind_its_messages(uri, tmp_path):
    db, stop, written = database(uri), threading.Event(), [0]

    def keep_writing():
        while not stop.is_set():
            written[0] += 1
            db.messages.insert_one({"_id": f"b{written[0]}", "room": "busy", "seq": written[0]})
            db.rooms.update_one({"_id": "busy"}, {"$set": {"lastSeq": written[0]}}, upsert=True)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        while written[0] < 20:
            time.sleep(0.01)
        works("backup", "--mongodb-uri", uri, data=tmp_path)
    finally:
        stop.set()
        writer.join()
    (made,) = backups(tmp_path)
    other = elsewhere(uri)
    works("restore", made, "--mongodb-uri", other, data=tmp_path)
    found = database(other)
    seqs = sorted(it["seq"] for it in found.messages.find({"room": "busy"}))
    assert len(seqs) >= 19 and seqs == list(range(1, len(seqs) + 1))
    # The writer writes the message first, so one message may be ahead in a snapshot of one moment.
    assert found.rooms.find_one({"_id": "busy"})["lastSeq"] >= len(seqs) - 1


def test_without_snapshots_it_says_so_and_loses_nothing(tmp_path):
    with served("--standalone") as server:
        uri = f"{server}/alone?directConnection=true"
        client = pymongo.MongoClient(server, directConnection=True, serverSelectionTimeoutMS=30_000)
        fill(client.alone)
        before = content(client.alone)
        assert "no snapshot" in works("backup", "--mongodb-uri", uri, data=tmp_path)
        (made,) = backups(tmp_path)
        assert json.loads((made / "manifest.json").read_text())["snapshot"] is False
        works("restore", made, "--mongodb-uri", elsewhere(uri), data=tmp_path)
        assert content(client.alone_other) == before
        client.close()


def test_a_database_that_does_not_answer_is_an_error(tmp_path):
    uri = f"mongodb://ann:hunter2@127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=500"
    assert "hunter2" not in refuses("backup", "--mongodb-uri", uri, data=tmp_path)
    assert not backups(tmp_path)
    assert not list((tmp_path / "backups").glob("*.partial"))
