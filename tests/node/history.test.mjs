// Proves: `history` pages back through a room's messages, oldest first within a page, up to
// HISTORY_SIZE of them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ok, range, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ HISTORY_SIZE: 30, DATA_DIR: "none" });
});
after(() => engine?.stop());

async function roomWith(count, room) {
  const ada = await engine.connect("ada");
  await ok(ada, "join", room);
  for (const n of range(count, 1)) await ok(ada, "message", { room, body: `m${n}` });
  return ada;
}

const seqs = (reply) => reply.messages.map((m) => m.seq);

test("pages go back to the first message, then there is no more", async () => {
  const ada = await roomWith(25, "pages");
  const last = await ok(ada, "history", { room: "pages", limit: 10 });
  assert.deepEqual(seqs(last), range(10, 16));
  assert.equal(last.more, true);
  const middle = await ok(ada, "history", { room: "pages", limit: 10, before: 16 });
  assert.deepEqual(seqs(middle), range(10, 6));
  assert.equal(middle.more, true);
  const first = await ok(ada, "history", { room: "pages", limit: 10, before: 6 });
  assert.deepEqual(seqs(first), range(5, 1));
  assert.equal(first.more, false);
  const none = await ok(ada, "history", { room: "pages", limit: 10, before: 1 });
  assert.deepEqual([none.messages, none.more], [[], false]);
});

test("a message in the history is the message that was delivered", async () => {
  const ada = await engine.connect("ada");
  await ok(ada, "join", "same");
  const delivered = new Promise((done) => ada.once("message", done));
  await ok(ada, "message", { room: "same", body: { a: [1] }, clientId: "c" });
  const { messages } = await ok(ada, "history", "same");
  assert.deepEqual(messages, [await delivered]);
});

test("only HISTORY_SIZE messages are kept", async () => {
  const ada = await roomWith(40, "bounded");
  const all = await ok(ada, "history", { room: "bounded", limit: 100 });
  assert.deepEqual(seqs(all), range(30, 11));
  assert.equal(all.more, false);
});

test("an empty room has an empty history", async () => {
  const ada = await roomWith(0, "empty");
  const reply = await ok(ada, "history", { room: "empty" });
  assert.deepEqual([reply.messages, reply.more], [[], false]);
});

test("outside the room it is not_in_room, bad bounds are invalid", async () => {
  const ada = await roomWith(1, "bad");
  await refused("not_in_room", ada, "history", { room: "elsewhere" });
  for (const limit of [-1, "ten", 1.5, {}])
    await refused("invalid", ada, "history", { room: "bad", limit });
  for (const before of [-1, "x", {}, 0.5])
    await refused("invalid", ada, "history", { room: "bad", before });
});
