// What a test does with clients: ask, wait for events, gather them. Knows sockets, never the
// engine's process.

import assert from "node:assert/strict";

export function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

// What `promise` yields, or null after `ms`.
export function within(promise, ms) {
  let timer;
  const late = new Promise((done) => {
    timer = setTimeout(done, ms, null);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function connected(socket, ms = 10_000) {
  if (socket.connected) return Promise.resolve();
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`not connected within ${ms} ms`)), ms);
    const settle = (how, value) => {
      clearTimeout(timer);
      socket.off("connect", onConnect);
      socket.off("connect_error", onError);
      how(value);
    };
    const onConnect = () => settle(done);
    const onError = (error) => settle(fail, error);
    socket.on("connect", onConnect);
    socket.on("connect_error", onError);
  });
}

// The first argument of the next `event` that `accept` takes.
export function once(socket, event, ms = 5000, accept = () => true) {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => {
      socket.off(event, onEvent);
      fail(new Error(`no ${event} within ${ms} ms`));
    }, ms);
    const onEvent = (value) => {
      if (!accept(value)) return;
      clearTimeout(timer);
      socket.off(event, onEvent);
      done(value);
    };
    socket.on(event, onEvent);
  });
}

// Everything that arrives as `event` from now on: `items`, and `until(test)` that waits for
// `test(items)`.
export function collect(socket, event) {
  const items = [];
  const waiting = new Set();
  socket.on(event, (value) => {
    items.push(value);
    for (const check of waiting) check();
  });
  const until = (test, ms = 10_000) =>
    new Promise((done, fail) => {
      const check = () => {
        if (!test(items)) return;
        clearTimeout(timer);
        waiting.delete(check);
        done(items);
      };
      const timer = setTimeout(() => {
        waiting.delete(check);
        const last = JSON.stringify(items.slice(-3));
        fail(
          new Error(`${event}: not seen within ${ms} ms; ${items.length} came, the last: ${last}`),
        );
      }, ms);
      waiting.add(check);
      check();
    });
  return { items, until };
}

// The roster of a room as one client knows it: the reply to its join, then what presence events
// say.
export function followRoster(socket, room) {
  const roster = new Map();
  const counts = [];
  socket.on("presence", (event) => {
    if (event.room !== room) return;
    event.left?.forEach((id) => roster.delete(id));
    [...(event.joined ?? []), ...(event.updated ?? [])].forEach((p) => roster.set(p.id, p));
    counts.push(event.count);
  });
  return {
    counts,
    begin: (participants) => participants.forEach((p) => roster.set(p.id, p)),
    ids: () => [...roster.keys()].sort(),
    of: (id) => roster.get(id),
  };
}

// What the engine acknowledges; fails after 10 s without an answer.
export function ask(socket, event, ...args) {
  return socket.timeout(10_000).emitWithAck(event, ...args);
}

export async function ok(socket, event, ...args) {
  const reply = await ask(socket, event, ...args);
  assert.equal(
    reply?.ok,
    true,
    `${event} ${JSON.stringify(args)?.slice(0, 200)}: ${JSON.stringify(reply)}`,
  );
  return reply;
}

// Joins, and waits until `watcher` has been told: what follows is then a change of its own, not
// part of the same event.
export async function joinSeenBy(watcher, client, request) {
  const { id } = client;
  const room = request.room ?? request;
  const seen = once(
    watcher,
    "presence",
    5000,
    (e) => e.room === room && e.joined?.some((p) => p.id === id),
  );
  const reply = await ok(client, "join", request);
  await seen;
  return reply;
}

export async function refused(code, socket, event, ...args) {
  const reply = await ask(socket, event, ...args);
  const short = (value) => JSON.stringify(value)?.slice(0, 300);
  const what = `${event} ${short(args)}: ${short(reply)}`;
  assert.deepEqual(Object.keys(reply).sort(), ["error", "ok"], what);
  assert.equal(reply.ok, false, what);
  assert.equal(reply.error.code, code, what);
  assert.equal(typeof reply.error.message, "string", what);
  assert.notEqual(reply.error.message, "", what);
}

// For what shows only through a request: asks again until `test` stops throwing.
export async function eventually(test, ms = 10_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    try {
      return await test();
    } catch (error) {
      if (Date.now() >= deadline) throw error;
      await pause(50);
    }
  }
}

// Cuts the connection without a word, as a lost network does.
export function cut(socket) {
  const ws = socket.io.engine?.transport?.ws;
  socket.io.reconnection(false);
  if (ws) ws.terminate();
  else socket.disconnect();
}

// A small deterministic generator (mulberry32); a test prints the seed it used.
export function seeded(t) {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
  return { seed, next, below: (n) => Math.floor(next() * n) };
}

export const range = (n, from = 0) => Array.from({ length: n }, (_, i) => from + i);
