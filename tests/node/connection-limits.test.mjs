// Proves: above MAX_CONNECTIONS_PER_IP and above MAX_CONNECTIONS a handshake is answered with 503,
// those inside are undisturbed, and a place that is given up can be taken again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startEngine } from "./engine.mjs";
import { eventually, ok, once, refused } from "./events.mjs";

async function fill(engine, count) {
  const clients = [];
  for (let i = 0; i < count; i++) {
    // the connection that asked /ready may still be closing
    clients.push(await eventually(() => engine.connect(`user${i}`)));
  }
  return clients;
}

async function assertFullThenFree(engine, clients) {
  assert.equal((await engine.upgrade()).status, 503);
  const stock = engine.client({ username: "late" });
  await once(stock, "connect_error");
  for (const c of clients) await ok(c, "join", "inside");
  clients[0].disconnect();
  await eventually(() => engine.connect("next"));
  assert.equal((await engine.upgrade()).status, 503);
}

test("per address", async (t) => {
  const engine = await startEngine({ MAX_CONNECTIONS_PER_IP: 3, MAX_WORKERS: 2 });
  t.after(() => engine.stop());
  const clients = await fill(engine, 3);
  await assertFullThenFree(engine, clients);
});

test("another address has its own count", async (t) => {
  const engine = await startEngine({ MAX_CONNECTIONS_PER_IP: 3 });
  t.after(() => engine.stop());
  await fill(engine, 3);
  assert.equal((await engine.upgrade()).status, 503);
  const six = await engine.upgrade({ host: "[::1]" }).catch((error) => error);
  if (["EADDRNOTAVAIL", "ENETUNREACH", "EAFNOSUPPORT"].includes(six.code))
    return t.diagnostic("no IPv6 on this host");
  assert.equal(six.status, 101);
});

test("in all", async (t) => {
  const engine = await startEngine({ MAX_CONNECTIONS: 5, MAX_WORKERS: 1 });
  t.after(() => engine.stop());
  const clients = await fill(engine, 5);
  await assertFullThenFree(engine, clients);
});

test("no limit per address where it is 0", async (t) => {
  const engine = await startEngine({ MAX_CONNECTIONS_PER_IP: 0 });
  t.after(() => engine.stop());
  assert.equal((await engine.connectMany(120)).length, 120);
});

test("rooms of one connection", async (t) => {
  const engine = await startEngine({ ROOMS_PER_SOCKET: 3 });
  t.after(() => engine.stop());
  const [ada, bob] = await engine.connectMany(2);
  for (const room of ["a", "b", "c", "c"]) await ok(ada, "join", room);
  await refused("room_full", ada, "join", "d");
  await ok(bob, "join", "d");
  await ok(ada, "leave", "a");
  await ok(ada, "join", "d");
});
