// Proves: clients cut off in the middle of joining, talking, leaving or connecting leave nothing
// behind: those who stay end with the right roster, and when all are gone the engine counts zero.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import net from "node:net";
import { startEngine } from "./engine.mjs";
import { collect, cut, eventually, followRoster, ok, range, seeded } from "./events.mjs";

const ROOMS = ["north", "south", "east"];
let engine;
beforeEach(async () => {
  engine = await startEngine({ MAX_WORKERS: 4, PRESENCE_INTERVAL: "50ms" });
});
afterEach(() => engine?.stop());

// What a client of the storm does: something, at once, without waiting for the answer.
function act(random, client, room) {
  const acts = [
    () => client.emit("join", { room, metadata: { n: random.below(100) } }, () => {}),
    () => client.emit("leave", { room }, () => {}),
    () => client.emit("message", { room, body: "x".repeat(random.below(2000)) }, () => {}),
    () => client.emit("typing", { room, typing: random.next() < 0.5 }),
    () => client.emit("screen", { room, sharing: random.next() < 0.5 }, () => {}),
    () => client.emit("update", { room, metadata: random.below(9) }, () => {}),
  ];
  acts[random.below(acts.length)]();
}

test("a storm of clients that are cut off", { timeout: 120_000 }, async (t) => {
  const random = seeded(t);
  const stayers = await engine.connectMany(4, (i) => `stayer${i}`);
  const rosters = stayers.map((c) => ROOMS.map((room) => followRoster(c, room)));
  const seen = stayers.map((c) => collect(c, "message"));
  for (const [i, c] of stayers.entries()) {
    for (const [r, room] of ROOMS.entries())
      rosters[i][r].begin((await ok(c, "join", room)).participants);
  }
  for (let round = 0; round < 15; round++) {
    const clients = await engine.connectMany(20, (i) => `guest${round}-${i}`);
    for (const c of clients) {
      for (let n = random.below(12); n >= 0; n--) act(random, c, ROOMS[random.below(3)]);
      if (random.next() < 0.7) cut(c);
      else c.disconnect();
    }
  }
  const wanted = stayers.map((c) => c.id).sort();
  await eventually(async () => {
    for (const room of ROOMS) {
      const { participants, count } = await ok(stayers[0], "participants", { room });
      assert.deepEqual(participants.map((p) => p.id).sort(), wanted);
      assert.equal(count, 4);
    }
    for (const own of rosters.flat()) assert.deepEqual(own.ids(), wanted);
  });
  for (const room of ROOMS) {
    const { seq } = await ok(stayers[0], "message", { room, body: "end" });
    for (const s of seen) {
      await s.until((items) => items.some((m) => m.room === room && m.seq === seq));
      assert.deepEqual(
        s.items.filter((m) => m.room === room).map((m) => m.seq),
        range(seq, 1),
      );
    }
    const { sharing } = await engine.json(`/api/rooms/${room}`);
    assert.deepEqual(sharing, []);
  }
  engine.closeClients();
  await engine.assertEmpty();
});

test("cut off right after asking to join", async () => {
  const clients = await engine.connectMany(100);
  for (const c of clients) {
    c.emit("join", "vanishing");
    c.io.engine.transport.ws._socket.resetAndDestroy();
    c.io.reconnection(false);
  }
  await engine.assertEmpty();
});

test("cut off at every stage of connecting", async () => {
  const handshake = Buffer.from(
    `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost:${engine.port}\r\n` +
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  const connect = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x34, 0x30]); // "40"
  const all = Buffer.concat([handshake, connect]);
  await Promise.all(
    range(all.length + 1).map(
      (length) =>
        new Promise((done) => {
          const socket = net.connect(engine.port, "127.0.0.1", () => {
            socket.write(all.subarray(0, length), () => socket.resetAndDestroy());
          });
          socket.on("error", () => {});
          socket.on("close", done);
        }),
    ),
  );
  await engine.assertEmpty();
  await engine.connect("after");
});

test("a message that was acknowledged is there though its sender is gone", async () => {
  const [stayer, sender] = await engine.connectMany(2);
  for (const c of [stayer, sender]) await ok(c, "join", "last words");
  const seen = collect(stayer, "message");
  await ok(sender, "message", { room: "last words", body: "bye" });
  cut(sender);
  await seen.until((items) => items.length === 1);
  assert.equal(seen.items[0].body, "bye");
});

test(
  "many connections that come and go leave no connection counted",
  { timeout: 60_000 },
  async () => {
    for (let round = 0; round < 10; round++) {
      await engine.connectMany(100);
      engine.closeClients();
    }
    await engine.assertEmpty();
  },
);
