// Proves: every request on a kept connection gets one answer, its own, also when its session refuses
// it before its body has come whole; and answers to HEAD leave nothing behind on the connection.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pause } from "./events.mjs";
import { CALM, startTarget } from "./target.mjs";
import { openPolling, openTcp, parseAnswers, query } from "./wire.mjs";

const LARGE = "x".repeat(9_000); // more than one receive buffer of the engine

for (const workers of [1, 3]) {
  describe(`${workers} shards`, () => {
    let target;
    before(async () => (target = await startTarget({ ...CALM, workers }, "throng")));
    after(() => target?.stop());

    const head = (session, length) =>
      `POST ${session.url()} HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`;
    const handshake = `GET /engine.io/?${query({ transport: "polling" })} HTTP/1.1\r\nHost: x\r\n\r\n`;

    // A large POST that will be refused, and a handshake behind it, in one write.
    async function refusedThenHandshake(session) {
      const tcp = openTcp(target.port, head(session, LARGE.length + 1) + `4${LARGE}` + handshake);
      await tcp.until((text) => parseAnswers(text).length > 0);
      await pause(100); // for an answer too many
      tcp.socket.destroy();
      const [first, ...others] = parseAnswers(tcp.received);
      assert.equal(first.status, 400);
      // the connection may close after the refusal; if it stays, the handshake gets its session
      assert.ok(others.length <= 1, tcp.received);
      for (const { status, body } of others) assert.deepEqual([status, body[0]], [200, "0"]);
    }

    test("a POST beside another", async () => {
      for (let round = 0; round < 20; round++) {
        const session = await openPolling(target.port);
        const open = openTcp(target.port, `${head(session, 10)}4abc`);
        await pause(20);
        await refusedThenHandshake(session);
        open.socket.destroy();
      }
    });

    test("a POST to a session that has just ended", async () => {
      for (let round = 0; round < 20; round++) {
        const session = await openPolling(target.port);
        const ending = session.post("1");
        await pause(15); // its answer waits for a GET of the same moment
        await refusedThenHandshake(session);
        await ending;
      }
    });

    test("HEAD", async () => {
      const url = `/engine.io/?${query({ transport: "polling" })}`;
      const tcp = openTcp(target.port, `HEAD ${url} HTTP/1.1\r\nHost: x\r\n\r\n${handshake}`);
      const text = await tcp.ended;
      assert.match(text, /^HTTP\/1\.1 400 /);
      assert.equal(text.match(/HTTP\/1\.1/g).length, 1, "nothing that could be taken for a body");
    });
  });
}
