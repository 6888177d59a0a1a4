// Proves: a stock client whose connection breaks, however it breaks and over whatever transport,
// comes back as who it was: same id, same rooms, and everything said meanwhile, once, in order and
// before "connect"; others see it leave and come back.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ask, eventually, joinSeenBy, ok, range } from "./events.mjs";
import { BREAKS, TRANSPORTS, blink, comesBack, seesJoin, seesLeave } from "./recovery.mjs";
import { story, traveller } from "./recovery.mjs";

const MISSED = 200;
const shards = [1, 3];

for (const workers of shards) {
  describe(`${workers} shards`, { concurrency: 6 }, () => {
    let engine;
    before(async () => {
      const ping = { PING_INTERVAL: "1s", PING_TIMEOUT: "1s" };
      engine = await startEngine({ MAX_WORKERS: workers, RECOVERY_WINDOW: "5s", ...ping });
    });
    after(() => engine?.stop());

    for (const transport of Object.keys(TRANSPORTS)) {
      for (const way of Object.keys(BREAKS)) {
        test(`over ${transport}, ${way}`, (t) => missesNothing(t, engine, transport, way));
      }
      test(`ten times in a row over ${transport}`, (t) => tenTimes(t, engine, transport));
      test(`without ever a packet received over ${transport}`, async (t) => {
        const bob = await traveller(t, engine, "bob", TRANSPORTS[transport]);
        const { id } = bob.socket;
        assert.deepEqual(await blink(bob), { event: "connect", id, recovered: true });
      });
    }

    test("two in one room", (t) => twoInOneRoom(t, engine));
    test("a room left before is not joined again", (t) => leftBefore(t, engine));
  });
}

// Says bodies one after the other, all under way at once.
function say(client, room, bodies) {
  return Promise.all(bodies.map((body) => ok(client, "message", { room, body })));
}

async function missesNothing(t, engine, transport, way) {
  const room = `${transport} ${way}`;
  const ann = await engine.connect("ann");
  await ok(ann, "join", room);
  const bob = await traveller(t, engine, "bob", TRANSPORTS[transport]);
  const { id } = bob.socket;
  await joinSeenBy(ann, bob.socket, room);
  // the last of these may be on its way while the connection breaks
  await say(ann, room, range(3));
  const left = seesLeave(ann, id);
  BREAKS[way](bob);
  await left;
  await say(ann, room, range(MISSED, 3));
  // who is away may never come back: the sender is told, and nothing is kept
  const { error } = await ask(ann, "signal", { to: id, data: "meanwhile" });
  assert.equal(error.code, "not_found");
  const joined = seesJoin(ann, id);
  assert.deepEqual(await comesBack(bob), { event: "connect", id, recovered: true });
  assert.deepEqual((await joined).joined[0].name, "bob");
  const total = 3 + MISSED;
  await say(ann, room, [total]);
  await eventually(async () => assert.equal(story(bob.diary).at(-1), total));
  const expected = ["connect", ...range(total), "connect", total];
  assert.deepEqual(story(bob.diary), expected);
  assert.deepEqual(bob.diary.filter((it) => it.event === "signal"), []);
  ann.disconnect();
}

async function tenTimes(t, engine, transport) {
  const room = `ten times ${transport}`;
  const ann = await engine.connect("ann");
  await ok(ann, "join", room);
  const bob = await traveller(t, engine, "bob", TRANSPORTS[transport]);
  const { id } = bob.socket;
  await ok(bob.socket, "join", room);
  for (const n of range(10)) {
    bob.proxy.refuses = true;
    bob.proxy.kill();
    await say(ann, room, [n]);
    await eventually(async () => assert.ok(!bob.socket.connected));
    assert.deepEqual(await comesBack(bob), { event: "connect", id, recovered: true }, `${n}`);
  }
  const expected = ["connect", ...range(10).flatMap((n) => [n, "connect"])];
  // a message may also arrive just before the connection breaks; it precedes the connect either way
  assert.deepEqual(story(bob.diary), expected);
  ann.disconnect();
}

async function twoInOneRoom(t, engine) {
  const room = "two";
  const ann = await engine.connect("ann");
  await ok(ann, "join", room);
  const pair = await Promise.all(["bob", "cy"].map((name) => traveller(t, engine, name)));
  const ids = pair.map((it) => it.socket.id);
  for (const it of pair) await ok(it.socket, "join", room);
  for (const it of pair) BREAKS["cut on both sides"](it);
  await say(ann, room, range(MISSED));
  await eventually(async () => assert.ok(pair.every((it) => !it.socket.connected)));
  const back = await Promise.all(pair.map((it) => comesBack(it)));
  assert.deepEqual(
    back,
    ids.map((id) => ({ event: "connect", id, recovered: true })),
  );
  for (const it of pair) {
    assert.deepEqual(story(it.diary), ["connect", ...range(MISSED), "connect"]);
  }
  ann.disconnect();
}

async function leftBefore(t, engine) {
  const ann = await engine.connect("ann");
  for (const room of ["stays", "goes"]) await ok(ann, "join", room);
  const bob = await traveller(t, engine, "bob");
  for (const room of ["stays", "goes"]) await ok(bob.socket, "join", room);
  await ok(bob.socket, "leave", "goes");
  BREAKS["cut on both sides"](bob);
  await say(ann, "goes", ["not for bob"]);
  await say(ann, "stays", ["for bob"]);
  await eventually(async () => assert.ok(!bob.socket.connected));
  assert.equal((await comesBack(bob)).recovered, true);
  assert.deepEqual(story(bob.diary), ["connect", "for bob", "connect"]);
  const { participants } = await ok(ann, "participants", { room: "goes" });
  assert.deepEqual(
    participants.map((it) => it.name),
    ["ann"],
  );
  ann.disconnect();
}
