// Proves: `participants` pages through a room's roster, everyone exactly once, with the whole count
// on every page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ok, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 2 });
});
after(() => engine?.stop());

test("pages hold everyone once", async () => {
  const clients = await engine.connectMany(25);
  await Promise.all(clients.map((c, i) => ok(c, "join", { room: "crowd", metadata: i })));
  const found = [];
  let after;
  const sizes = [];
  do {
    const page = await ok(clients[0], "participants", {
      room: "crowd",
      limit: 10,
      ...(after && { after }),
    });
    assert.equal(page.count, 25);
    sizes.push(page.participants.length);
    found.push(...page.participants);
    after = page.next;
  } while (after !== undefined && after !== null && sizes.length < 10);
  assert.deepEqual(sizes, [10, 10, 5]);
  assert.deepEqual(found.map((p) => p.id).sort(), clients.map((c) => c.id).sort());
  for (const p of found) assert.equal(clients[p.metadata].id, p.id);
});

test("one page is enough where all fit", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "single");
  const page = await ok(ada, "participants", "single");
  assert.equal(page.count, 1);
  assert.equal(page.next ?? null, null);
  assert.deepEqual(
    page.participants.map((p) => p.name),
    ["ada"],
  );
});

test("paging goes on when the one it stopped at has left", async () => {
  const clients = await engine.connectMany(6);
  await Promise.all(clients.map((c) => ok(c, "join", "moving")));
  const first = await ok(clients[0], "participants", { room: "moving", limit: 3 });
  const last = first.participants.at(-1).id;
  const asker = clients.find((c) => c.id !== last);
  await ok(
    clients.find((c) => c.id === last),
    "leave",
    "moving",
  );
  const second = await ok(asker, "participants", { room: "moving", limit: 10, after: first.next });
  const all = [...first.participants, ...second.participants].map((p) => p.id).sort();
  assert.deepEqual(all, clients.map((c) => c.id).sort());
  assert.equal(second.count, 5);
});

test("outside the room it is not_in_room, bad bounds are invalid", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "bad");
  await refused("not_in_room", ada, "participants", { room: "elsewhere" });
  for (const limit of [-1, "ten", 1.5])
    await refused("invalid", ada, "participants", { room: "bad", limit });
  await refused("invalid", ada, "participants", { room: "bad", after: {} });
});
