// Proves: a repeated `clientId` returns the first result and is delivered once, also over a new
// connection of the user and also when both copies are under way at once.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, cut, ok } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 2 });
});
after(() => engine?.stop());

test("sent again, it is answered with the first result and delivered once", async () => {
  const [ada, bob] = await engine.connectMany(2);
  for (const who of [ada, bob]) await ok(who, "join", "dedupe");
  const seen = collect(bob, "message");
  const message = { room: "dedupe", body: "one", clientId: "c-1" };
  const first = await ok(ada, "message", message);
  const again = await ok(ada, "message", { ...message, body: "changed" });
  assert.deepEqual([again.id, again.seq, again.at], [first.id, first.seq, first.at]);
  const next = await ok(ada, "message", { room: "dedupe", body: "two", clientId: "c-2" });
  assert.equal(next.seq, first.seq + 1);
  await seen.until((all) => all.some((m) => m.seq === next.seq));
  assert.deepEqual(
    seen.items.map((m) => [m.body, m.clientId]),
    [
      ["one", "c-1"],
      ["two", "c-2"],
    ],
  );
});

test("both copies under way at once", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "race");
  const seen = collect(ada, "message");
  const copies = Array.from({ length: 20 }, () =>
    ok(ada, "message", { room: "race", body: "x", clientId: "same" }),
  );
  const replies = await Promise.all(copies);
  assert.equal(new Set(replies.map((r) => `${r.id} ${r.seq}`)).size, 1);
  const end = await ok(ada, "message", { room: "race", body: "end" });
  assert.equal(end.seq, 2);
  await seen.until((all) => all.length >= 2);
  assert.deepEqual(
    seen.items.map((m) => m.body),
    ["x", "end"],
  );
});

test("after a lost connection the same user gets the first result", async () => {
  const first = await engine.connect("carol");
  await ok(first, "join", "retry");
  const sent = await ok(first, "message", { room: "retry", body: "once", clientId: "r-1" });
  cut(first);
  const second = await engine.connect("carol");
  await ok(second, "join", "retry");
  const again = await ok(second, "message", { room: "retry", body: "once", clientId: "r-1" });
  assert.deepEqual([again.id, again.seq], [sent.id, sent.seq]);
});

test("a clientId counts per room", async () => {
  const ada = await engine.connect("ada");
  for (const room of ["here", "there"]) await ok(ada, "join", room);
  const here = await ok(ada, "message", { room: "here", body: 1, clientId: "k" });
  const there = await ok(ada, "message", { room: "there", body: 2, clientId: "k" });
  assert.equal(here.seq, 1);
  assert.equal(there.seq, 1);
  assert.notEqual(here.id, there.id);
});
