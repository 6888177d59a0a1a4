// Proves: `join` answers with the room as it is, tells the others, takes a bare room name, may be
// repeated, and refuses what is no room name.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, ok, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

test("the first one in gets an empty room with itself in it", async () => {
  const ada = await engine.connect("ada");
  const before = Date.now();
  const reply = await ok(ada, "join", { room: "first", metadata: { colour: "red" } });
  const { participants, ...rest } = reply;
  assert.equal(typeof rest.state, "object");
  delete rest.state;
  assert.deepEqual(rest, {
    ok: true,
    room: "first",
    count: 1,
    lastSeq: 0,
    messages: [],
    complete: true,
  });
  assert.equal(participants.length, 1);
  const [me] = participants;
  assert.ok(Math.abs(me.joinedAt - before) < 5000, "joinedAt is milliseconds since 1970");
  delete me.joinedAt;
  assert.deepEqual(me, {
    id: ada.id,
    user: me.user,
    name: "ada",
    metadata: { colour: "red" },
    sharing: false,
  });
  assert.equal(typeof me.user, "string");
});

test("a bare room name is accepted", async () => {
  const bob = await engine.connect("bob");
  const reply = await ok(bob, "join", "bare");
  assert.equal(reply.room, "bare");
  assert.equal(reply.count, 1);
});

test("who is there learns of who comes, who comes learns of who is there", async () => {
  const [ada, bob] = await engine.connectMany(2);
  await ok(ada, "join", "pair");
  const presence = collect(ada, "presence");
  const reply = await ok(bob, "join", { room: "pair", metadata: [1, { deep: null }] });
  assert.deepEqual(reply.participants.map((p) => p.id).sort(), [ada.id, bob.id].sort());
  assert.equal(reply.count, 2);
  await presence.until((all) => all.some((e) => e.joined?.some((p) => p.id === bob.id)));
  const event = presence.items.find((e) => e.joined?.some((p) => p.id === bob.id));
  assert.equal(event.room, "pair");
  assert.equal(event.count, 2);
  const joined = event.joined.find((p) => p.id === bob.id);
  assert.deepEqual(
    joined,
    reply.participants.find((p) => p.id === bob.id),
  );
  assert.deepEqual(joined.metadata, [1, { deep: null }]);
});

test("joining again changes nothing but the metadata given", async () => {
  const ada = await engine.connect("ada");
  const first = await ok(ada, "join", { room: "again", metadata: 1 });
  const second = await ok(ada, "join", { room: "again", metadata: 2 });
  assert.equal(second.count, 1);
  assert.equal(second.participants.length, 1);
  assert.equal(second.participants[0].metadata, 2);
  assert.equal(second.participants[0].joinedAt, first.participants[0].joinedAt);
});

test("one client may be in many rooms", async () => {
  const ada = await engine.connect("ada");
  for (let i = 0; i < 50; i++) assert.equal((await ok(ada, "join", `many-${i}`)).count, 1);
});

test("room names are bytes of UTF-8, told apart exactly", async () => {
  const ada = await engine.connect("ada");
  const names = [
    "é",
    "e\u0301",
    "Lobby",
    "lobby",
    "a b",
    "日本語",
    "🎉",
    "a/b?c#d",
    "{x}",
    "*",
    "__proto__",
    "x".repeat(128),
  ];
  for (const room of names) {
    const reply = await ok(ada, "join", { room });
    assert.equal(reply.room, room);
    assert.equal(reply.count, 1, room);
  }
});

test("what is no room name is refused and the connection lives on", async () => {
  const ada = await engine.connect("ada");
  const rooms = [
    "",
    "x".repeat(129),
    "é".repeat(65),
    "a\u0000b",
    "a\nb",
    "a\u007fb",
    5,
    null,
    true,
    [],
    ["a"],
    { $ne: null },
  ];
  for (const room of rooms) await refused("invalid", ada, "join", { room });
  for (const payload of ["", 5, null, true, [], {}]) await refused("invalid", ada, "join", payload);
  await refused("invalid", ada, "join");
  await ok(ada, "join", "still here");
});
