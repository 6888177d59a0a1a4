"""Engines one after another on the same DATA_DIR and port, and a look into their store beside them.

Owns the fixtures `env` and `start` for the tests that import them. Never writes to a store.
"""

import sqlite3
from contextlib import closing

import pytest
from engine import Engine, free_port
from test_api_store import KEY


@pytest.fixture
def env(tmp_path):
    return {"DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port()), "API_KEY": KEY}


@pytest.fixture
def start(env):
    """Starts engines on the same DATA_DIR and port; whatever is left of them ends with the test."""
    engines = []

    def begin(**more):
        engines.append(Engine(**env | more))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.kill()


def select(env, sql, *values):
    """Rows of the store's file, read beside the engine."""
    path = f"file:{env['DATA_DIR']}/throng.db?mode=ro"
    with closing(sqlite3.connect(path, uri=True, timeout=10)) as store:
        return store.execute(sql, values).fetchall()


def pages(client, room, limit):
    """Every message of a room by rising seq, through `history`."""
    found, before = [], {}
    while True:
        page = client.ok("history", {"room": room, "limit": limit} | before)
        found = page["messages"] + found
        if not page["more"]:
            return found
        assert page["messages"], f"more before {before} and nothing of it"
        before = {"before": page["messages"][0]["seq"]}
