// Proves: a client that stops reading costs the others nothing: over OUTBOX_BYTES it is
// disconnected and counted, or, with SLOW_CONSUMER=drop-oldest, loses the oldest events, which are
// counted too, and goes on with whole frames.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, eventually, ok } from "./events.mjs";

const ENV = {
  OUTBOX_BYTES: 256 * 1024,
  MAX_MESSAGE_BYTES: 65_536,
  MAX_WORKERS: 2,
  HISTORY_SIZE: 10,
};
const BODY = "x".repeat(60_000);
const SENT_MAX = 1500; // 90 MB: more than any socket buffer holds

// A client by hand that joined the room, answers pings, and has stopped reading.
async function stalled(engine) {
  const { ws } = await engine.upgrade();
  const frames = [];
  const waiting = new Set();
  ws.on("message", (data, isBinary) => {
    const text = isBinary ? data : data.toString();
    if (text === "2") return ws.send("3");
    frames.push(text);
    for (const check of waiting) check();
  });
  const until = (test) =>
    new Promise((done) => {
      const check = () => {
        if (!frames.some(test)) return;
        waiting.delete(check);
        done();
      };
      waiting.add(check);
      check();
    });
  ws.send('40{"username":"slow"}');
  await until((f) => f.startsWith("40{"));
  ws.send('420["join",{"room":"flood","presence":false}]');
  await until((f) => f.startsWith("430["));
  ws.pause();
  return { ws, frames, until };
}

// Sends until `/metrics` counts what `name` counts; every message must reach the healthy client
// meanwhile.
async function flood(engine, sender, healthy, name) {
  const seen = collect(healthy, "message");
  for (let n = 1; n <= SENT_MAX; n++) {
    const { seq } = await ok(sender, "message", { room: "flood", body: BODY });
    await seen.until((all) => all.at(-1)?.seq === seq);
    seen.items.splice(0);
    if (n % 20 === 0 && (await engine.metric(name)) > 0) return seq;
  }
  assert.fail(`${name} not counted after ${SENT_MAX} messages`);
}

async function setUp(t, policy) {
  const engine = await startEngine({ ...ENV, ...(policy && { SLOW_CONSUMER: policy }) });
  t.after(() => engine.stop());
  const [sender, healthy] = await engine.connectMany(2);
  for (const c of [sender, healthy]) await ok(c, "join", { room: "flood", presence: false });
  const slow = await stalled(engine);
  assert.equal(await engine.metric("slowConsumerClosed"), 0);
  assert.equal(await engine.metric("slowConsumerDropped"), 0);
  return { engine, sender, healthy, slow };
}

for (const policy of [undefined, "disconnect"]) {
  test(`policy ${policy ?? "by default"}: it is disconnected`, { timeout: 120_000 }, async (t) => {
    const { engine, sender, healthy, slow } = await setUp(t, policy);
    await flood(engine, sender, healthy, "slowConsumerClosed");
    assert.equal(await engine.metric("slowConsumerClosed"), 1);
    await eventually(async () => {
      const { count } = await ok(sender, "participants", { room: "flood" });
      assert.equal(count, 2, "it has left its room");
    });
    const closed = new Promise((done) => slow.ws.once("close", done));
    slow.ws.resume();
    await closed;
    assert.ok(sender.connected && healthy.connected);
  });
}

test("policy drop-oldest: it stays, with the newest events", { timeout: 120_000 }, async (t) => {
  const { engine, sender, healthy, slow } = await setUp(t, "drop-oldest");
  const broken = new Promise((_, fail) =>
    slow.ws.once("close", (code) => fail(new Error(`closed with ${code}`))),
  );
  broken.catch(() => {});
  await flood(engine, sender, healthy, "slowConsumerDropped");
  assert.equal(await engine.metric("slowConsumerClosed"), 0);
  slow.ws.resume();
  await ok(sender, "message", { room: "flood", body: "the last" });
  await Promise.race([slow.until((f) => f.includes('"the last"')), broken]);
  const events = slow.frames.filter((f) => f.startsWith("42[")).map((f) => JSON.parse(f.slice(2)));
  const seqs = events.filter(([name]) => name === "message").map(([, m]) => m.seq);
  for (let i = 1; i < seqs.length; i++) assert.ok(seqs[i] > seqs[i - 1], "in order, no double");
  const last = seqs.at(-1);
  const lost = last - seqs.length;
  assert.ok(lost > 0);
  assert.equal(await engine.metric("slowConsumerDropped"), lost, "every lost event is counted");
});
