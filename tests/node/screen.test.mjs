// Proves: `screen` tells the others who shares, newcomers and operators see it, and it ends with
// the one who shared.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, cut, eventually, joinSeenBy, ok, once, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

test("the others see sharing begin and end", async () => {
  const [ada, bob] = await engine.connectMany(2);
  for (const who of [ada, bob]) await ok(who, "join", "stage");
  const own = collect(ada, "screen");
  const begun = once(bob, "screen");
  assert.deepEqual(await ok(ada, "screen", { room: "stage", sharing: true }), { ok: true });
  const event = await begun;
  assert.deepEqual(event, {
    room: "stage",
    from: { id: ada.id, user: event.from.user, name: "user0" },
    sharing: true,
  });
  const ended = once(bob, "screen");
  await ok(ada, "screen", { room: "stage", sharing: false });
  assert.equal((await ended).sharing, false);
  assert.equal(own.items.length, 0, "only the others get it");
});

test("who comes later sees who shares, and so does the API", async () => {
  const [ada, bob] = await engine.connectMany(2);
  await ok(ada, "join", "late stage");
  await ok(ada, "screen", { room: "late stage", sharing: true });
  const { participants } = await ok(bob, "join", "late stage");
  assert.equal(participants.find((p) => p.id === ada.id).sharing, true);
  assert.equal(participants.find((p) => p.id === bob.id).sharing, false);
  await eventually(async () => {
    const { rooms } = await engine.json("/api/rooms");
    assert.deepEqual(rooms.find((r) => r.id === "late stage").sharing, [ada.id]);
  });
});

test("sharing ends when the sharer's connection is lost", async () => {
  const [ada, bob] = await engine.connectMany(2);
  await ok(bob, "join", "lost stage");
  await joinSeenBy(bob, ada, "lost stage");
  await ok(ada, "screen", { room: "lost stage", sharing: true });
  const { id } = ada;
  const left = once(bob, "presence", 5000, (e) => e.left?.includes(id));
  cut(ada);
  await left;
  await eventually(async () => {
    const { rooms } = await engine.json("/api/rooms");
    assert.deepEqual(rooms.find((r) => r.id === "lost stage").sharing, []);
  });
});

test("outside the room it is not_in_room, without a boolean it is invalid", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "mine");
  await refused("not_in_room", ada, "screen", { room: "yours", sharing: true });
  for (const sharing of [undefined, null, 1, "true"])
    await refused("invalid", ada, "screen", { room: "mine", sharing });
});
