// Proves: with short intervals a stock client, idle or busy, stays connected, and one that stops
// answering pings is closed in time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ok, pause, within } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ PING_INTERVAL: "300ms", PING_TIMEOUT: "200ms" });
});
after(() => engine?.stop());

test("the handshake says the intervals", async () => {
  const packet = await (await engine.upgrade()).first;
  assert.equal(packet[0], "0");
  const open = JSON.parse(packet.slice(1));
  assert.match(open.sid, /^[A-Za-z0-9_-]{20,}$/);
  delete open.sid;
  assert.deepEqual(open, {
    upgrades: [],
    pingInterval: 300,
    pingTimeout: 200,
    maxPayload: 1_000_000,
  });
});

test("idle and busy stock clients stay", async () => {
  const [idle, busy] = await engine.connectMany(2);
  await ok(busy, "join", "busy");
  // that nothing happens to the idle one can only be seen by waiting
  for (const end = Date.now() + 2500; Date.now() < end;)
    await ok(busy, "message", { room: "busy", body: "beat" });
  assert.ok(idle.connected && busy.connected);
});

test("pings come on schedule though the connection is busy", async () => {
  const { ws } = await engine.upgrade();
  const pings = [];
  ws.on("message", (data) => {
    if (data.toString() !== "2") return;
    pings.push(performance.now());
    ws.send("3");
  });
  ws.send("40");
  const noise = setInterval(() => ws.send('420["nope"]'), 10);
  await pause(1600);
  clearInterval(noise);
  assert.ok(pings.length >= 4, `${pings.length} pings in 1.6 s`);
  for (let i = 1; i < pings.length; i++) {
    const gap = pings[i] - pings[i - 1];
    assert.ok(gap > 250 && gap < 450, `${gap} ms between pings`);
  }
});

test("without an answer the connection is closed", async () => {
  const { ws } = await engine.upgrade();
  ws.on("message", () => {});
  const begun = performance.now();
  ws.send("40");
  const code = await within(new Promise((done) => ws.once("close", done)), 3000);
  assert.notEqual(code, null, "closed");
  const took = performance.now() - begun;
  assert.ok(took > 400 && took < 900, `closed after ${took} ms`);
});
