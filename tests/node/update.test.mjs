// Proves: `update` changes one's metadata for the others, for newcomers and nothing else.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { joinSeenBy, ok, once, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

test("the others and newcomers see the new metadata", async () => {
  const [ada, bob, late] = await engine.connectMany(3);
  await ok(bob, "join", "desk");
  const joined = await joinSeenBy(bob, ada, {
    room: "desk",
    metadata: { status: "here", old: true },
  });
  const seen = once(bob, "presence", 5000, (e) => e.updated?.length);
  assert.deepEqual(await ok(ada, "update", { room: "desk", metadata: { status: "away" } }), {
    ok: true,
  });
  const event = await seen;
  assert.equal(event.room, "desk");
  assert.equal(event.count, 2);
  assert.deepEqual(event.updated, [
    { ...joined.participants.find((p) => p.id === ada.id), metadata: { status: "away" } },
  ]);
  const { participants } = await ok(late, "join", "desk");
  assert.deepEqual(participants.find((p) => p.id === ada.id).metadata, { status: "away" });
});

test("metadata belongs to one room", async () => {
  const ada = await engine.connect("ada");
  for (const room of ["left", "right"]) await ok(ada, "join", { room, metadata: room });
  await ok(ada, "update", { room: "left", metadata: "changed" });
  const right = await ok(ada, "participants", { room: "right" });
  assert.equal(right.participants[0].metadata, "right");
});

test("outside the room it is not_in_room, without metadata it is invalid", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "mine");
  await refused("not_in_room", ada, "update", { room: "yours", metadata: 1 });
  await refused("invalid", ada, "update", { room: "mine" });
  await refused("invalid", ada, "update", { metadata: 1 });
});
