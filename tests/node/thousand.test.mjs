// Proves: 1,000 stock clients in one room all get every message in order, and when they leave
// nothing is left of them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, eventually, ok, range } from "./events.mjs";

const CLIENTS = 1000;
const MESSAGES = 30;
let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 4 });
});
after(() => engine?.stop());

test("a thousand clients, one room", { timeout: 180_000 }, async (t) => {
  const clients = await engine.connectMany(CLIENTS);
  for (let from = 0; from < CLIENTS; from += 100) {
    await Promise.all(
      clients.slice(from, from + 100).map((c) => ok(c, "join", { room: "hall", presence: false })),
    );
  }
  const { rooms } = await engine.json("/api/rooms");
  assert.deepEqual(
    rooms.map((r) => [r.id, r.participants]),
    [["hall", CLIENTS]],
  );
  assert.ok((await engine.metric("connections")) >= CLIENTS);
  const seen = clients.map((c) => collect(c, "message"));
  const begun = performance.now();
  await Promise.all(
    range(MESSAGES).map((n) =>
      ok(clients[n * 7], "message", { room: "hall", body: `message ${n}` }),
    ),
  );
  for (const s of seen) await s.until((items) => items.length >= MESSAGES, 60_000);
  t.diagnostic(`${CLIENTS * MESSAGES} deliveries in ${Math.round(performance.now() - begun)} ms`);
  for (const s of seen) {
    assert.deepEqual(
      s.items.map((m) => [m.seq, m.body]),
      seen[0].items.map((m) => [m.seq, m.body]),
    );
  }
  assert.deepEqual(
    seen[0].items.map((m) => m.seq),
    range(MESSAGES, 1),
  );
});

test("a full room says who is in it", async () => {
  const room = await engine.json("/api/rooms/hall");
  assert.equal(room.id, "hall");
  assert.equal(room.participants.length, CLIENTS);
  assert.equal(new Set(room.participants.map((p) => p.id)).size, CLIENTS);
});

test("all gone at once leaves nothing", async () => {
  engine.closeClients();
  await eventually(() => engine.assertEmpty(), 20_000);
});
