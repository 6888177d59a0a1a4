// Proves: who leaves hears nothing more of the room, the others learn of it, and leaving twice is
// refused.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, joinSeenBy, ok, once, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

test("the others get presence with the id that left", async () => {
  const [ada, bob] = await engine.connectMany(2);
  await ok(ada, "join", "hall");
  await joinSeenBy(ada, bob, "hall");
  const left = once(ada, "presence", 5000, (e) => e.left?.length);
  const reply = await ok(bob, "leave", { room: "hall" });
  assert.deepEqual(reply, { ok: true });
  const event = await left;
  assert.equal(event.room, "hall");
  assert.deepEqual(event.left, [bob.id]);
  assert.equal(event.count, 1);
});

test("nothing of the room reaches who left, even with a bare room name", async () => {
  const [ada, bob] = await engine.connectMany(2);
  for (const who of [ada, bob]) for (const room of ["left", "kept"]) await ok(who, "join", room);
  const messages = collect(bob, "message");
  await ok(bob, "leave", "left");
  await ok(ada, "message", { room: "left", body: "not for bob" });
  await ok(ada, "message", { room: "kept", body: "for bob" });
  await messages.until((all) => all.length > 0);
  assert.deepEqual(
    messages.items.map((m) => m.body),
    ["for bob"],
  );
});

test("what needs the room is refused after leaving", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "gone");
  await ok(ada, "leave", "gone");
  await refused("not_in_room", ada, "leave", "gone");
  await refused("not_in_room", ada, "message", { room: "gone", body: 1 });
  await refused("not_in_room", ada, "leave", "never joined");
  for (const payload of [{}, null, 7, { room: "" }])
    await refused("invalid", ada, "leave", payload);
});

test("a disconnect is a leave", async () => {
  const [ada, bob] = await engine.connectMany(2);
  await ok(ada, "join", "close");
  await joinSeenBy(ada, bob, "close");
  const { id } = bob;
  const left = once(ada, "presence", 5000, (e) => e.left?.includes(id));
  bob.disconnect();
  assert.equal((await left).count, 1);
  const { participants } = await ok(ada, "participants", { room: "close" });
  assert.deepEqual(
    participants.map((p) => p.id),
    [ada.id],
  );
});
