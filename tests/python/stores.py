"""An embedded store as the engine makes it, written by Python's own SQLite.

Owns the schema as the tests of backups see it. Never runs an engine: a test that needs rows at a
known moment writes them itself.
"""

import sqlite3
from contextlib import closing

SCHEMA = """
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    _id TEXT PRIMARY KEY, room TEXT NOT NULL, seq INTEGER NOT NULL, "from" TEXT NOT NULL,
    body TEXT NOT NULL, at INTEGER NOT NULL, clientId TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS messages_seq ON messages (room, seq);
CREATE UNIQUE INDEX IF NOT EXISTS messages_client ON messages (room, clientId)
    WHERE clientId IS NOT NULL;
CREATE TABLE IF NOT EXISTS rooms (
    _id TEXT PRIMARY KEY, createdAt INTEGER NOT NULL, lastSeq INTEGER NOT NULL,
    settings TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS users (
    _id TEXT PRIMARY KEY, name TEXT NOT NULL, firstSeen INTEGER NOT NULL,
    lastSeen INTEGER NOT NULL, metadata TEXT
);
"""
TABLES = ("schema_version", "messages", "rooms", "users")


def open_store(folder):
    folder.mkdir(exist_ok=True)
    store = sqlite3.connect(folder / "throng.db", isolation_level=None, timeout=60)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = NORMAL")
    store.executescript(SCHEMA)
    if not store.execute("SELECT count(*) FROM schema_version").fetchone()[0]:
        store.execute("INSERT INTO schema_version VALUES (1)")
    return store


def write(store, room, first, count, body_bytes=200):
    """Messages of a room and its lastSeq, in one transaction as the engine writes them."""
    rows = [
        (f"{room}-{seq}", room, seq, '{"id":"s","user":"ann","name":"Ann"}',
         '"' + chr(97 + seq % 26) * body_bytes + '"', 1_700_000_000_000 + seq, None)
        for seq in range(first, first + count)
    ]
    store.execute("BEGIN IMMEDIATE")
    store.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    store.execute(
        "INSERT INTO rooms VALUES (?, 1, ?, '{}') "
        "ON CONFLICT (_id) DO UPDATE SET lastSeq = excluded.lastSeq",
        (room, first + count - 1),
    )
    store.execute(
        "INSERT INTO users VALUES ('ann', 'Ann', 1, ?, NULL) "
        "ON CONFLICT (_id) DO UPDATE SET lastSeen = excluded.lastSeen",
        (first,),
    )
    store.execute("COMMIT")


def rows(path):
    """Every row of every table, and what the file says of itself."""
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {table: store.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
                for table in TABLES}
