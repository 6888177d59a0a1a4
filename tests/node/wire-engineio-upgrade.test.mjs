// Proves: the way of a session from long-polling to WebSocket: the probe, `6` for every GET
// meanwhile, messages on either side of the switch, and that a probe which comes to nothing leaves
// polling as it was.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pause, range } from "./events.mjs";
import { CALM, FAST, startTarget, VARIANTS } from "./target.mjs";
import { openPolling, openWs, RS, undisturbed } from "./wire.mjs";

const SEEN_MS = 50; // after which what was sent on another connection has surely been read
const UPGRADE_MS_MAX = 10_000; // Engine.IO's upgradeTimeout

let fast;
let calm;
let stalled;

for (const variant of VARIANTS) {
  describe(variant.name, () => {
    before(async () => {
      const { name, ...settings } = variant;
      fast = await startTarget({ ...FAST, ...settings });
      calm = await startTarget({ ...CALM, ...settings });
      // takes ten seconds, which pass while the other tests run
      stalled = Promise.all([stall(), stall("2probe")]);
      stalled.catch(() => {});
    });
    after(async () => {
      await fast?.stop();
      await calm?.stop();
    });
    describe("upgrade", upgrade);
    describe("messages", messages);
    describe("no upgrade after all", failures);
  });
}

// A session whose upgrade has got as far as `3probe`.
async function probing(target = calm) {
  const session = await openPolling(target.port);
  const channel = session.upgrade();
  assert.equal(await channel.status, 101);
  channel.send("2probe");
  assert.equal(await channel.next(), "3probe");
  return { session, channel };
}

async function upgraded(target) {
  const { session, channel } = await probing(target);
  channel.send("5");
  channel.send("4hello");
  assert.equal(await channel.next(), "4hello");
  return { session, channel };
}

async function assertMovedOn(session) {
  const get = await session.get();
  assert.deepEqual([get.status, get.text], [400, '{"code":3,"message":"Bad request"}']);
}

// An upgrade that its client forgets after the packets given.
async function stall(...packets) {
  const session = await openPolling(calm.port);
  const channel = session.upgrade();
  assert.equal(await channel.status, 101);
  channel.send(...packets);
  if (packets.length) assert.equal(await channel.next(), "3probe");
  const began = performance.now();
  await channel.untilClosed(2 * UPGRADE_MS_MAX);
  return { session, ms: performance.now() - began };
}

function upgrade() {
  test("as the official suite has it", async () => {
    const { session, channel } = await probing(fast);
    const began = performance.now();
    assert.equal(await session.poll(), "6");
    assert.ok(performance.now() - began < 200, "the `6` took too long");
    channel.send("5");
    channel.send("4hello");
    assert.equal(await channel.next(), "4hello");
    await assertMovedOn(session);
    const second = session.upgrade();
    await second.untilClosed();
    channel.send("4again");
    assert.equal(await channel.next(), "4again");
    channel.cut();
  });

  test("`5`, and a GET in the same tick on another connection", async () => {
    for (const _ of range(20)) {
      const { session, channel } = await probing();
      channel.send("5");
      const get = await session.get();
      // the GET may be read first: then it is still polling's, and ends with the switch
      if (get.status === 200) assert.match(get.text, /^[16]$/);
      else assert.equal(get.status, 400);
      await assertMovedOn(session);
      channel.cut();
    }
  });

  test("every GET during an upgrade gets its `6`", async () => {
    const { session, channel } = await probing();
    for (const _ of range(5)) {
      const began = performance.now();
      assert.equal(await session.poll(), "6");
      assert.ok(performance.now() - began < 300, "a `6` took too long");
    }
    channel.send("5", "4end");
    assert.equal(await channel.next(), "4end");
    channel.cut();
  });

  test("a GET that is held when the probe comes gets `6`", async () => {
    const session = await openPolling(calm.port);
    const held = session.poll();
    await pause(SEEN_MS);
    const channel = session.upgrade();
    assert.equal(await channel.status, 101);
    channel.send("2probe");
    assert.equal(await channel.next(), "3probe");
    assert.equal(await held, "6");
    channel.cut();
  });

  test("a GET that is held when `5` comes is ended", async () => {
    const { session, channel } = await probing();
    const held = session.poll();
    await pause(30); // Node gives it its `6` after 100 ms
    channel.send("5");
    assert.match(await held, /^[16]$/);
    channel.send("4end");
    assert.equal(await channel.next(), "4end");
    channel.cut();
  });

  test("heartbeats go on over the WebSocket", () =>
    undisturbed(async () => {
      const { session, channel } = await probing(fast);
      channel.pings = true;
      channel.send("5");
      for (const _ of range(3)) {
        assert.equal(await channel.next(), "2");
        channel.send("3");
      }
      assert.equal(await channel.next(), "2");
      await channel.untilClosed();
      await session.assertGone();
    }));

  test("the end of the WebSocket is the end of the session", async () => {
    const { session, channel } = await upgraded();
    channel.ws.close();
    await channel.untilClosed();
    await pause(SEEN_MS);
    await session.assertGone();
  });

  test("a WebSocket for a session nobody has", async () => {
    const channel = openWs(calm.port, { sid: "AAAAAAAAAAAAAAAAAAAA" });
    assert.equal(await channel.status, 400);
    assert.equal(channel.refusal.text, "Session ID unknown");
  });

  test("on /socket.io/, between CONNECT and an event", async () => {
    const session = await openPolling(calm.port, "/socket.io/");
    await session.send("40");
    const channel = session.upgrade();
    assert.equal(await channel.status, 101);
    channel.send("2probe");
    assert.equal(await channel.next(), "3probe");
    channel.send("5");
    assert.deepEqual(Object.keys(await channel.nextJson("40")), ["sid"]);
    assert.equal(await channel.next(), '42["auth",{}]');
    channel.send('42["message",1]');
    assert.equal(await channel.next(), '42["message-back",1]');
    channel.cut();
  });
}

function messages() {
  test("POSTed during the probe go through polling", async () => {
    const { session, channel } = await probing();
    await session.send("4during");
    let body;
    while ((body = await session.poll()) === "6");
    assert.equal(body, "4during");
    channel.send("5", "4end");
    assert.equal(await channel.next(), "4end");
    channel.cut();
  });

  test("not fetched before `5` come over the WebSocket, in order", async () => {
    const { session, channel } = await probing();
    const bytes = Buffer.from([1, 2, 3, 4]);
    await session.send(`4a${RS}bAQIDBA==`);
    await session.send(
      range(40)
        .map((n) => `4${n}`)
        .join(RS),
    );
    channel.send("5", "4end");
    const expected = ["4a", bytes, ...range(40).map((n) => `4${n}`), "4end"];
    for (const packet of expected) assert.deepEqual(await channel.next(), packet);
    channel.cut();
  });

  test("none is lost or turned round, whenever the switch comes", async () => {
    for (const round of range(10)) {
      const { session, channel } = await probing();
      const seen = [];
      const polls = (async () => {
        for (let get; (get = await session.get()).status === 200;) {
          seen.push(...get.text.split(RS).filter((record) => record[0] === "4"));
        }
      })();
      for (const n of range(round)) await session.send(`4${n}`);
      channel.send("5");
      for (const n of range(10, round)) channel.send(`4${n}`);
      await polls;
      while (seen.length < 10 + round) seen.push(await channel.next());
      assert.deepEqual(
        seen,
        range(10 + round).map((n) => `4${n}`),
      );
      channel.cut();
    }
  });
}

function failures() {
  test("the WebSocket is lost before its probe", async () => {
    const session = await openPolling(calm.port);
    const channel = session.upgrade();
    await channel.status;
    channel.cut();
    await session.assertEcho();
  });

  for (const how of ["close", "terminate"]) {
    test(`the WebSocket is lost after its probe (${how}); the next one gets through`, async () => {
      const { session, channel } = await probing();
      channel.ws[how]();
      await channel.untilClosed();
      await pause(SEEN_MS);
      await session.assertEcho();
      const next = session.upgrade();
      assert.equal(await next.status, 101);
      next.send("2probe");
      assert.equal(await next.next(), "3probe");
      next.send("5", "4end");
      assert.equal(await next.next(), "4end");
      next.cut();
    });
  }

  test("a GET that was held through it all still gets its message", async () => {
    const session = await openPolling(calm.port);
    const held = session.poll();
    await pause(SEEN_MS);
    const channel = session.upgrade();
    await channel.status;
    channel.cut();
    await pause(SEEN_MS);
    await session.send("4after");
    assert.equal(await held, "4after");
  });

  test("another first packet closes the WebSocket, not the session", async () => {
    for (const packet of ["4hello", "2", "2other", "3probe", "abc", "", Buffer.from([1])]) {
      const session = await openPolling(calm.port);
      const channel = session.upgrade();
      assert.equal(await channel.status, 101);
      channel.send(packet);
      await channel.untilClosed();
      await session.assertEcho();
    }
  });

  test("another packet after the probe, too", async () => {
    const { session, channel } = await probing();
    channel.send("4hello");
    await channel.untilClosed();
    await session.assertEcho();
  });

  test("a second WebSocket during an upgrade is closed, the first gets through", async () => {
    const { session, channel } = await probing();
    const second = session.upgrade();
    await second.untilClosed();
    channel.send("5", "4end");
    assert.equal(await channel.next(), "4end");
    channel.cut();
  });

  test("the session ends during the upgrade: the WebSocket goes with it", async () => {
    const { session, channel } = await probing();
    await session.send("1");
    await channel.untilClosed();
    await session.assertGone();
  });

  test("after ten seconds the WebSocket is closed, polling is as before", async () => {
    for (const { session, ms } of await stalled) {
      assert.ok(ms > UPGRADE_MS_MAX - 200 && ms < UPGRADE_MS_MAX + 2000, `${ms} ms`);
      await session.assertEcho();
    }
  });
}
