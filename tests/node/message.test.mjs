// Proves: a message reaches everyone in its room, the sender too, once, with the number its
// acknowledgement names; any JSON and any binary passes through unchanged; what is too large, too
// deep or not allowed is refused by code.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, ok, range, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ MAX_MESSAGE_BYTES: 10_000 });
});
after(() => engine?.stop());

async function roomOf(count, room) {
  const clients = await engine.connectMany(count, (i) => `${room}${i}`);
  for (const client of clients) await ok(client, "join", room);
  return clients;
}

test("everyone gets the same message once, the sender included", async () => {
  const clients = await roomOf(3, "all");
  const outsider = await engine.connect("outsider");
  await ok(outsider, "join", "elsewhere");
  const seen = clients.map((c) => collect(c, "message"));
  const foreign = collect(outsider, "message");
  const before = Date.now();
  const first = await ok(clients[0], "message", { room: "all", body: "hello" });
  const second = await ok(clients[1], "message", { room: "all", body: "again" });
  assert.deepEqual(Object.keys(first).sort(), ["at", "id", "ok", "seq"]);
  assert.equal(first.seq, 1);
  assert.equal(second.seq, 2);
  assert.notEqual(first.id, second.id);
  assert.ok(Math.abs(first.at - before) < 5000);
  for (const s of seen) {
    await s.until((all) => all.length >= 2);
    assert.deepEqual(s.items, seen[0].items);
  }
  const [message] = seen[2].items;
  const { from, ...rest } = message;
  assert.deepEqual(rest, { room: "all", id: first.id, seq: 1, body: "hello", at: first.at });
  assert.deepEqual(Object.keys(from).sort(), ["id", "name", "user"]);
  assert.equal(from.id, clients[0].id);
  assert.equal(from.name, "all0");
  assert.equal(seen[0].items.length, 2);
  assert.equal(foreign.items.length, 0);
});

test("any JSON passes unchanged", async () => {
  const [ada, bob] = await roomOf(2, "json");
  const bodies = [
    null,
    true,
    false,
    0,
    -1,
    1.5,
    1e21,
    2 ** 53 - 1,
    "",
    "plain",
    '"quoted" \\ back',
    "tab\tline\n",
    "日本語 🎉 \u2028",
    "<b>bold</b>",
    [],
    {},
    [null, [[]], {}],
    { a: { b: [1, "2", null] }, "": 0, room: "other" },
    { z: 1, a: 2, 10: 3 },
    JSON.parse('{"__proto__":{"x":1},"constructor":2}'),
    range(500),
  ];
  const seen = [collect(ada, "message"), collect(bob, "message")];
  for (const body of bodies) await ok(ada, "message", { room: "json", body });
  for (const s of seen) {
    await s.until((all) => all.length === bodies.length);
    const text = (list) => list.map((b) => JSON.stringify(b));
    assert.deepEqual(text(s.items.map((m) => m.body)), text(bodies));
  }
  const late = await engine.connect("late");
  const { messages } = await ok(late, "join", "json");
  assert.deepEqual(JSON.stringify(messages.map((m) => m.body)), JSON.stringify(bodies));
});

test("binary passes unchanged, also inside objects", async () => {
  const [ada, bob] = await roomOf(2, "binary");
  const bytes = Buffer.from(range(256));
  const bodies = [
    bytes,
    { name: "x.bin", data: bytes, more: [Buffer.alloc(0), { deep: Buffer.from([1]) }] },
    "text after",
  ];
  const seen = [collect(ada, "message"), collect(bob, "message")];
  for (const body of bodies) await ok(ada, "message", { room: "binary", body });
  for (const s of seen) {
    await s.until((all) => all.length === bodies.length);
    assert.deepEqual(
      s.items.map((m) => m.body),
      bodies,
    );
    assert.deepEqual(
      s.items.map((m) => m.seq),
      [1, 2, 3],
    );
  }
});

test("binary is in the history too", async () => {
  const [ada] = await roomOf(1, "kept bytes");
  await ok(ada, "message", { room: "kept bytes", body: { data: Buffer.from([7, 8, 9]) } });
  const late = await engine.connect("late");
  const { messages } = await ok(late, "join", "kept bytes");
  assert.deepEqual(messages[0].body, { data: Buffer.from([7, 8, 9]) });
});

test("strings lose control characters, tab and newline stay", async () => {
  const [ada] = await roomOf(1, "control");
  const seen = collect(ada, "message");
  await ok(ada, "message", { room: "control", body: "a\u0000b\u0007c\u001b[0m\td\ne\u007f" });
  await ok(ada, "message", { room: "control", body: { deep: ["x\u0000y"] } });
  await seen.until((all) => all.length === 2);
  assert.deepEqual(
    seen.items.map((m) => m.body),
    ["abc[0m\td\ne", { deep: ["xy"] }],
  );
});

test("a body over MAX_MESSAGE_BYTES is too_large, text and binary", async () => {
  const [ada] = await roomOf(1, "large");
  await refused("too_large", ada, "message", { room: "large", body: "x".repeat(10_001) });
  await refused("too_large", ada, "message", { room: "large", body: "é".repeat(6000) });
  await refused("too_large", ada, "message", { room: "large", body: Buffer.alloc(10_001) });
  await refused("too_large", ada, "message", {
    room: "large",
    body: [Buffer.alloc(6000), Buffer.alloc(6000)],
  });
  const next = await ok(ada, "message", { room: "large", body: "x".repeat(9900) });
  assert.equal(next.seq, 1, "what is refused takes no number");
});

test("a body nested deeper than the limit is invalid", async () => {
  const [ada] = await roomOf(1, "deep");
  const nested = (depth) => JSON.parse("[".repeat(depth) + "]".repeat(depth));
  await ok(ada, "message", { room: "deep", body: nested(20) });
  await refused("invalid", ada, "message", { room: "deep", body: nested(200) });
});

test("outside the room it is not_in_room, without a body it is invalid", async () => {
  const [ada] = await roomOf(1, "inside");
  await refused("not_in_room", ada, "message", { room: "outside", body: 1 });
  await refused("invalid", ada, "message", { room: "inside" });
  await refused("invalid", ada, "message", { body: 1 });
  await refused("invalid", ada, "message", "inside");
  await refused("invalid", ada, "message", { room: "inside", body: 1, clientId: { a: 1 } });
  await ok(ada, "message", { room: "inside", body: 1 });
});

test("a message that asks for no acknowledgement is delivered all the same", async () => {
  const [ada, bob] = await roomOf(2, "silent");
  const seen = collect(bob, "message");
  ada.emit("message", { room: "silent", body: "no ack" });
  await seen.until((all) => all.length === 1);
  assert.equal(seen.items[0].body, "no ack");
});
