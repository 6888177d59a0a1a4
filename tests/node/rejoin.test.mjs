// Proves: who comes back with `since` gets every message after it, in order and once, or is told by
// `complete:false` that some are gone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { cut, ok, range, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ HISTORY_SIZE: 20, DATA_DIR: "none" });
});
after(() => engine?.stop());

const seqs = (reply) => reply.messages.map((m) => m.seq);

async function say(client, room, count) {
  for (const n of range(count)) await ok(client, "message", { room, body: n });
}

async function keeper(room) {
  const client = await engine.connect("keeper");
  await ok(client, "join", room);
  return client;
}

test("missed messages come with the join, complete", async () => {
  const room = "missed";
  const ada = await keeper(room);
  const bob = await engine.connect("bob");
  await ok(bob, "join", room);
  await say(ada, room, 5);
  cut(bob);
  await say(ada, room, 7);
  const again = await engine.connect("bob");
  const reply = await ok(again, "join", { room, since: 5 });
  assert.deepEqual(seqs(reply), range(7, 6));
  assert.deepEqual(
    reply.messages.map((m) => m.body),
    range(7),
  );
  assert.equal(reply.complete, true);
  assert.equal(reply.lastSeq, 12);
});

test("nothing missed is complete", async () => {
  const room = "nothing";
  const ada = await keeper(room);
  await say(ada, room, 3);
  const bob = await engine.connect("bob");
  const reply = await ok(bob, "join", { room, since: 3 });
  assert.deepEqual([reply.messages, reply.complete, reply.lastSeq], [[], true, 3]);
});

test("what has left the history makes it incomplete, the rest still comes", async () => {
  const room = "gone";
  const ada = await keeper(room);
  await say(ada, room, 50);
  const bob = await engine.connect("bob");
  const partly = await ok(bob, "join", { room, since: 10 });
  assert.deepEqual(seqs(partly), range(20, 31));
  assert.equal(partly.complete, false);
  const edge = await engine.connect("edge");
  const whole = await ok(edge, "join", { room, since: 30 });
  assert.deepEqual(seqs(whole), range(20, 31));
  assert.equal(whole.complete, true);
});

test("since 0 asks for all", async () => {
  const room = "zero";
  const ada = await keeper(room);
  await say(ada, room, 4);
  const bob = await engine.connect("bob");
  const reply = await ok(bob, "join", { room, since: 0 });
  assert.deepEqual([seqs(reply), reply.complete], [range(4, 1), true]);
});

test("a number the room never reached is answered as incomplete", async () => {
  const room = "future";
  const ada = await keeper(room);
  await say(ada, room, 2);
  const bob = await engine.connect("bob");
  assert.equal((await ok(bob, "join", { room, since: 99 })).complete, false);
});

test("a room that was empty for a moment keeps its messages and its numbers", async () => {
  const room = "alone";
  const ada = await keeper(room);
  await say(ada, room, 4);
  await ok(ada, "leave", room);
  const back = await engine.connect("keeper");
  const reply = await ok(back, "join", { room, since: 2 });
  assert.deepEqual([seqs(reply), reply.complete, reply.lastSeq], [[3, 4], true, 4]);
  assert.equal((await ok(back, "message", { room, body: "next" })).seq, 5);
});

test("since must be a whole number from 0", async () => {
  const ada = await keeper("bad");
  for (const since of [-1, 1.5, "3", {}, true])
    await refused("invalid", ada, "join", { room: "bad", since });
});
