// Proves: Engine.IO 4 over HTTP long-polling and over WebSocket, byte by byte: echo, batches,
// heartbeats, timeouts, each way to close. Under the settings of the official suite, with one shard
// and with several.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { differs } from "./differences.mjs";
import { pause, range } from "./events.mjs";
import { CALM, FAST, startTarget, VARIANTS } from "./target.mjs";
import { openPolling, openWs, openWsSession, query, request, RS, undisturbed } from "./wire.mjs";

let fast;
let calm;

async function start({ name, ...settings }) {
  fast = await startTarget({ ...FAST, ...settings });
  calm = await startTarget({ ...CALM, ...settings });
}

async function stop() {
  await fast?.stop();
  await calm?.stop();
}

for (const variant of VARIANTS) {
  describe(variant.name, () => {
    before(() => start(variant));
    after(stop);
    describe("polling", polling);
    describe("base64", base64);
    describe("heartbeat", heartbeat);
    describe("close", close);
    describe("websocket", websocket);
  });
}

function polling() {
  test("POST answers `ok`, GET the echo", async () => {
    const session = await openPolling(fast.port);
    const post = await session.post("4hello");
    assert.deepEqual([post.status, post.text], [200, "ok"]);
    assert.equal(post.headers["content-type"], "text/html");
    assert.equal(post.headers["content-length"], "2");
    assert.equal(post.headers["cache-control"], "no-store");
    const get = await session.get();
    assert.deepEqual([get.status, get.text], [200, "4hello"]);
    assert.equal(get.headers["content-type"], "text/plain; charset=UTF-8");
    assert.equal(get.headers["content-length"], "6");
    assert.equal(get.headers["cache-control"], "no-store");
  });

  test("records of one POST come back in one GET", async () => {
    const session = await openPolling(fast.port);
    for (const body of [`4test1${RS}4test2${RS}4test3`, `4hello${RS}bAQIDBA==`, `bAQ==${RS}4`]) {
      await session.send(body);
      assert.equal(await session.poll(), body);
    }
  });

  test("a held GET is answered by what a POST brings, in order", async () => {
    const session = await openPolling(calm.port);
    for (const round of range(20)) {
      const held = session.poll();
      await session.send(
        range(5)
          .map((n) => `4${round}.${n}`)
          .join(RS),
      );
      const records = (await held).split(RS);
      if (records.length < 5) records.push(...(await session.collect(5 - records.length)).records);
      assert.deepEqual(
        records,
        range(5).map((n) => `4${round}.${n}`),
      );
    }
  });

  test("GETs and POSTs side by side, two hundred rounds", async () => {
    const session = await openPolling(calm.port);
    const sent = (async () => {
      for (const n of range(200)) await session.send(`4${n}`);
    })();
    const { records } = await session.collect(200);
    await sent;
    assert.deepEqual(
      records,
      range(200).map((n) => `4${n}`),
    );
  });

  test("how many records one GET brings", async () => {
    const session = await openPolling(calm.port);
    const body = range(40).map((n) => `4${n}`);
    await session.send(body.join(RS));
    const { records, perGet } = await session.collect(40);
    assert.deepEqual(records, body);
    const most = differs("recordsPerGet");
    assert.deepEqual(perGet, most === 16 ? [16, 16, 8] : [40]);
  });

  test("text of every kind comes back as it was", async () => {
    const session = await openPolling(calm.port);
    const texts = ["", "é", "日本語", "😀", "\u2028\u2029\ufeff", "\0\x1f", '"\\\n\r\t', "b", "1"];
    for (const text of texts) await session.assertEcho(text);
    await session.send(texts.map((text) => `4${text}`).join(RS));
    assert.equal(await session.poll(), texts.map((text) => `4${text}`).join(RS));
  });

  test("what a client has no business to send is ignored", async () => {
    const session = await openPolling(calm.port);
    for (const packet of ["0", "3", "3probe", "5", "6", "0{}"]) await session.send(packet);
    await session.assertEcho();
  });

  test("what is not a packet closes, after an `ok`", async () => {
    for (const body of ["abc", "7", "", `${RS}4a`, "2", "2probe", "-1", " 4a"]) {
      const session = await openPolling(calm.port);
      await session.send(body);
      await session.assertGone();
    }
  });

  test("records before a bad one are delivered, those after it are not", async () => {
    const session = await openPolling(calm.port);
    const held = session.poll();
    await pause(50);
    await session.send(`4a${RS}abc${RS}4b`);
    assert.match(await held, new RegExp(`^4a(${RS}1)?$`));
    await session.assertGone();
  });

  test("a held GET is told of the end by `1`", async () => {
    const session = await openPolling(calm.port);
    const held = session.poll();
    await pause(50);
    await session.send("abc");
    assert.equal(await held, "1");
    await session.assertGone();
  });
}

function base64() {
  const echo = (sent, back) => async () => {
    const session = await openPolling(calm.port);
    await session.send(sent);
    assert.equal(await session.poll(), back);
  };
  test("standard", echo("b+/8=", "b+/8="));
  test("of nothing", echo("b", "b"));
  test("with line feeds, as Java writes it", echo("bAQID\nBA==\n", "bAQIDBA=="));
  test("with carriage returns and spaces", echo("b AQ ID\r\nBA==\r\n", "bAQIDBA=="));
  test("without padding", echo("bAQIDBA", "bAQIDBA=="));
  test("URL-safe", echo("b-_8=", "b+/8="));
  test("of every byte", () => {
    const all = Buffer.from(range(256)).toString("base64");
    return echo(`b${all}`, `b${all}`)();
  });
}

function heartbeat() {
  test("polling: `2` is answered with `3`, three rounds", () =>
    undisturbed(async () => {
      const session = await openPolling(fast.port);
      for (const _ of range(3)) {
        assert.equal(await session.poll(), "2");
        await session.send("3");
      }
    }));

  test("WebSocket: the same", () =>
    undisturbed(async () => {
      const channel = await openWsSession(fast.port);
      channel.pings = true;
      for (const _ of range(3)) {
        assert.equal(await channel.next(), "2");
        channel.send("3");
      }
      channel.cut();
    }));

  test("a ping comes a ping interval after the handshake, then after each pong", () =>
    undisturbed(async () => {
      const channel = await openWsSession(fast.port);
      channel.pings = true;
      let since = performance.now();
      for (const pongAfter of [100, 0, 150]) {
        assert.equal(await channel.next(), "2");
        const waited = performance.now() - since;
        assert.ok(waited > 285 && waited < 345, `ping after ${waited} ms`);
        await pause(pongAfter);
        channel.send("3");
        since = performance.now();
      }
      channel.cut();
    }));

  test("pings come on schedule while messages flow", () =>
    undisturbed(async () => {
      const channel = await openWsSession(fast.port);
      channel.pings = true;
      const began = performance.now();
      let pings = 0;
      while (performance.now() - began < 1100) {
        channel.send("4x");
        for (let packet; (packet = await channel.next()) !== "4x"; pings++) channel.send("3");
        await pause(5);
      }
      assert.equal(pings, 3);
      channel.cut();
    }));

  test("polling: gone 500 ms after the handshake's answer, not before", () =>
    undisturbed(async () => {
      const [gone, there] = [await openPolling(fast.port), await openPolling(fast.port)];
      const late = pause(500).then(() => gone.assertGone());
      const early = pause(430).then(() => there.poll());
      await late;
      assert.equal(await early, "2");
    }));

  test("polling: gone 500 ms after the handshake's answer, with the ping fetched", () =>
    undisturbed(async () => {
      const session = await openPolling(fast.port);
      const end = pause(500);
      assert.equal(await session.poll(), "2");
      await end;
      await session.assertGone();
    }));

  test("polling: a held GET is told by `1`", () =>
    undisturbed(async () => {
      const session = await openPolling(fast.port);
      const began = performance.now();
      assert.equal(await session.poll(), "2");
      assert.equal(await session.poll(), "1");
      const waited = performance.now() - began;
      assert.ok(waited > 485 && waited < 560, `closed after ${waited} ms`);
      await session.assertGone();
    }));

  test("WebSocket: closed 500 ms after the handshake, without a status code", () =>
    undisturbed(async () => {
      const channel = await openWsSession(fast.port);
      channel.pings = true;
      const began = performance.now();
      assert.equal(await channel.untilClosed(), 1005);
      const waited = performance.now() - began;
      assert.ok(waited > 485 && waited < 560, `closed after ${waited} ms`);
    }));

  test("messages without a pong put off the end once at most", () =>
    undisturbed(async () => {
      const channel = await openWsSession(fast.port);
      channel.pings = true;
      const began = performance.now();
      const talk = setInterval(() => channel.send("4x"), 40);
      while (!channel.ended) await pause(10);
      clearInterval(talk);
      const waited = performance.now() - began;
      assert.ok(waited > 485 && waited < 760, `closed after ${waited} ms`);
    }));
}

function close() {
  test("a GET and a POST of `1` in the same tick: `6`, then the session is gone", async () => {
    for (const _ of range(20)) {
      const session = await openPolling(fast.port);
      const get = session.get();
      const post = session.post("1");
      assert.deepEqual([(await get).status, (await get).text], [200, "6"]);
      assert.deepEqual([(await post).status, (await post).text], [200, "ok"]);
      const next = await session.get();
      assert.equal(next.status, 400);
    }
  });

  test("`1` with no GET held", async () => {
    const session = await openPolling(calm.port);
    await session.send("1");
    await session.assertGone();
  });

  test("records after `1` are not delivered", async () => {
    const session = await openPolling(calm.port);
    await session.send(`1${RS}4a`);
    await session.assertGone();
  });

  test("a WebSocket that goes takes its session along", async () => {
    for (const how of ["close", "terminate"]) {
      const channel = await openWsSession(calm.port);
      channel.ws[how]();
      await channel.untilClosed();
      await pause(50);
      const again = openWs(calm.port, { sid: channel.open.sid });
      assert.equal(await again.status, 400);
      assert.equal(again.refusal.text, "Session ID unknown");
    }
  });

  test("`1` on a WebSocket", async () => {
    const channel = await openWsSession(fast.port);
    channel.pings = true;
    channel.send("1");
    const began = performance.now();
    await channel.untilClosed(2000);
    const waited = performance.now() - began;
    const did = waited < 250 ? "closes" : "ignored until the ping timeout";
    assert.equal(did, differs("closePacketOnWebSocket"));
  });
}

function websocket() {
  test("echo of text and of binary", async () => {
    const channel = await openWsSession(calm.port);
    for (const text of ["4hello", "4", "4日本😀", "4".repeat(70_000)]) {
      channel.send(text);
      assert.equal(await channel.next(), text);
    }
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 900_000]) {
      const bytes = Buffer.alloc(size, 7);
      channel.send(bytes);
      assert.deepEqual(await channel.next(), bytes);
    }
    channel.cut();
  });

  test("order of a thousand", async () => {
    const channel = await openWsSession(calm.port);
    for (const n of range(1000)) channel.send(`4${n}`);
    for (const n of range(1000)) assert.equal(await channel.next(), `4${n}`);
    channel.cut();
  });

  test("`b64=1` has binary sent as text", async () => {
    const channel = await openWsSession(calm.port, "/engine.io/", { query: { b64: "1" } });
    channel.send(Buffer.from([1, 2, 3, 4]));
    assert.equal(await channel.next(), "bAQIDBA==");
    channel.cut();
  });

  test("what is not a packet closes, without a status code", async () => {
    for (const packet of ["abc", "7", "", "2", "2probe"]) {
      const channel = await openWsSession(calm.port);
      channel.send(packet);
      assert.equal(await channel.untilClosed(), 1005, packet);
    }
  });

  test("what is ignored: `0`, a stray `3`, `5`, `6`", async () => {
    const channel = await openWsSession(calm.port);
    channel.send("0", "3", "5", "6", "4end");
    assert.equal(await channel.next(), "4end");
    channel.cut();
  });

  test("a message over maxPayload closes with 1009, one of maxPayload does not", async () => {
    const channel = await openWsSession(calm.port);
    const most = `4${"x".repeat(999_999)}`;
    channel.send(most);
    assert.equal(await channel.next(), most);
    channel.send(`${most}x`);
    assert.equal(await channel.untilClosed(), 1009);
  });

  // Node takes the second one for an upgrade from WebSocket to WebSocket and waits for its probe
  test("neither a second WebSocket with its sid nor a GET disturbs the session", async () => {
    const channel = await openWsSession(calm.port);
    const second = openWs(calm.port, { sid: channel.open.sid });
    await second.status;
    second.cut();
    channel.send("4hello");
    assert.equal(await channel.next(), "4hello");
    const url = `/engine.io/?${query({ transport: "polling", sid: channel.open.sid })}`;
    assert.equal((await request(calm.port, url)).text, '{"code":3,"message":"Bad request"}');
    channel.cut();
  });
}
