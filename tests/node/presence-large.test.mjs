// Proves: a room over 1,000 participants announces only its count, at most once a second, and the
// join reply names the first 1,000.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, ok, refused } from "./events.mjs";

const CROWD = 1010;
let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 4 });
});
after(() => engine?.stop());

test("only the count, at most once a second", { timeout: 120_000 }, async () => {
  const crowd = await engine.connectMany(CROWD);
  for (let from = 0; from < CROWD; from += 100) {
    await Promise.all(
      crowd.slice(from, from + 100).map((c) => ok(c, "join", { room: "stadium", presence: false })),
    );
  }
  const watcher = await engine.connect("watcher");
  const reply = await ok(watcher, "join", "stadium");
  assert.equal(reply.count, CROWD + 1);
  assert.equal(reply.participants.length, 1000);
  const seen = collect(watcher, "presence");
  const times = [];
  watcher.on("presence", () => times.push(performance.now()));
  // one client goes in and out without pause; what watchers get of it must be paced
  while (times.length < 3) {
    await ok(crowd[0], "leave", "stadium");
    await ok(crowd[0], "join", { room: "stadium", presence: false });
  }
  for (const event of seen.items) assert.deepEqual(Object.keys(event).sort(), ["count", "room"]);
  for (let i = 1; i < 3; i++)
    assert.ok(times[i] - times[i - 1] > 900, `events ${times[i] - times[i - 1]} ms apart`);
});

test("paging reaches all of them", async () => {
  const asker = await engine.connect("asker");
  await refused("not_in_room", asker, "participants", { room: "stadium" });
  await ok(asker, "join", { room: "stadium", presence: false });
  const ids = new Set();
  let count;
  let after;
  do {
    const page = await ok(asker, "participants", {
      room: "stadium",
      limit: 400,
      ...(after && { after }),
    });
    page.participants.forEach((p) => ids.add(p.id));
    ({ count, next: after } = page);
  } while (after);
  assert.equal(ids.size, count);
  assert.ok(count > 1000);
});
