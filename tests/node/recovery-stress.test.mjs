// Proves: 50 clients on 3 shards whose connections break at random while everybody talks have, in
// every room, neither a gap nor a double, as long as they are told that they were recovered; and
// being told otherwise is the exception.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startEngine } from "./engine.mjs";
import { connected, eventually, ok, pause, range, seeded } from "./events.mjs";
import { startProxy } from "./proxy.mjs";
import { TRANSPORTS } from "./recovery.mjs";

const CLIENTS = 50;
const ROOMS = 5;
const SECONDS = 10;
const MESSAGES_PER_SECOND = 100;
const BREAKS_PER_SECOND = 20;

test("random breaks under load", { timeout: 60_000 }, async (t) => {
  const random = seeded(t);
  const engine = await startEngine({
    MAX_WORKERS: 3,
    RECOVERY_WINDOW: "30s",
    PING_INTERVAL: "1s",
    PING_TIMEOUT: "2s",
  });
  t.after(() => engine.stop());
  const proxies = await Promise.all(range(CLIENTS).map(() => startProxy(engine.port)));
  t.after(() => proxies.forEach((it) => it.stop()));
  const kinds = Object.values(TRANSPORTS);
  const clients = range(CLIENTS).map((n) => begin(engine, proxies[n], n, kinds[n % 3]));
  await Promise.all(clients.map((it) => connected(it.socket)));
  await eventually(async () => assert.ok(clients.every((it) => it.baselines === it.rooms.length)));
  const speakers = await engine.connectMany(ROOMS, (n) => `speaker${n}`);
  for (const n of range(ROOMS)) await ok(speakers[n], "join", { room: `${n}`, presence: false });

  const end = Date.now() + SECONDS * 1000;
  const breaking = (async () => {
    while (Date.now() < end) {
      await pause((2000 / BREAKS_PER_SECOND) * random.next());
      breakOne(proxies[random.below(CLIENTS)], random);
    }
  })();
  let said = 0;
  const last = range(ROOMS).fill(0);
  const say = async (n) => {
    const reply = await ok(speakers[n], "message", { room: `${n}`, body: said });
    last[n] = Math.max(last[n], reply.seq);
  };
  const saying = [];
  for (const start = Date.now(); Date.now() < end; await pause(10)) {
    const due = ((Date.now() - start) / 1000) * MESSAGES_PER_SECOND;
    for (; said < due; said++) saying.push(say(said % ROOMS));
  }
  await Promise.all([breaking, ...saying]);
  for (const proxy of proxies) proxy.refuses = false;

  await eventually(async () => {
    for (const it of clients) {
      for (const room of it.rooms) {
        const told = `${it.name} in room ${room}: ${it.faults.join("; ")}`;
        assert.equal(it.seqs.get(room), last[room], told);
      }
    }
  });
  const sum = (count) => clients.reduce((all, it) => all + count(it), 0);
  const recoveries = sum((it) => it.recovered);
  const anew = sum((it) => it.anew);
  t.diagnostic(`${said} messages, ${recoveries} recoveries, ${anew} new sessions`);
  assert.deepEqual(
    clients.flatMap((it) => it.faults),
    [],
  );
  assert.ok(recoveries > 100, `${recoveries} recoveries`);
  assert.ok(anew <= recoveries / 50, `${anew} of ${recoveries + anew} were not recovered`);
});

// Cut, closed by the client or gone silent for a while.
function breakOne(proxy, random) {
  if (random.next() < 0.2) {
    proxy.freeze();
    setTimeout(() => proxy.kill(), 300 * random.next());
  } else proxy.kill();
  if (random.next() < 0.5) {
    proxy.refuses = true;
    setTimeout(() => (proxy.refuses = false), 500 * random.next());
  }
}

// A client that joins its rooms whenever it is new, and checks every number it hears.
function begin(engine, proxy, n, transports) {
  const socket = engine.client(
    { username: `client${n}` },
    {
      url: proxy.url,
      transports,
      reconnection: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 100,
      timeout: 3000,
    },
  );
  const name = `client${n} (${transports})`;
  const rooms = [n % ROOMS, (n * 7 + 3) % ROOMS].filter((it, at, all) => all.indexOf(it) === at);
  const me = { name, socket, rooms, seqs: new Map(), faults: [], recovered: 0, anew: 0 };
  me.baselines = 0;
  let life = 0;
  socket.on("connect", () => {
    if (socket.recovered) return void (me.recovered += 1);
    if (life++ > 0) me.anew += 1;
    me.seqs.clear();
    me.baselines = 0;
    for (const room of rooms) enter(me, room, life, () => life);
  });
  socket.on("message", ({ room, seq }) => {
    const before = me.seqs.get(Number(room));
    if (before === undefined) return; // the answer to the join will say more
    if (seq !== before + 1) me.faults.push(`${name} room ${room}: ${seq} after ${before}`);
    me.seqs.set(Number(room), seq);
  });
  return me;
}

// The answer to a join, which a break may swallow: then it is asked again.
async function enter(me, room, life, now) {
  while (life === now()) {
    const ack = me.socket.timeout(1000).emitWithAck("join", { room: `${room}`, presence: false });
    const reply = await ack.catch(() => null);
    if (!reply?.ok || life !== now()) continue;
    if (me.seqs.has(room)) return;
    me.seqs.set(room, reply.lastSeq);
    me.baselines += 1;
    return;
  }
}
