// Proves: SIGTERM closes clients with 1012 after what was owed to them is out, `/ready` no longer
// says 200, the process ends with 0, and stock clients come back by themselves to the next process
// on the same port.

import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { startEngine } from "./engine.mjs";
import { collect, connected, ok, once, range } from "./events.mjs";

const RECONNECT = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 300 };

// The code of the WebSocket close frame this client gets next, and Socket.IO's reason.
function closeOf(client) {
  return new Promise((done) => {
    client.once("disconnect", (reason, details) => done({ reason, code: details?.context?.code }));
  });
}

test(
  "stock clients are closed with 1012 and come back to the next process",
  { timeout: 60_000 },
  async (t) => {
    const first = await startEngine({ MAX_WORKERS: 2 });
    t.after(() => first.kill());
    const clients = await first.connectMany(50, undefined, RECONNECT);
    await Promise.all(clients.map((c) => ok(c, "join", { room: "moving", presence: false })));
    const sent = await ok(clients[0], "message", { room: "moving", body: "before" });
    const closes = clients.map(closeOf);
    // kept by hand: `kill` would also end the clients, who are to come back
    first.clients.clear();
    first.child.kill("SIGTERM");
    for (const close of await Promise.all(closes))
      assert.deepEqual(close, { reason: "transport close", code: 1012 });
    await first.assertExits();

    const second = await startEngine({ MAX_WORKERS: 2 }, { port: first.port });
    clients.forEach((c) => second.clients.add(c));
    t.after(() => second.kill());
    await Promise.all(clients.map((c) => connected(c, 20_000)));
    const replies = await Promise.all(
      clients.map((c) => ok(c, "join", { room: "moving", since: sent.seq, presence: false })),
    );
    assert.equal(Math.max(...replies.map((r) => r.count)), 50);
    for (const reply of replies)
      assert.equal(reply.complete, false, "memory is gone with the process, and says so");
    const seen = collect(clients[49], "message");
    await ok(clients[1], "message", { room: "moving", body: "after" });
    await seen.until((items) => items.length === 1);
    await second.stop();
  },
);

test("what was acknowledged before SIGTERM arrives before the close", async (t) => {
  const engine = await startEngine({ MAX_WORKERS: 2 });
  t.after(() => engine.kill());
  const [sender, ...receivers] = await engine.connectMany(10);
  for (const c of [sender, ...receivers]) await ok(c, "join", { room: "flush", presence: false });
  const seen = receivers.map((c) => collect(c, "message"));
  const closes = receivers.map(closeOf);
  await Promise.all(
    range(200).map((n) =>
      ok(sender, "message", { room: "flush", body: `${n} ${"x".repeat(2000)}` }),
    ),
  );
  engine.child.kill("SIGTERM");
  await Promise.all(closes);
  for (const s of seen)
    assert.deepEqual(
      s.items.map((m) => m.seq),
      range(200, 1),
    );
  await engine.assertExits();
});

test("while it drains it is not ready", async (t) => {
  const engine = await startEngine({ DRAIN_TIMEOUT: "5s" });
  t.after(() => engine.kill());
  const clients = await engine.connectMany(20);
  const closed = closeOf(clients[0]);
  const answers = [];
  engine.child.kill("SIGTERM");
  await Promise.race([closed, engine.exited]);
  while (!engine.exit)
    answers.push(
      await engine.http("/ready").then(
        (a) => a.status,
        () => "refused",
      ),
    );
  for (const answer of answers) assert.ok(answer === 503 || answer === "refused", `${answer}`);
  await engine.assertExits();
});

test("neither silent connections nor half a handshake hold it up", async (t) => {
  const engine = await startEngine({
    DRAIN_TIMEOUT: "2s",
    HANDSHAKE_TIMEOUT: "60s",
    CONNECT_TIMEOUT: "60s",
  });
  t.after(() => engine.kill());
  const silent = range(3).map(() => net.connect(engine.port, "127.0.0.1"));
  t.after(() => silent.forEach((s) => s.destroy()));
  await Promise.all(silent.map((s) => new Promise((done) => s.once("connect", done))));
  silent.forEach((s) => s.on("error", () => {}));
  silent[1].write("GET /socket.io/?EIO=4&tra");
  silent[2].write("GET /health HTTP/1.1\r\n");
  const { ws } = await engine.upgrade(); // connected, but never says `40`
  const close = new Promise((done) => ws.once("close", done));
  engine.child.kill("SIGTERM");
  assert.equal(await close, 1012);
  await engine.assertExits(8000);
});

test("with nobody connected it ends at once", async (t) => {
  const engine = await startEngine({ DRAIN_TIMEOUT: "30s" });
  t.after(() => engine.kill());
  engine.child.kill("SIGTERM");
  await engine.assertExits(3000);
});

test("events sent while draining are answered or the connection closes", async (t) => {
  const engine = await startEngine({ DRAIN_TIMEOUT: "3s" });
  t.after(() => engine.kill());
  const clients = await engine.connectMany(20);
  await Promise.all(clients.map((c) => ok(c, "join", { room: "busy", presence: false })));
  engine.child.kill("SIGTERM");
  await Promise.all(
    clients.map(async (c) => {
      const closed = c.connected ? once(c, "disconnect", 10_000) : Promise.resolve();
      const timer = setInterval(
        () => c.connected && c.emit("message", { room: "busy", body: 1 }, () => {}),
        5,
      );
      await closed.finally(() => clearInterval(timer));
    }),
  );
  await engine.assertExits();
});
