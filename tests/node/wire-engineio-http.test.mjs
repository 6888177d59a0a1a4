// Proves: Engine.IO long-polling as HTTP: overlapping, aborted, oversized and wrongly typed
// requests and what each costs the session, connections that are kept, pipelined or HTTP/1.0,
// compression, CORS.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { gunzipSync, inflateSync } from "node:zlib";
import { differs } from "./differences.mjs";
import { pause, range } from "./events.mjs";
import { CALM, startTarget, VARIANTS } from "./target.mjs";
import { openPolling, openTcp, openWs, parseAnswers, query, request, RS } from "./wire.mjs";

const SEEN_MS = 50; // after which a request on another connection has surely been read
const MAX = 1_000_000;

let target;

for (const variant of VARIANTS) {
  describe(variant.name, () => {
    before(async () => {
      const { name, ...settings } = variant;
      target = await startTarget({ ...CALM, ...settings });
    });
    after(() => target?.stop());
    describe("overlap and abort", overlap);
    describe("size and type", size);
    describe("connections", connections);
    describe("compression", compression);
    describe("CORS", () => cors(variant));
  });
}

function assertEmpty(answer, status) {
  assert.deepEqual([answer.status, answer.text], [status, ""]);
}

// A POST whose body has not come to its end.
function openPost(session, { declared, sent }) {
  const head = `POST ${session.url()} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n`;
  return openTcp(target.port, `${head}Content-Length: ${declared}\r\n\r\n${sent}`);
}

function overlap() {
  test("a second GET ends the first with `1` and the session", async () => {
    const session = await openPolling(target.port);
    const first = session.get();
    await pause(SEEN_MS);
    const second = await session.get();
    assertEmpty(second, 400);
    assert.deepEqual([(await first).status, (await first).text], [200, "1"]);
    await session.assertGone();
  });

  test("two GETs in the same tick: one of each kind", async () => {
    for (const _ of range(10)) {
      const session = await openPolling(target.port);
      const both = await Promise.all([session.get(), session.get()]);
      const seen = both.map((a) => [a.status, a.text]).sort();
      assert.deepEqual(seen, [
        [200, "1"],
        [400, ""],
      ]);
      await session.assertGone();
    }
  });

  test("a second POST cuts the first and ends the session", async () => {
    const session = await openPolling(target.port);
    const first = openPost(session, { declared: 10, sent: "4abc" });
    await pause(SEEN_MS);
    assertEmpty(await session.post("4hello"), 400);
    assert.equal(await first.ended, "");
    await session.assertGone();
  });

  test("a GET that is held tells of a second POST by `1`", async () => {
    const session = await openPolling(target.port);
    const held = session.poll();
    const first = openPost(session, { declared: 10, sent: "4abc" });
    await pause(SEEN_MS);
    assertEmpty(await session.post("4hello"), 400);
    assert.equal(await held, "1");
    await first.ended;
  });

  test("a GET beside a POST that is open is no overlap", async () => {
    const session = await openPolling(target.port);
    const post = openPost(session, { declared: 4, sent: "4a" });
    await pause(SEEN_MS);
    const get = session.poll();
    await pause(SEEN_MS);
    post.socket.write("bc");
    assert.equal(await get, "4abc");
    await post.until((text) => text.endsWith("ok"));
    post.socket.destroy();
    await session.assertEcho();
  });

  test("an aborted GET ends the session", async () => {
    const session = await openPolling(target.port);
    const held = session.get();
    await pause(SEEN_MS);
    held.abort();
    await pause(SEEN_MS);
    await session.assertGone();
  });

  test("an aborted GET followed at once by another", async () => {
    for (const _ of range(10)) {
      const session = await openPolling(target.port);
      const held = session.get();
      await pause(SEEN_MS);
      held.abort();
      assert.equal((await session.get()).status, 400);
    }
  });

  test("an aborted POST ends the session", async () => {
    const session = await openPolling(target.port);
    const post = openPost(session, { declared: 10, sent: "4abc" });
    await pause(SEEN_MS);
    post.socket.destroy();
    await pause(SEEN_MS);
    await session.assertGone();
  });

  test("requests of one session follow each other closely, on a connection each", async () => {
    const session = await openPolling(target.port);
    for (const n of range(100)) {
      const [post, get] = await Promise.all([session.post(`4${n}`), session.get()]);
      assert.deepEqual([post.status, get.status, get.text], [200, 200, `4${n}`]);
    }
  });
}

function size() {
  const most = `4${"x".repeat(MAX - 1)}`;

  test("maxPayload is taken and comes back whole", async () => {
    const session = await openPolling(target.port);
    await session.send(most);
    assert.equal(await session.poll(), most);
  });

  test("one byte more is 413 by its Content-Length, and the session lives", async () => {
    const session = await openPolling(target.port);
    assertEmpty(await session.post(`${most}x`), 413);
    await session.assertEcho();
  });

  test("bytes are counted, not characters", async () => {
    const session = await openPolling(target.port);
    const text = `4${"é".repeat(MAX / 2)}`;
    assertEmpty(await session.post(text), 413);
    await session.assertEcho();
  });

  test("the same in chunks", async () => {
    const session = await openPolling(target.port);
    const chunked = { headers: { "transfer-encoding": "chunked" } };
    assertEmpty(await session.post(`${most}x`, chunked), 413);
    await session.assertEcho();
    const small = await session.post("4in chunks", chunked);
    assert.deepEqual([small.status, small.text], [200, "ok"]);
    assert.equal(await session.poll(), "4in chunks");
    const whole = await session.post(most, chunked);
    assert.deepEqual([whole.status, whole.text], [200, "ok"]);
    assert.equal(await session.poll(), most);
  });

  test("a held GET outlives a 413", async () => {
    const session = await openPolling(target.port);
    const held = session.poll();
    await pause(SEEN_MS);
    assertEmpty(await session.post(`${most}x`), 413);
    await session.send("4after");
    assert.equal(await held, "4after");
  });

  test("application/octet-stream is refused and ends the session", async () => {
    const session = await openPolling(target.port);
    const headers = { "content-type": "application/octet-stream" };
    assertEmpty(await session.post(Buffer.from([1, 2, 3]), { headers }), 400);
    await session.assertGone();
  });

  test("other types, and none, are text", async () => {
    const session = await openPolling(target.port);
    const types = ["text/plain", "text/plain; charset=utf-8", "application/json", "text/html"];
    for (const type of types) {
      const post = await session.post("4x", { headers: { "content-type": type } });
      assert.equal(post.text, "ok");
      assert.equal(await session.poll(), "4x");
    }
    const tcp = openTcp(
      target.port,
      `POST ${session.url()} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n4y`,
    );
    await tcp.until((text) => text.endsWith("ok"));
    tcp.socket.destroy();
    assert.equal(await session.poll(), "4y");
  });

  test("a body that comes byte by byte", async () => {
    const session = await openPolling(target.port);
    const text = `4é😀${RS}4b`;
    const bytes = Buffer.from(text);
    const post = openPost(session, { declared: bytes.length, sent: "" });
    for (const byte of bytes) {
      post.socket.write(Buffer.from([byte]));
      await pause(2);
    }
    await post.until((received) => received.endsWith("ok"));
    post.socket.destroy();
    assert.equal(await session.poll(), text);
  });
}

const get = (session, version = "1.1", headers = "") =>
  `GET ${session.url()} HTTP/${version}\r\nHost: x\r\n${headers}\r\n`;
const post = (session, body, version = "1.1") =>
  `POST ${session.url()} HTTP/${version}\r\nHost: x\r\nContent-Type: text/plain\r\n` +
  `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const brief = (text) => parseAnswers(text).map(({ status, body }) => `${status} ${body}`);

function connections() {
  test("one connection carries all of a session, refusals included", async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const session = await openPolling(target.port, "/engine.io/", { agent });
    for (const n of range(20)) {
      const sent = await session.post(`4${n}`, { agent });
      assert.deepEqual([sent.text, sent.reused], ["ok", true]);
      const got = await session.get({ agent });
      assert.deepEqual([got.text, got.reused], [`4${n}`, true]);
    }
    const bad = await request(target.port, "/engine.io/?EIO=4", { agent });
    assert.deepEqual([bad.status, bad.reused], [400, true]);
    assert.equal((await session.post("4end", { agent })).reused, true);
    agent.destroy();
  });

  test("one connection may serve several sessions", async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const sessions = [];
    for (const _ of range(5)) {
      sessions.push(await openPolling(target.port, "/engine.io/", { agent }));
    }
    for (const [n, session] of sessions.entries()) await session.post(`4${n}`, { agent });
    for (const [n, session] of sessions.entries()) {
      assert.equal((await session.get({ agent })).text, `4${n}`);
    }
    agent.destroy();
  });

  test("pipelined requests are answered in order", async () => {
    const session = await openPolling(target.port);
    const tcp = openTcp(target.port);
    for (const n of range(20)) {
      tcp.socket.write(post(session, `4${n}`) + get(session));
      await tcp.until((text) => parseAnswers(text).length === 2 * n + 2);
    }
    const expected = range(20).flatMap((n) => ["200 ok", `200 4${n}`]);
    assert.deepEqual(brief(tcp.received), expected);
    tcp.socket.destroy();
  });

  test("a handshake and a refusal may stand in one pipeline", async () => {
    const tcp = openTcp(target.port);
    const line = (path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    tcp.socket.write(line("/engine.io/?EIO=4") + line("/engine.io/?EIO=4&transport=polling"));
    await tcp.until((text) => parseAnswers(text).length === 2);
    const [refusal, open] = parseAnswers(tcp.received);
    assert.equal(refusal.body, '{"code":0,"message":"Transport unknown"}');
    assert.deepEqual([open.status, open.body[0]], [200, "0"]);
    tcp.socket.destroy();
  });

  // whether a server reads on behind a GET it holds is its own affair; the order is not
  test("a GET with a POST behind it: the answers are in order, nothing is lost", async () => {
    const session = await openPolling(target.port);
    const tcp = openTcp(target.port, get(session) + post(session, "4behind"));
    await pause(SEEN_MS);
    await session.post("4other").catch(() => {});
    await tcp.until((text) => parseAnswers(text).length === 2);
    const [first, second] = brief(tcp.received);
    assert.match(first, /^200 4(behind|other)/);
    assert.equal(second, "200 ok");
    tcp.socket.destroy();
  });

  test("a request that comes byte by byte", async () => {
    const session = await openPolling(target.port);
    const tcp = openTcp(target.port);
    for (const byte of post(session, "4slow")) {
      tcp.socket.write(byte);
      await pause(1);
    }
    await tcp.until((text) => text.endsWith("ok"));
    tcp.socket.destroy();
    assert.equal(await session.poll(), "4slow");
  });

  test("HTTP/1.0: answered, then the connection is closed", async () => {
    const line = `GET /engine.io/?${query({ transport: "polling" })} HTTP/1.0\r\n\r\n`;
    const [open] = parseAnswers(await openTcp(target.port, line).ended);
    assert.deepEqual([open.status, open.body[0]], [200, "0"]);
    const session = await openPolling(target.port);
    const sent = await openTcp(target.port, post(session, "4old", "1.0")).ended;
    assert.deepEqual(brief(sent), ["200 ok"]);
    const got = await openTcp(target.port, get(session, "1.0")).ended;
    assert.deepEqual(brief(got), ["200 4old"]);
  });

  test("`Connection: close` is honoured", async () => {
    const session = await openPolling(target.port);
    await session.send("4x");
    const got = await openTcp(target.port, get(session, "1.1", "Connection: close\r\n")).ended;
    assert.deepEqual(brief(got), ["200 4x"]);
  });
}

function compression() {
  // What a GET with this Accept-Encoding makes of a body of `size` bytes.
  async function fetched(size, encoding) {
    const session = await openPolling(target.port);
    const body = `4${"x".repeat(size - 1)}`;
    await session.send(body);
    const headers = encoding === undefined ? {} : { "accept-encoding": encoding };
    return { body, answer: await session.get({ headers }) };
  }

  test("from 1,024 bytes on, with gzip", async () => {
    for (const size of [1024, 5000, 200_000]) {
      const { body, answer } = await fetched(size, "gzip, deflate, br");
      assert.equal(answer.headers["content-encoding"], "gzip");
      assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
      assert.equal(answer.headers["cache-control"], "no-store");
      assert.ok(answer.bytes.length < size / 2, `${answer.bytes.length} bytes`);
      assert.equal(gunzipSync(answer.bytes).toString(), body);
    }
  });

  test("not below", async () => {
    const { body, answer } = await fetched(1023, "gzip");
    assert.equal(answer.headers["content-encoding"], undefined);
    assert.equal(answer.text, body);
  });

  test("not for those who don't take it", async () => {
    for (const encoding of [undefined, "identity", "br", "gzip;q=0"]) {
      const { body, answer } = await fetched(5000, encoding);
      assert.equal(answer.headers["content-encoding"], undefined, encoding);
      assert.equal(answer.text, body);
    }
  });

  test("those who take only deflate get what they can read", async () => {
    const { body, answer } = await fetched(5000, "deflate");
    const encoding = answer.headers["content-encoding"];
    assert.ok([undefined, "deflate"].includes(encoding), encoding);
    assert.equal((encoding ? inflateSync(answer.bytes) : answer.bytes).toString(), body);
  });

  test("a connection is good for more after a compressed body", async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const session = await openPolling(target.port, "/engine.io/", { agent });
    const headers = { "accept-encoding": "gzip" };
    for (const n of range(3)) {
      const body = `4${`${n}`.repeat(4000)}`;
      await session.post(body, { agent });
      const answer = await session.get({ agent, headers });
      assert.equal(gunzipSync(answer.bytes).toString(), body);
      assert.equal(answer.reused, true);
    }
    agent.destroy();
  });
}

function cors({ name, ...settings }) {
  const OWN = "https://app.example";
  const servers = {};
  before(async () => {
    servers.any = await startTarget({ ...CALM, ...settings, cors: "*" });
    servers.own = await startTarget({ ...CALM, ...settings, cors: OWN });
  });
  after(async () => {
    for (const server of Object.values(servers)) await server.stop();
  });

  const origin = (headers) => headers["access-control-allow-origin"];
  const vary = (headers) => (headers.vary ?? "").split(/, */);

  // Every kind of answer to a page of `from`: handshake, GET, POST, an error, a WebSocket.
  async function answers(server, from) {
    const headers = { origin: from };
    const session = await openPolling(server.port, "/engine.io/", { headers });
    const sent = await session.post("4x", { headers });
    const got = await session.get({ headers });
    const error = await request(server.port, "/engine.io/?EIO=4", { headers });
    const ws = openWs(server.port);
    const switched = await ws.headers;
    ws.cut();
    return [session.answer.headers, sent.headers, got.headers, error.headers, switched];
  }

  // The same for a page that is not allowed: Node serves it, but lets it read nothing.
  async function foreign(server, from) {
    if (differs("foreignOrigin") === 200) return answers(server, from);
    const headers = { origin: from };
    const url = `/engine.io/?${query({ transport: "polling" })}`;
    const answer = await request(server.port, url, { headers });
    assert.equal(answer.status, differs("foreignOrigin"));
    assert.equal(answer.text, '{"code":4,"message":"Forbidden"}');
    return [answer.headers];
  }

  test("off: no headers, and no preflight", async () => {
    for (const headers of await foreign(target, OWN)) assert.equal(origin(headers), undefined);
    const preflight = await request(target.port, `/engine.io/?${query({ transport: "polling" })}`, {
      method: "OPTIONS",
      headers: { origin: OWN, "access-control-request-method": "POST" },
    });
    assert.equal(preflight.status, 400);
    assert.equal(origin(preflight.headers), undefined);
  });

  test("any origin", async () => {
    for (const headers of await answers(servers.any, OWN)) assert.equal(origin(headers), "*");
  });

  test("one origin, on every kind of answer", async () => {
    for (const headers of await answers(servers.own, OWN)) {
      assert.equal(origin(headers), OWN);
      assert.ok(vary(headers).includes("Origin"), headers.vary);
    }
  });

  test("another origin is not allowed", async () => {
    for (const headers of await foreign(servers.own, "https://evil.example")) {
      assert.ok([undefined, OWN].includes(origin(headers)), origin(headers));
    }
  });

  test("preflight, with and without a session", async () => {
    for (const [server, allowed] of [
      [servers.any, "*"],
      [servers.own, OWN],
    ]) {
      const session = await openPolling(server.port);
      for (const path of [session.url(), `/socket.io/?${query({ transport: "polling" })}`]) {
        const answer = await request(server.port, path, {
          method: "OPTIONS",
          headers: {
            origin: OWN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-token",
          },
        });
        assertEmpty(answer, 204);
        assert.equal(origin(answer.headers), allowed);
        const methods = answer.headers["access-control-allow-methods"];
        assert.equal(methods, "GET,HEAD,PUT,PATCH,POST,DELETE");
        assert.equal(answer.headers["access-control-allow-headers"], "content-type,x-token");
        assert.ok(vary(answer.headers).includes("Access-Control-Request-Headers"));
      }
      await session.assertEcho();
    }
  });
}
