// Proves: `signal` reaches the one connection it names and nobody else, on whichever shard it is,
// in the order sent, and is not_found where that connection does not exist (any more).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, joinSeenBy, ok, once, range, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 4 });
});
after(() => engine?.stop());

async function roomOf(count, room) {
  const clients = await engine.connectMany(count);
  for (const client of clients) await ok(client, "join", room);
  return clients;
}

test("only the one named gets it", async () => {
  const [ada, bob, eve] = await roomOf(3, "call");
  const [own, foreign] = [ada, eve].map((c) => collect(c, "signal"));
  const received = once(bob, "signal");
  const data = {
    type: "offer",
    sdp: "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n",
    candidates: [1, null, { a: "b" }],
  };
  assert.deepEqual(await ok(ada, "signal", { to: bob.id, data }), { ok: true });
  const event = await received;
  assert.deepEqual(event, { from: { id: ada.id, user: event.from.user, name: "user0" }, data });
  await ok(ada, "message", { room: "call", body: "fence" });
  assert.equal(own.items.length + foreign.items.length, 0);
});

test("every pair reaches each other across shards", async () => {
  const clients = await roomOf(12, "mesh");
  const seen = clients.map((c) => collect(c, "signal"));
  const all = clients.flatMap((a) =>
    clients
      .filter((b) => b !== a)
      .map((b) => ok(a, "signal", { to: b.id, data: `${a.id}>${b.id}` })),
  );
  await Promise.all(all);
  for (const [i, s] of seen.entries()) {
    await s.until((items) => items.length === 11);
    const wanted = clients
      .filter((_, j) => j !== i)
      .map((c) => `${c.id}>${clients[i].id}`)
      .sort();
    assert.deepEqual(s.items.map((e) => e.data).sort(), wanted);
  }
});

test("signals of one sender keep their order", async () => {
  const [ada, bob] = await roomOf(2, "ordered");
  const seen = collect(bob, "signal");
  for (const n of range(200)) ada.emit("signal", { to: bob.id, data: n });
  await seen.until((items) => items.length === 200);
  assert.deepEqual(
    seen.items.map((e) => e.data),
    range(200),
  );
});

test("who is not there is not_found", async () => {
  const [ada] = await roomOf(1, "missing");
  const bob = await engine.connect("bob");
  await joinSeenBy(ada, bob, "missing");
  await refused("not_found", ada, "signal", { to: "AAAAAAAAAAAAAAAAAAAA", data: 1 });
  await refused("not_found", ada, "signal", { to: "no id at all", data: 1 });
  const { id } = bob;
  const left = once(ada, "presence", 5000, (e) => e.left?.includes(id));
  bob.disconnect();
  await left;
  await refused("not_found", ada, "signal", { to: id, data: 1 });
});

test("without a receiver it is invalid", async () => {
  const [ada] = await roomOf(1, "bad");
  for (const to of [undefined, null, 5, {}])
    await refused("invalid", ada, "signal", { to, data: 1 });
  await refused("invalid", ada, "signal", "AAAAAAAAAAAAAAAAAAAA");
});
