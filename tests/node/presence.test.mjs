// Proves: presence gathers what changes within PRESENCE_INTERVAL into one event with its net
// effect, is not sent to who joined with `presence:false`, and leads every client to the roster the
// engine has.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, followRoster, ok, once, seeded } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ PRESENCE_INTERVAL: "300ms", MAX_WORKERS: 2 });
});
after(() => engine?.stop());

test("changes close together come in one event", async () => {
  const watcher = await engine.connect("watcher");
  const others = await engine.connectMany(10);
  await ok(watcher, "join", "gather");
  const seen = collect(watcher, "presence");
  await Promise.all(others.map((c) => ok(c, "join", "gather")));
  const joined = () => seen.items.flatMap((e) => e.joined ?? []).filter((p) => p.id !== watcher.id);
  await seen.until(() => joined().length === 10);
  assert.ok(seen.items.length <= 3, `${seen.items.length} events for 10 joins at once`);
  assert.equal(seen.items.at(-1).count, 11);
  assert.deepEqual(
    joined()
      .map((p) => p.id)
      .sort(),
    others.map((c) => c.id).sort(),
  );
});

test("an event has only the keys that apply", async () => {
  const [watcher, other] = await engine.connectMany(2);
  await ok(watcher, "join", "keys");
  const keysOf = async (key, act) => {
    const event = once(watcher, "presence", 5000, (e) =>
      e[key]?.some((p) => (p.id ?? p) === other.id),
    );
    await act();
    return Object.keys(await event).sort();
  };
  const joined = await keysOf("joined", () => ok(other, "join", "keys"));
  assert.deepEqual(joined, ["count", "joined", "room"]);
  const updated = await keysOf("updated", () => ok(other, "update", { room: "keys", metadata: 1 }));
  assert.deepEqual(updated, ["count", "room", "updated"]);
  const left = await keysOf("left", () => ok(other, "leave", "keys"));
  assert.deepEqual(left, ["count", "left", "room"]);
});

test("who joined with presence:false gets none, but is seen and gets messages", async () => {
  const [loud, quiet, third] = await engine.connectMany(3);
  await ok(loud, "join", "opt out");
  const deaf = collect(quiet, "presence");
  const messages = collect(quiet, "message");
  const joined = once(loud, "presence", 5000, (e) => e.joined?.some((p) => p.id === quiet.id));
  await ok(quiet, "join", { room: "opt out", presence: false });
  await joined;
  const next = once(loud, "presence", 5000, (e) => e.joined?.some((p) => p.id === third.id));
  await ok(third, "join", "opt out");
  await next;
  await ok(third, "message", { room: "opt out", body: "fence" });
  await messages.until((all) => all.length === 1);
  assert.deepEqual(deaf.items, []);
});

test("whatever happens, everyone ends with the same roster", async (t) => {
  const random = seeded(t);
  const clients = await engine.connectMany(12);
  const watchers = clients.slice(0, 4);
  const rosters = watchers.map((c) => followRoster(c, "churn"));
  for (const [i, c] of watchers.entries())
    rosters[i].begin((await ok(c, "join", "churn")).participants);
  const inside = new Set();
  for (let step = 0; step < 1000; step++) {
    const c = clients[4 + random.below(8)];
    if (inside.has(c) && random.next() < 0.5) {
      inside.delete(c);
      await ok(c, "leave", "churn");
    } else if (inside.has(c)) await ok(c, "update", { room: "churn", metadata: step });
    else {
      inside.add(c);
      await ok(c, "join", { room: "churn", metadata: step });
    }
  }
  const truth = await ok(watchers[0], "participants", { room: "churn" });
  const ids = truth.participants.map((p) => p.id).sort();
  assert.deepEqual(ids, [...watchers, ...inside].map((c) => c.id).sort());
  // the last change is on its way for at most one interval: a marker behind it shows that all has
  // arrived
  const isLast = (e) =>
    [...(e.joined ?? []), ...(e.updated ?? [])].some((p) => p.metadata === "end");
  const marks = watchers.slice(1).map((c) => once(c, "presence", 5000, isLast));
  await ok(clients[0], "update", { room: "churn", metadata: "end" });
  await Promise.all(marks);
  for (const roster of rosters.slice(1)) {
    assert.deepEqual(roster.ids(), ids);
    assert.equal(roster.counts.at(-1), ids.length);
    for (const p of truth.participants.slice(1)) {
      if (p.id !== clients[0].id) assert.deepEqual(roster.of(p.id), p);
    }
  }
});
