// Proves: `typing` reaches the others in the room, not the sender, is never stored, and bad input
// is ignored.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, ok } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

test("the others see who types and who stopped", async () => {
  const [ada, bob, eve] = await engine.connectMany(3);
  for (const who of [ada, bob]) await ok(who, "join", "desk");
  await ok(eve, "join", "other desk");
  const [own, seen, foreign] = [ada, bob, eve].map((c) => collect(c, "typing"));
  ada.emit("typing", { room: "desk", typing: true });
  ada.emit("typing", { room: "desk", typing: false });
  await seen.until((all) => all.length === 2);
  assert.deepEqual(
    seen.items.map((t) => t.typing),
    [true, false],
  );
  const [event] = seen.items;
  assert.deepEqual(Object.keys(event).sort(), ["from", "room", "typing"]);
  assert.equal(event.room, "desk");
  assert.deepEqual(event.from, { id: ada.id, user: event.from.user, name: "user0" });
  await ok(ada, "message", { room: "desk", body: "fence" });
  assert.equal(own.items.length, 0);
  assert.equal(foreign.items.length, 0);
});

test("typing is not part of the history and takes no number", async () => {
  const [ada, bob] = await engine.connectMany(2);
  await ok(ada, "join", "quiet");
  ada.emit("typing", { room: "quiet", typing: true });
  const { seq } = await ok(ada, "message", { room: "quiet", body: "x" });
  assert.equal(seq, 1);
  assert.equal((await ok(bob, "join", "quiet")).messages.length, 1);
});

test("bad input and rooms one is not in are ignored", async () => {
  const [ada, bob] = await engine.connectMany(2);
  for (const who of [ada, bob]) await ok(who, "join", "ignored");
  await ok(bob, "join", "only bob");
  const typing = collect(bob, "typing");
  const messages = collect(bob, "message");
  for (const bad of [
    null,
    5,
    [],
    {},
    { room: "ignored" },
    { room: "ignored", typing: "yes" },
    { room: 5, typing: true },
  ]) {
    ada.emit("typing", bad);
  }
  ada.emit("typing");
  ada.emit("typing", { room: "only bob", typing: true });
  await ok(ada, "message", { room: "ignored", body: "fence" });
  await messages.until((all) => all.length === 1);
  assert.deepEqual(typing.items, []);
});
