// Proves: with COMPRESSION=on clients that offer permessage-deflate get it, and every message
// arrives as it was sent, above and below COMPRESSION_MIN_BYTES, in any window, beside clients
// without it; with COMPRESSION=off nobody gets it.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { startEngine } from "./engine.mjs";
import { collect, eventually, ok, range } from "./events.mjs";

const DEFLATE = { perMessageDeflate: { threshold: 0 } };
const PLAIN = { perMessageDeflate: false };
const extensionsOf = (socket) => socket.io.engine.transport.ws.extensions;
const bytesRead = (socket) => socket.io.engine.transport.ws._socket.bytesRead;

async function negotiated(engine, offer, path = "/socket.io/?EIO=4&transport=websocket") {
  const ws = new WebSocket(`ws://127.0.0.1:${engine.port}${path}`, { perMessageDeflate: offer });
  let answer;
  ws.on("upgrade", ({ headers }) => (answer = headers["sec-websocket-extensions"]));
  await new Promise((done, fail) => ws.once("open", done).once("error", fail));
  ws.terminate();
  return answer;
}

test("off: not negotiated", async (t) => {
  const engine = await startEngine();
  t.after(() => engine.stop());
  for (const path of [undefined, "/ws"])
    assert.equal(await negotiated(engine, true, path), undefined);
  const ann = await engine.connect("ann", DEFLATE);
  assert.equal(extensionsOf(ann), "");
  await ok(ann, "join", "off");
  await ok(ann, "message", { room: "off", body: "x".repeat(5000) });
});

// From nothing to more than any window, easy and hard to compress.
const BODIES = [
  "",
  "short",
  "x".repeat(300),
  "x".repeat(600),
  "é".repeat(3000),
  range(3000),
  "y".repeat(32_000),
  "z".repeat(40_000),
  randomBytes(15_000).toString("base64"),
  randomBytes(60_000).toString("base64"),
  { deep: range(200).map((n) => ({ n, text: `number ${n}` })) },
  Buffer.alloc(20, 7),
  Buffer.alloc(10_000, 7),
  randomBytes(20_000),
  { a: Buffer.alloc(5000), b: "text", c: randomBytes(3) },
];

for (const workers of [1, 3]) {
  describe(`on, ${workers} shards`, () => {
    let engine;
    before(async () => {
      const sizes = { MAX_MESSAGE_BYTES: 200_000, COMPRESSION_MIN_BYTES: 500 };
      engine = await startEngine({ MAX_WORKERS: workers, COMPRESSION: "on", ...sizes });
    });
    after(() => engine?.stop());

    test("who offers it gets it, who does not does not", async () => {
      for (const path of [undefined, "/ws"]) {
        assert.match(await negotiated(engine, true, path), /^permessage-deflate/);
        assert.equal(await negotiated(engine, false, path), undefined);
      }
      const answer = await negotiated(engine, { serverMaxWindowBits: 9 });
      assert.match(answer, /server_max_window_bits=9/);
    });

    const offers = {
      "every window": {},
      "a window of 512 bytes": { serverMaxWindowBits: 9 },
      "a small window of its own": { clientMaxWindowBits: 9 },
      "no context takeover": { clientNoContextTakeover: true, serverNoContextTakeover: true },
      "nothing sent compressed": { threshold: 1 << 20 },
    };
    for (const [name, offer] of Object.entries(offers)) {
      test(`every message arrives as it was sent: ${name}`, () => everyMessage(name, offer));
    }

    async function everyMessage(room, offer) {
      const deflate = { perMessageDeflate: { threshold: 0, ...offer } };
      const [ann, bob] = [await engine.connect("ann", deflate), await engine.connect("bob", PLAIN)];
      assert.equal(extensionsOf(ann), "permessage-deflate");
      assert.equal(extensionsOf(bob), "");
      const seen = [ann, bob].map((it) => collect(it, "message"));
      for (const it of [ann, bob]) await ok(it, "join", { room, presence: false });
      for (const body of BODIES) await ok(ann, "message", { room, body });
      for (const body of BODIES) await ok(bob, "message", { room, body });
      for (const it of seen) {
        await it.until((items) => items.length === 2 * BODIES.length);
        assert.deepEqual(
          it.items.map((message) => message.body),
          [...BODIES, ...BODIES],
        );
      }
      // as many of the latest as one answer takes
      const { messages } = await ok(ann, "history", { room });
      assert.ok(messages.length > 5);
      assert.deepEqual(
        messages.map((message) => message.body),
        [...BODIES, ...BODIES].slice(-messages.length),
      );
    }

    test("one broadcast to many, compressed and not, with and without Socket.IO", async () => {
      const room = "everyone";
      const deflating = await engine.connectMany(10, (n) => `deflating${n}`, DEFLATE);
      const small = { perMessageDeflate: { serverMaxWindowBits: 10 } };
      const narrow = await engine.connectMany(5, (n) => `narrow${n}`, small);
      const plain = await engine.connectMany(10, (n) => `plain${n}`, PLAIN);
      const all = [...deflating, ...narrow, ...plain];
      const json = await Promise.all([true, false].map((on) => jsonClient(engine, room, on)));
      await Promise.all(all.map((it) => ok(it, "join", { room, presence: false })));
      const seen = all.map((it) => collect(it, "message"));
      const before = all.map(bytesRead);
      const bodies = ["x".repeat(100), "x".repeat(900), "x".repeat(30_000), "y".repeat(31_000)];
      for (const body of bodies) await ok(plain[0], "message", { room, body });
      for (const it of seen) {
        await it.until((items) => items.length === bodies.length);
        assert.deepEqual(
          it.items.map((message) => message.body),
          bodies,
        );
      }
      for (const it of json) {
        await eventually(async () => assert.equal(it.bodies.length, bodies.length));
        assert.deepEqual(it.bodies, bodies);
        it.ws.terminate();
      }
      const read = all.map((it, n) => bytesRead(it) - before[n]);
      for (const n of range(10)) assert.ok(read[n] < 5000, `${read[n]} bytes when compressed`);
      for (const n of range(10, 15)) assert.ok(read[n] > 60_000, `${read[n]} bytes when not`);
    });

    test("short messages stay as they are", async () => {
      const ann = await engine.connect("ann", DEFLATE);
      await ok(ann, "join", { room: "short", presence: false });
      const before = bytesRead(ann);
      const body = "a".repeat(200);
      for (const clientId of "0123456789") {
        await ok(ann, "message", { room: "short", body, clientId });
      }
      const read = bytesRead(ann) - before;
      assert.ok(read > 10 * 300, `${read} bytes for ten events and answers`);
    });

    test("a polling session that becomes a WebSocket has it too", async () => {
      const ann = await engine.connect("ann", { transports: ["polling", "websocket"], ...DEFLATE });
      await eventually(async () => assert.equal(ann.io.engine.transport.name, "websocket"));
      assert.equal(extensionsOf(ann), "permessage-deflate");
      await ok(ann, "join", { room: "upgraded", presence: false });
      const heard = collect(ann, "message");
      const before = bytesRead(ann);
      await ok(ann, "message", { room: "upgraded", body: "x".repeat(20_000) });
      await heard.until((items) => items.length === 1);
      assert.equal(heard.items[0].body, "x".repeat(20_000));
      assert.ok(bytesRead(ann) - before < 3000, `${bytesRead(ann) - before} bytes`);
    });
  });
}

async function jsonClient(engine, room, perMessageDeflate) {
  const ws = new WebSocket(`ws://127.0.0.1:${engine.port}/ws`, { perMessageDeflate });
  const client = { ws, bodies: [] };
  const joined = new Promise((done) => {
    ws.on("message", (data) => {
      const { event, data: told } = JSON.parse(data);
      if (event === "message") client.bodies.push(told.body);
      if (event === "ack") done(told);
    });
  });
  await new Promise((done) => ws.once("open", done));
  ws.send('{"event":"connect"}');
  ws.send(JSON.stringify({ id: 1, event: "join", data: { room, presence: false } }));
  assert.equal((await joined).ok, true);
  return client;
}
