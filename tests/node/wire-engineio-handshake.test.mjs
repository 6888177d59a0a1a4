// Proves: how an Engine.IO session begins, over HTTP and over WebSocket: the open packet key by
// key, and every refusal with its code. With one shard and with several.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { differs } from "./differences.mjs";
import { range } from "./events.mjs";
import { CALM, FAST, startTarget, VARIANTS } from "./target.mjs";
import { openPolling, openWs, openWsSession, query, request } from "./wire.mjs";

const PATHS = ["/engine.io/", "/socket.io/"];
const ERRORS = [
  "Transport unknown",
  "Session ID unknown",
  "Bad handshake method",
  "Bad request",
  "Forbidden",
  "Unsupported protocol version",
];

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
    describe("handshake", handshake);
    describe("errors", errors);
  });
}

function assertError(answer, code) {
  assert.equal(answer.status, 400, answer.text);
  assert.equal(answer.text, `{"code":${code},"message":"${ERRORS[code]}"}`);
  assert.match(answer.headers["content-type"], /^application\/json/);
}

function assertOpenPacket(open, upgrades) {
  const { sid, ...rest } = open;
  assert.match(sid, /^[A-Za-z0-9_-]+$/);
  assert.equal(sid.length, differs("sidCharacters"));
  const settings = { pingInterval: 300, pingTimeout: 200, maxPayload: 1_000_000 };
  assert.deepEqual(rest, { upgrades, ...settings });
}

function handshake() {
  test("polling: exactly five keys, and the headers", async () => {
    for (const path of PATHS) {
      const { open, answer } = await openPolling(fast.port, path);
      assertOpenPacket(open, ["websocket"]);
      assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
      assert.equal(answer.headers["content-length"], `${answer.bytes.length}`);
      assert.equal(answer.headers["cache-control"], "no-store");
      assert.equal(answer.headers["set-cookie"], undefined);
      assert.equal(answer.headers["access-control-allow-origin"], undefined);
    }
  });

  test("WebSocket: the same keys, nothing to upgrade to, no extension, no cookie", async () => {
    for (const path of PATHS) {
      const channel = await openWsSession(fast.port, path);
      assertOpenPacket(channel.open, []);
      const headers = await channel.headers;
      assert.equal(headers["sec-websocket-extensions"], undefined);
      assert.equal(headers["sec-websocket-protocol"], undefined);
      assert.equal(headers["set-cookie"], undefined);
      channel.cut();
    }
  });

  test("localhost is ::1 as well as 127.0.0.1", async () => {
    for (const host of ["127.0.0.1", "::1"]) {
      const session = await openPolling(calm.port, "/engine.io/", { host });
      await session.assertEcho();
    }
    for (const host of ["127.0.0.1", "[::1]"]) {
      const channel = await openWsSession(calm.port, "/engine.io/", { host });
      channel.cut();
    }
  });

  test("no two sessions have one id", async () => {
    const sessions = await Promise.all(range(50).map(() => openPolling(calm.port)));
    assert.equal(new Set(sessions.map((s) => s.sid)).size, 50);
  });

  test("a longer path and unknown parameters are taken, no slash is not", async () => {
    const parameters = query({ transport: "polling", t: "abc.1", b64: "1", x: "é &=" });
    const longer = await request(calm.port, `/engine.io/whatever?${parameters}`);
    assert.equal(longer.status, 200);
    assert.equal(longer.text[0], "0");
    const shorter = await request(calm.port, `/engine.io?${parameters}`);
    assert.notEqual(shorter.text[0], "0");
  });
}

function errors() {
  const ask = (parameters, method = "GET", path = PATHS[0]) =>
    request(calm.port, `${path}?${new URLSearchParams(parameters)}`, { method });

  test("of a handshake", async () => {
    for (const path of PATHS) {
      const cases = [
        [{ EIO: "4" }, "GET", 0],
        [{}, "GET", 0],
        [{ EIO: "4", transport: "abc" }, "GET", 0],
        [{ EIO: "4", transport: "webtransport" }, "GET", 0],
        [{ EIO: "4", transport: "abc" }, "POST", 0],
        [{ EIO: "4", transport: "abc", sid: "nobody" }, "GET", 0],
        [{ transport: "polling" }, "GET", 5],
        [{ EIO: "", transport: "polling" }, "GET", 5],
        [{ EIO: "abc", transport: "polling" }, "GET", 5],
        [{ EIO: "3", transport: "polling" }, "GET", 5],
        [{ EIO: "5", transport: "polling" }, "GET", 5],
        [{ EIO: "4", transport: "polling" }, "POST", 2],
        [{ EIO: "4", transport: "polling" }, "PUT", 2],
        [{ EIO: "4", transport: "polling" }, "DELETE", 2],
        [{ EIO: "4", transport: "polling" }, "OPTIONS", 2],
        [{ EIO: "3", transport: "polling" }, "POST", 2],
        [{ EIO: "4", transport: "websocket" }, "GET", 3],
        [{ EIO: "4", transport: "websocket" }, "POST", 2],
      ];
      for (const [parameters, method, code] of cases) {
        assertError(await ask(parameters, method, path), code);
      }
    }
  });

  test("of a session", async () => {
    for (const path of PATHS) {
      for (const sid of ["nobody", "AAAAAAAAAAAAAAAAAAAA", "__proto__", "x".repeat(1000)]) {
        for (const method of ["GET", "POST"]) {
          assertError(await ask({ EIO: "4", transport: "polling", sid }, method, path), 1);
        }
      }
      const { sid } = await openPolling(calm.port, path);
      assertError(await ask({ EIO: "4", transport: "websocket", sid }, "GET", path), 3);
      assertError(await ask({ EIO: "3", transport: "polling", sid }, "GET", path), 3);
      assertError(await ask({ transport: "polling", sid }, "GET", path), 3);
    }
  });

  test("none of them costs the session", async () => {
    const session = await openPolling(calm.port);
    const { sid } = session;
    await ask({ EIO: "4", transport: "websocket", sid });
    await ask({ EIO: "3", transport: "polling", sid });
    const put = await ask({ EIO: "4", transport: "polling", sid }, "PUT");
    assert.deepEqual([put.status, put.text], [500, ""]);
    await session.assertEcho();
  });

  test("of a WebSocket handshake are plain text, before any switch", async () => {
    const cases = [
      [{ transport: "abc" }, "Transport unknown"],
      [{ sid: "nobody" }, "Session ID unknown"],
    ];
    for (const [parameters, message] of cases) {
      const channel = openWs(calm.port, parameters);
      assert.equal(await channel.status, 400);
      assert.equal(channel.refusal.text, message);
      assert.match(channel.refusal.headers["content-type"], /^text\/html/);
      assert.equal(channel.refusal.headers.connection?.toLowerCase(), "close");
    }
  });

  test("of a WebSocket for another revision, or with the wrong transport", async () => {
    for (const EIO of ["3", "abc", ""]) {
      const channel = openWs(calm.port, { EIO });
      assert.equal(await channel.status, differs("webSocketOfRevision3"));
      await channel.untilClosed();
    }
    const channel = openWs(calm.port, { transport: "polling" });
    assert.equal(await channel.status, differs("webSocketWithTransportPolling"));
    await channel.untilClosed();
  });
}
