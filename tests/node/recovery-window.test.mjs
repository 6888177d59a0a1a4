// Proves: whoever comes back after RECOVERY_WINDOW is new, and leaves nothing behind; a session
// that was quiet for longer than the window, but connected, is recovered all the same, whatever
// others did meanwhile.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, eventually, joinSeenBy, ok, once, pause, range } from "./events.mjs";
import { refused } from "./events.mjs";
import { TRANSPORTS, blink, comesBack, seesLeave, story, traveller } from "./recovery.mjs";

const WINDOW_MS = 1000;
// what is older than the window is forgotten once a second
const FORGOTTEN_MS = WINDOW_MS + 1500;
const ENV = { RECOVERY_WINDOW: `${WINDOW_MS}ms`, PING_INTERVAL: "1s", PING_TIMEOUT: "2s" };
// presence changes further apart than this come in events of their own
const APART_MS = 200;

// What happens while bob is quiet for longer than the window; `bob` is how he joined.
const QUIET = {
  "nothing happens": { meanwhile: () => {} },
  "others talk in another room": {
    meanwhile: async ({ engine, room }) => {
      const cy = await engine.connect("cy");
      await ok(cy, "join", `${room}, other`);
      for (const body of range(20)) await ok(cy, "message", { room: `${room}, other`, body });
    },
  },
  "others come and go, which he did not ask to be told": {
    bob: { presence: false },
    meanwhile: async ({ engine, room, ann }) => {
      const cy = await engine.connect("cy");
      await joinSeenBy(ann, cy, { room });
      await ok(cy, "leave", room);
    },
  },
  "he types himself, which only others hear": {
    meanwhile: async ({ socket, room, ann }) => {
      const typing = once(ann, "typing");
      socket.emit("typing", { room, typing: true });
      await typing;
    },
  },
  "he shares his screen, which only others hear": {
    meanwhile: ({ socket, room }) => ok(socket, "screen", { room, sharing: true }),
  },
  "he has left another room": {
    meanwhile: async ({ engine, socket, room }) => {
      const other = `${room}, left`;
      const cy = await engine.connect("cy");
      await ok(cy, "join", other);
      await ok(socket, "join", { room: other, presence: false });
      await ok(socket, "leave", other);
      for (const body of range(5)) await ok(cy, "message", { room: other, body });
    },
  },
  "others are signalled": {
    meanwhile: async ({ engine, ann }) => {
      const cy = await engine.connect("cy");
      const heard = once(ann, "signal");
      await ok(cy, "signal", { to: ann.id, data: 1 });
      await heard;
    },
  },
};

for (const workers of [1, 3]) {
  describe(`${workers} shards`, { concurrency: 16 }, () => {
    let engine;
    before(async () => {
      engine = await startEngine({ MAX_WORKERS: workers, ...ENV });
    });
    after(() => engine?.stop());

    for (const transport of Object.keys(TRANSPORTS)) {
      test(`too late over ${transport}`, (t) => tooLate(t, engine, TRANSPORTS[transport]));
    }
    for (const [name, { bob = {}, meanwhile }] of Object.entries(QUIET)) {
      test(`quiet: ${name}`, (t) => quiet(t, engine, `quiet, ${name}`, bob, meanwhile));
    }
  });
}

async function tooLate(t, engine, transports) {
  const room = `too late ${transports}`;
  const ann = await engine.connect("ann");
  await ok(ann, "join", room);
  await pause(APART_MS);
  const bob = await traveller(t, engine, "bob", transports);
  const { id } = bob.socket;
  await joinSeenBy(ann, bob.socket, room);
  const left = collect(ann, "presence");
  const seen = seesLeave(ann, id);
  bob.proxy.refuses = true;
  bob.proxy.kill();
  await seen;
  await ok(ann, "message", { room, body: "missed" });
  await pause(WINDOW_MS + 300);
  const back = await comesBack(bob);
  assert.equal(back.recovered, false);
  assert.notEqual(back.id, id);
  await ok(ann, "message", { room, body: "not for who is new" });
  await refused("not_in_room", bob.socket, "participants", { room });
  const { participants } = await ok(ann, "participants", { room });
  assert.deepEqual(
    participants.map((it) => it.name),
    ["ann"],
  );
  assert.deepEqual(story(bob.diary), ["connect", "connect"]);
  const times = left.items.filter((it) => it.left?.includes(id)).length;
  assert.equal(times, 1, "it left once");
  ann.disconnect();
}

async function quiet(t, engine, room, join, meanwhile) {
  const ann = await engine.connect("ann");
  await ok(ann, "join", { room });
  await pause(APART_MS);
  const bob = await traveller(t, engine, "bob");
  const { socket } = bob;
  const { id } = socket;
  await joinSeenBy(ann, socket, { room, ...join });
  await meanwhile({ engine, room, ann, socket });
  await pause(FORGOTTEN_MS);
  assert.deepEqual(await blink(bob), { event: "connect", id, recovered: true });
  const heard = collect(socket, "message");
  await ok(ann, "message", { room, body: "still in" });
  await heard.until((items) => items.length === 1);
  ann.disconnect();
}

test("what is kept for 500 that never come back is given up", async (t) => {
  const engine = await startEngine({ MAX_WORKERS: 3, ...ENV });
  t.after(() => engine.stop());
  const totals = async () => (await engine.json("/metrics")).total;
  const ann = await engine.connect("ann");
  await ok(ann, "join", { room: "many", presence: false });
  const many = await engine.connectMany(500);
  await Promise.all(many.map((it) => ok(it, "join", { room: "many", presence: false })));
  const left = many.map((it) => new Promise((done) => it.once("disconnect", done)));
  for (const it of many) it.io.engine.transport.ws.terminate();
  await Promise.all(left);
  for (const n of range(50)) {
    await ok(ann, "message", { room: "many", body: `${n} ${"x".repeat(1000)}` });
  }
  const during = await totals();
  assert.equal(during.sockets_away, 500);
  await eventually(async () => {
    const { recovery_bytes: bytes } = await totals();
    assert.ok(bytes > 50_000, `${bytes} bytes held for recovery`);
  });
  await eventually(async () => {
    const after = await totals();
    assert.equal(after.sockets_away, 0);
    assert.equal(after.recovery_bytes, 0);
    assert.equal(after.memberships, 1);
    assert.equal(after.sockets, 1);
  });
  const { count } = await ok(ann, "participants", { room: "many" });
  assert.equal(count, 1);
});
