// Proves: while hosts are killed or drained and come back, and connections break at random, nobody who follows
// the contract (come back, ask again what was not acknowledged) sees a gap, a double or another
// order than everybody else, and what was acknowledged is there. Afterwards all hosts agree on who
// is there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { roundRobin, startBalancer } from "./balancer.mjs";
import { TARGET, killed, startFleet } from "./fleet.mjs";
import { eventually, ok, pause, range, seeded } from "./events.mjs";

const CLIENTS = 24;
const ALL_ROOMS = range(4).map((n) => `room ${n}`);
const STORM_MS = 12_000;
const SAY_EVERY_MS = 500; // each client
const BREAKS_PER_SECOND = 8;
const END_EVERY_MS = 3500;
const DOWN_MS = 1000;

const HOST = {
  MAX_WORKERS: 2,
  RECOVERY_WINDOW: "30s",
  PING_INTERVAL: "1s",
  PING_TIMEOUT: "2s",
  HISTORY_SIZE: 2000,
};

const ENDS = {
  "hosts are killed": killed,
  "hosts are drained": async (host) => {
    host.child.kill("SIGTERM");
    await host.assertExits();
  },
};
for (const [name, endHost] of Object.entries(ENDS)) {
  test(name, { skip: TARGET === "node", timeout: 180_000 }, (t) => storm(t, endHost));
}

async function storm(t, endHost) {
  const random = seeded(t);
  const fleet = await startFleet({ hosts: [HOST, HOST, HOST], adapter: null });
  t.after(() => fleet.kill());
  const ports = fleet.hosts.map((it) => it.port);
  const balancer = await startBalancer(ports, roundRobin());
  t.after(() => balancer.stop());
  const people = range(CLIENTS).map((n) => new Person(fleet.hosts[0], balancer.url, n));
  t.after(() => people.forEach((it) => it.socket.disconnect()));
  await eventually(async () => assert.ok(people.every((it) => it.isIn())), 20_000);

  const end = Date.now() + STORM_MS;
  const ends = TARGET === "one" ? 0 : ending(fleet, endHost, end);
  const breaks = breaking(balancer, random, end);
  await Promise.all(people.map((it) => it.talk(end, random)));
  const counts = [`${await ends} hosts`, `${await breaks} breaks`];
  await Promise.all(people.map((it) => it.unsaid));

  const logs = await calm(people);
  people.forEach((it) => checkPerson(it, logs));
  const sum = (count) => people.reduce((all, it) => all + count(it), 0);
  const [recovered, anew] = [sum((it) => it.recovered), sum((it) => it.anew)];
  const told = sum((it) => it.told);
  const said = sum((it) => it.acked.length);
  counts.push(`${said} messages`, `${recovered} recoveries`, `${anew} anew`, `${told} gaps told`);
  t.diagnostic(counts.join(", "));
  assert.ok(said > 200 && recovered > anew && told === 0, counts.join(", "));
  await agree(fleet, people);
  await fleet.stop();
}

// Each room's messages, once all its members have heard the last one that anybody knows of.
function calm(people) {
  return eventually(async () => {
    const logs = ALL_ROOMS.map((room) => {
      const members = people.filter((it) => it.rooms.includes(room));
      const last = members.map((it) => it.log(room).at(-1)?.seq);
      const acked = members.flatMap((it) => it.acked.filter((told) => told.room === room));
      const top = Math.max(...acked.map((it) => it.seq), last[0]);
      assert.deepEqual(new Set(last), new Set([top]), `${room}: ${last}`);
      return [room, members[0].log(room)];
    });
    return new Map(logs);
  }, 30_000);
}

// It has seen no fault, what all others have seen, and what it was acknowledged.
function checkPerson({ name, rooms, faults, log, acked }, logs) {
  assert.deepEqual(faults, [], name);
  for (const room of rooms) {
    const ids = new Map(logs.get(room).map(({ seq, id }) => [seq, id]));
    for (const { seq, id } of log(room)) {
      if (ids.has(seq)) assert.equal(id, ids.get(seq), `${name}, ${room}, ${seq}`);
    }
  }
  for (const { room, seq, id, body } of acked) {
    const found = logs.get(room).filter((it) => it.body === body);
    const places = found.map((it) => [it.seq, it.id]);
    assert.deepEqual(places, [[seq, id]], `${body} in ${room}`);
  }
}

// All hosts know the same participants: those who are there.
async function agree(fleet, people) {
  const witnesses = await Promise.all(fleet.hosts.map((it) => it.connect("witness")));
  const look = async (witness, room) => {
    await ok(witness, "join", { room });
    const { participants } = await ok(witness, "participants", { room });
    const there = participants.filter((it) => it.name !== "witness").map((it) => it.id);
    const expected = people.filter((it) => it.rooms.includes(room)).map((it) => it.socket.id);
    assert.deepEqual(there.sort(), expected.sort(), `host ${witnesses.indexOf(witness)}, ${room}`);
  };
  await eventually(async () => {
    for (const witness of witnesses) for (const room of ALL_ROOMS) await look(witness, room);
  }, 60_000);
}

async function ending(fleet, endHost, end) {
  let count = 0;
  while (Date.now() + END_EVERY_MS < end) {
    await pause(END_EVERY_MS);
    const n = count % fleet.hosts.length;
    const { port } = fleet.hosts[n];
    await endHost(fleet.hosts[n]);
    await pause(DOWN_MS);
    fleet.hosts[n] = await fleet.startHost(HOST, { port });
    count += 1;
  }
  return count;
}

async function breaking(balancer, random, end) {
  let count = 0;
  while (Date.now() < end) {
    await pause((2000 / BREAKS_PER_SECOND) * random.next());
    const pairs = [...balancer.pairs];
    if (pairs.length === 0) continue;
    balancer.cut(pairs[random.below(pairs.length)]);
    count += 1;
  }
  return count;
}

// Someone who follows the contract: joins again, from where it was, when told that it is new; asks
// again, under the same `clientId`, what was not acknowledged. Checks every number it hears.
class Person {
  faults = [];
  acked = [];
  recovered = 0;
  anew = 0;
  told = 0; // gaps that the engine has told
  #logs = new Map();
  #joined = new Set();
  #early = []; // heard before the answer to the join
  #life = 0;

  constructor(host, url, n) {
    this.name = `person${n}`;
    this.rooms = [n, n + 1].map((it) => ALL_ROOMS[it % ALL_ROOMS.length]);
    for (const room of this.rooms) this.#logs.set(room, []);
    const auth = { username: this.name };
    const reconnection = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 300 };
    this.socket = host.client(auth, { url, ...reconnection, timeout: 3000 });
    host.clients.delete(this.socket); // outlives that host
    this.socket.on("connect", () => this.#begin());
    this.socket.on("message", (message) => this.#hear(message));
  }

  log = (room) => this.#logs.get(room);

  isIn() {
    return this.rooms.every((room) => this.#joined.has(room));
  }

  #begin() {
    if (this.socket.recovered) return void (this.recovered += 1);
    if (this.#life++ > 0) this.anew += 1;
    this.#joined.clear();
    for (const room of this.rooms) this.#enter(room, this.#life);
  }

  // A break may swallow the answer; then it is asked again.
  async #enter(room, life) {
    while (life === this.#life) {
      const since = this.log(room).at(-1)?.seq;
      const request = { room, ...(since !== undefined && { since }) };
      const ack = this.socket.timeout(2000).emitWithAck("join", request);
      const reply = await ack.catch(() => null);
      if (life !== this.#life) return;
      if (!reply?.ok) {
        await pause(50);
        continue;
      }
      if (since !== undefined && !reply.complete) {
        this.told += 1;
        this.#logs.set(room, []);
      }
      this.#joined.add(room);
      for (const message of [...reply.messages, ...this.#early.splice(0)]) {
        if (this.#joined.has(message.room)) this.#note(message, true);
        else this.#early.push(message);
      }
      return;
    }
  }

  #hear(message) {
    if (this.#joined.has(message.room)) this.#note(message, false);
    else this.#early.push(message);
  }

  // `twice`: whether it may be known from the answer to a join already.
  #note({ room, seq, id, body }, twice) {
    const log = this.log(room);
    const before = log.at(-1)?.seq;
    if (twice && log.some((it) => it.seq === seq && it.id === id)) return;
    if (before !== undefined && seq !== before + 1) {
      this.faults.push(`${room}: ${seq} after ${before}`);
    }
    log.push({ seq, id, body });
  }

  async talk(end, random) {
    const asking = [];
    let n = 0;
    while (Date.now() < end) {
      await pause(2 * SAY_EVERY_MS * random.next());
      asking.push(this.#say(this.rooms[n % 2], `${this.name} says ${n++}`));
    }
    this.unsaid = Promise.all(asking);
  }

  async #say(room, body) {
    const request = { room, body, clientId: body };
    for (let tries = 0; tries < 60; tries++) {
      const ack = this.socket.timeout(3000).emitWithAck("message", request);
      const reply = await ack.catch(() => null);
      if (reply?.ok) return void this.acked.push({ ...reply, room, body });
      await pause(250);
    }
    this.faults.push(`never acknowledged: ${body}`);
  }
}
