// Proves: MESSAGE_RATE_LIMIT holds per user over all its connections and answers `rate_limited`;
// TYPING_RATE_LIMIT drops silently; both refill with time and touch nobody else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ask, collect, eventually, ok, range, refused } from "./events.mjs";

test("messages over the limit are refused, for the user, not for others", async (t) => {
  const engine = await startEngine({ MESSAGE_RATE_LIMIT: "5/m", MAX_WORKERS: 4 });
  t.after(() => engine.stop());
  const same = await engine.connectMany(4, () => "ada");
  const bob = await engine.connect("bob");
  for (const c of [...same, bob]) await ok(c, "join", { room: "limits", presence: false });
  const seen = collect(bob, "message");
  for (const n of range(5)) await ok(same[n % 4], "message", { room: "limits", body: n });
  for (const c of same)
    await refused("rate_limited", c, "message", { room: "limits", body: "over" });
  const reply = await ok(bob, "message", { room: "limits", body: "mine" });
  assert.equal(reply.seq, 6, "what is refused takes no number");
  await seen.until((all) => all.length === 6);
  assert.deepEqual(
    seen.items.map((m) => m.body),
    [0, 1, 2, 3, 4, "mine"],
  );
  await ok(same[0], "history", { room: "limits" });
});

test("the limit refills", async (t) => {
  const engine = await startEngine({ MESSAGE_RATE_LIMIT: "4/s" });
  t.after(() => engine.stop());
  const ada = await engine.connect("ada");
  await ok(ada, "join", "refill");
  const burst = await Promise.all(
    range(12).map((n) => ask(ada, "message", { room: "refill", body: n })),
  );
  const taken = burst.filter((r) => r.ok).length;
  assert.ok(taken >= 4 && taken <= 6, `${taken} of 12 at once`);
  for (const r of burst.filter((r) => !r.ok)) assert.equal(r.error.code, "rate_limited");
  await eventually(() => ok(ada, "message", { room: "refill", body: "later" }), 3000);
});

test("a bare number counts per minute", async (t) => {
  const engine = await startEngine({ MESSAGE_RATE_LIMIT: "3" });
  t.after(() => engine.stop());
  const ada = await engine.connect("ada");
  await ok(ada, "join", "bare");
  for (const n of range(3)) await ok(ada, "message", { room: "bare", body: n });
  await refused("rate_limited", ada, "message", { room: "bare", body: "over" });
});

test("coming back does not reset the limit", async (t) => {
  const engine = await startEngine({ MESSAGE_RATE_LIMIT: "2/m" });
  t.after(() => engine.stop());
  const first = await engine.connect("ada");
  await ok(first, "join", "back");
  for (const n of range(2)) await ok(first, "message", { room: "back", body: n });
  first.disconnect();
  const second = await engine.connect("ADA");
  await ok(second, "join", "back");
  await refused("rate_limited", second, "message", { room: "back", body: "over" });
});

test("typing over the limit is dropped without a word", async (t) => {
  const engine = await startEngine({ TYPING_RATE_LIMIT: "3/m" });
  t.after(() => engine.stop());
  const [ada, bob] = await engine.connectMany(2);
  for (const c of [ada, bob]) await ok(c, "join", "typing");
  const typing = collect(bob, "typing");
  const messages = collect(bob, "message");
  for (const n of range(10)) ada.emit("typing", { room: "typing", typing: n % 2 === 0 });
  await ok(ada, "message", { room: "typing", body: "fence" });
  await messages.until((all) => all.length === 1);
  assert.deepEqual(
    typing.items.map((e) => e.typing),
    [true, false, true],
  );
});
