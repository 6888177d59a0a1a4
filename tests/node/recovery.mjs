// What the recovery suites share: a client behind a proxy that comes back by itself and keeps a
// diary of all that happened to it, and the ways its connection breaks.

import assert from "node:assert/strict";
import { connected, eventually, once } from "./events.mjs";
import { startProxy } from "./proxy.mjs";

export const TRANSPORTS = {
  websocket: ["websocket"],
  polling: ["polling"],
  upgrade: ["polling", "websocket"],
};

const QUICK = {
  reconnection: true,
  reconnectionDelay: 20,
  reconnectionDelayMax: 40,
  randomizationFactor: 0,
};

// A connected client behind a proxy of its own. Its `diary` has `connect` for each connect, with
// what it was told, and every event, in the order of their arrival.
export async function traveller(t, engine, auth, transports = ["websocket"], options = {}) {
  const proxy = await startProxy(engine.port);
  t.after(() => proxy.stop());
  const { url } = proxy;
  const socket = engine.client(typeof auth === "string" ? { username: auth } : auth, {
    transports,
    ...QUICK,
    ...options,
    url,
  });
  t.after(() => socket.disconnect());
  const diary = keepDiary(socket);
  await connected(socket);
  await settled(socket, transports);
  return { socket, proxy, diary, transports };
}

export function keepDiary(socket) {
  const diary = [];
  socket.on("connect", () => {
    diary.push({ event: "connect", id: socket.id, recovered: socket.recovered });
  });
  socket.onAny((event, data) => diary.push({ event, data }));
  return diary;
}

// On the transport it ends up with.
export function settled(socket, transports) {
  const last = transports.at(-1);
  return eventually(async () => assert.equal(socket.io.engine?.transport?.name, last));
}

// The ways a connection breaks. While the client is away nothing reaches the engine.
export const BREAKS = {
  "closed by the client's engine": ({ socket, proxy }) => {
    proxy.refuses = true;
    socket.io.engine.close();
  },
  "cut on both sides": ({ proxy }) => {
    proxy.refuses = true;
    proxy.kill();
  },
  "silent until the ping timeout": ({ proxy }) => {
    proxy.refuses = true;
    proxy.freeze();
  },
};

// Lets it come back; what its diary says of the connect.
export async function comesBack({ socket, proxy, diary, transports }, ms = 10_000) {
  const before = diary.filter((entry) => entry.event === "connect").length;
  proxy.refuses = false;
  const entry = await eventually(async () => {
    const connects = diary.filter((it) => it.event === "connect");
    assert.ok(connects.length > before, "connected again");
    return connects.at(-1);
  }, ms);
  await settled(socket, transports);
  return entry;
}

// Breaks and comes back while nothing happens.
export async function blink(who) {
  who.proxy.refuses = true;
  who.proxy.kill();
  await eventually(async () => assert.ok(!who.socket.connected, "disconnected"));
  return comesBack(who);
}

export function seesLeave(watcher, id) {
  return once(watcher, "presence", 8000, (event) => event.left?.includes(id));
}

export function seesJoin(watcher, id) {
  return once(watcher, "presence", 8000, (event) => event.joined?.some((it) => it.id === id));
}

// The bodies of the messages in a diary, with `connect` where it connected.
export function story(diary) {
  const told = diary.filter((it) => it.event === "connect" || it.event === "message");
  return told.map((it) => (it.event === "connect" ? "connect" : it.data.body));
}
