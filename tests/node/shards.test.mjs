// Proves: with four shards, rooms whose members sit on all of them behave as one room: everyone
// gets everything once.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, eventually, ok, range } from "./events.mjs";

const CLIENTS = 32;
const ROOMS = range(8).map((n) => `room-${n}`);
let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 4 });
});
after(() => engine?.stop());

test("four shards are reported, and more than one of them has connections", async () => {
  await engine.connectMany(CLIENTS);
  const shards = await engine.metric("shards");
  assert.equal(shards.length, 4);
  assert.ok(
    shards.filter((s) => s.connections > 0).length > 1,
    JSON.stringify(shards.map((s) => s.connections)),
  );
  engine.closeClients();
  await engine.assertEmpty();
});

test("rooms that span shards reach every member once", async () => {
  const clients = await engine.connectMany(CLIENTS);
  for (const room of ROOMS) {
    const replies = await Promise.all(clients.map((c) => ok(c, "join", { room, presence: false })));
    assert.deepEqual(
      replies.map((r) => r.count).sort((a, b) => a - b),
      range(CLIENTS, 1),
    );
  }
  const seen = clients.map((c) => collect(c, "message"));
  const sent = clients.flatMap((c, i) =>
    ROOMS.map((room) => ok(c, "message", { room, body: `${i} in ${room}` })),
  );
  await Promise.all(sent);
  const all = CLIENTS * ROOMS.length;
  for (const s of seen) {
    await s.until((items) => items.length >= all);
    assert.equal(s.items.length, all);
    assert.equal(new Set(s.items.map((m) => m.id)).size, all);
    for (const room of ROOMS) {
      const own = s.items.filter((m) => m.room === room);
      assert.deepEqual(
        own.map((m) => m.seq),
        range(CLIENTS, 1),
      );
      assert.deepEqual(
        own,
        seen[0].items.filter((m) => m.room === room),
      );
    }
  }
});

test("the API sees the rooms of all shards", async () => {
  await eventually(async () => {
    const { rooms } = await engine.json("/api/rooms?limit=100");
    assert.deepEqual(rooms.map((r) => r.id).sort(), ROOMS);
    for (const room of rooms)
      assert.deepEqual([room.participants, room.lastSeq], [CLIENTS, CLIENTS]);
  });
});
