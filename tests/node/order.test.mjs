// Proves: with several publishers at once on several shards, every receiver sees the same messages
// in the same order, without a gap, each publisher's own order kept; whoever joins or comes back in
// the middle has no hole and no double.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, cut, ok, range } from "./events.mjs";

const PUBLISHERS = 6;
const EACH = 200;
const ALL = PUBLISHERS * EACH;
let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 4, HISTORY_SIZE: 5000 });
});
after(() => engine?.stop());

async function joinAll(clients, room) {
  await Promise.all(clients.map((c) => ok(c, "join", { room, presence: false })));
}

// All publishers at once, each with up to 20 messages that are not acknowledged yet.
async function publish(publishers, room, each = EACH) {
  const replies = await Promise.all(
    publishers.map(async (c, p) => {
      const own = [];
      for (let n = 0; n < each; n += 20) {
        own.push(
          ...(await Promise.all(
            range(20, n).map((i) => ok(c, "message", { room, body: { p, n: i } })),
          )),
        );
      }
      return own;
    }),
  );
  return replies;
}

test("one order for everyone", { timeout: 120_000 }, async () => {
  const publishers = await engine.connectMany(PUBLISHERS);
  const receivers = [...publishers, ...(await engine.connectMany(14))];
  await joinAll(receivers, "order");
  const seen = receivers.map((c) => collect(c, "message"));
  const replies = await publish(publishers, "order");
  for (const s of seen) await s.until((items) => items.length >= ALL, 30_000);
  const [first] = seen;
  assert.deepEqual(
    first.items.map((m) => m.seq),
    range(ALL, 1),
  );
  for (const s of seen) assert.deepEqual(s.items, first.items);
  for (const p of range(PUBLISHERS)) {
    const own = first.items.filter((m) => m.body.p === p);
    assert.deepEqual(
      own.map((m) => m.body.n),
      range(EACH),
    );
    assert.deepEqual(
      own.map((m) => [m.seq, m.id]),
      replies[p].map((r) => [r.seq, r.id]),
    );
  }
});

test(
  "who joins in the middle continues exactly where the reply ends",
  { timeout: 120_000 },
  async () => {
    const publishers = await engine.connectMany(PUBLISHERS);
    const joiners = await engine.connectMany(20);
    await joinAll(publishers, "middle");
    const seen = joiners.map((c) => collect(c, "message"));
    const sending = publish(publishers, "middle");
    const replies = [];
    for (const c of joiners) replies.push(await ok(c, "join", { room: "middle", presence: false }));
    await sending;
    for (const [i, s] of seen.entries()) {
      const { lastSeq, messages } = replies[i];
      if (messages.length) assert.equal(messages.at(-1).seq, lastSeq, "the reply ends at lastSeq");
      await s.until((items) => (items.at(-1)?.seq ?? lastSeq) >= ALL, 30_000);
      assert.deepEqual(
        s.items.map((m) => m.seq),
        range(ALL - lastSeq, lastSeq + 1),
      );
    }
  },
);

test("who comes back with since has neither hole nor double", { timeout: 120_000 }, async () => {
  const publishers = await engine.connectMany(PUBLISHERS);
  await joinAll(publishers, "return");
  const receiver = await engine.connect("traveller");
  await ok(receiver, "join", { room: "return", presence: false });
  const before = collect(receiver, "message");
  const sending = publish(publishers, "return");
  await before.until((items) => items.length >= 100, 30_000);
  cut(receiver);
  const got = before.items.map((m) => m.seq);
  const again = await engine.connect("traveller");
  const live = collect(again, "message");
  const since = got.at(-1);
  const { messages, lastSeq } = await ok(again, "join", { room: "return", since, presence: false });
  // the reply holds one page; what lies between it and `since` is read from the history
  while (messages[0]?.seq > since + 1) {
    const page = await ok(again, "history", { room: "return", before: messages[0].seq });
    messages.unshift(...page.messages.filter((m) => m.seq > since));
  }
  await sending;
  await live.until((items) => (items.at(-1)?.seq ?? lastSeq) >= ALL, 30_000);
  assert.deepEqual(
    [...got, ...messages.map((m) => m.seq), ...live.items.map((m) => m.seq)],
    range(ALL, 1),
  );
});

test("several rooms at once keep their numbers apart", async () => {
  const publishers = await engine.connectMany(PUBLISHERS);
  const rooms = range(5).map((n) => `apart-${n}`);
  for (const room of rooms) await joinAll(publishers, room);
  const seen = publishers.map((c) => collect(c, "message"));
  await Promise.all(rooms.map((room) => publish(publishers, room, 40)));
  for (const s of seen) {
    await s.until((items) => items.length >= rooms.length * PUBLISHERS * 40, 30_000);
    for (const room of rooms) {
      assert.deepEqual(
        s.items.filter((m) => m.room === room).map((m) => m.seq),
        range(PUBLISHERS * 40, 1),
      );
    }
  }
});
