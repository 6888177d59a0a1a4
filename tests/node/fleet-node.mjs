// A server of npm's `socket.io` on Redis, one process of a fleet; `fleet.mjs` starts and asks it.
//
// Speaks to its parent over IPC: `{id, call, args}` is answered with `{id, value}` or with
// `{id, error}`; what it hears of other servers (`serverSideEmit`) it tells unasked as `{heard}`.
// Ends with its parent. Its options are the JSON of its first argument:
//
//   adapter   classic (v8), classic-7 (v7.2), classic-6 (v6.1, on a Redis client of its own),
//             sharded
//   client    redis, ioredis: which Redis client the adapter is given
//   app       plain: rooms to join and leave; chat and servers: likenesses of Throng's chat and of
//             its example of that name, for FLEET_TARGET=node
//   answers   whether it answers server-side events
//   redis     Redis's ports; several are a cluster
//   settings  further options of the adapter

import http from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { createClient, createCluster } from "redis";
import createAdapter6 from "redis-adapter-6";
import { createAdapter as createAdapter7 } from "redis-adapter-7";
import { Server } from "socket.io";
import { chat } from "./fleet-node-chat.mjs";
import { servers } from "./fleet-node-servers.mjs";
import { reach } from "./fleet-reach.mjs";

const options = JSON.parse(process.argv[2]);
const ADAPTERS = {
  classic: createAdapter,
  "classic-7": createAdapter7,
  "classic-6": (pub, sub, settings) => createAdapter6({ ...settings, port: options.redis[0] }),
  sharded: createShardedAdapter,
};

function anyClient() {
  const nodes = options.redis.map((port) => ({ host: "127.0.0.1", port }));
  const rootNodes = options.redis.map((port) => ({ url: `redis://127.0.0.1:${port}` }));
  if (nodes.length === 1) {
    return options.client === "ioredis" ? new Redis(nodes[0]) : createClient(rootNodes[0]);
  }
  return options.client === "ioredis" ? new Redis.Cluster(nodes) : createCluster({ rootNodes });
}

async function redisClient() {
  const client = anyClient();
  client.on("error", () => {});
  if (client.isOpen === false) await client.connect();
  return client;
}

const [pub, sub] = await Promise.all([redisClient(), redisClient()]);
const server = http.createServer((request, response) => response.writeHead(404).end());
const io = new Server(server, {
  serveClient: false,
  adapter: ADAPTERS[options.adapter](pub, sub, options.settings),
});

function serve(namespace) {
  // without it, a question to all clients, which that version cannot read, would end the process
  if (options.adapter === "classic-6") namespace.adapter.on("error", () => {});
  namespace.on("connection", (socket) => {
    socket.data = { name: socket.handshake.auth.username };
    if (options.app === "chat") return chat(socket, namespace, pub);
    if (options.app === "servers") return servers(socket, namespace);
    socket.on("join", ({ room }, ack) => {
      socket.join(room);
      ack({ ok: true });
    });
    socket.on("leave", ({ room }, ack) => {
      socket.leave(room);
      ack({ ok: true });
    });
  });
  namespace.on("tell", (...args) => process.send({ heard: args }));
  if (!options.answers) return;
  namespace.on("ask", (...args) => args.pop()({ question: args[0], pid: process.pid }));
}
serve(io.of("/"));
serve(io.of("/other"));

const CALLS = {
  emit: (to, args) => void reach(io, to).emit(...args),
  ask: async (to, ms, args) => {
    const [error, responses] = await new Promise((done) =>
      reach(io, to)
        .timeout(ms)
        .emit(...args, (...result) => done(result)),
    );
    return { error: error?.message ?? null, responses };
  },
  fetch: async (to) =>
    (await reach(io, to).fetchSockets()).map(({ id, handshake, rooms, data }) => ({
      id,
      handshake,
      rooms: [...rooms],
      data,
    })),
  join: (to, rooms) => void reach(io, to).socketsJoin(rooms),
  leave: (to, rooms) => void reach(io, to).socketsLeave(rooms),
  disconnect: (to, close) => void reach(io, to).disconnectSockets(close),
  allRooms: async (nsp = "/") => [...(await io.of(nsp).adapter.allRooms())],
  allSockets: async (nsp = "/") => [...(await io.of(nsp).adapter.sockets(new Set()))],
  remote: (method, ...args) => io.of("/").adapter[method](...args),
  serverCount: (nsp = "/") => {
    const { adapter } = io.of(nsp);
    return adapter.serverCount?.() ?? adapter.getNumSub();
  },
  tell: (args) => void io.serverSideEmit("tell", ...args),
  askServers: async (args) => {
    const [error, responses] = await new Promise((done) =>
      io.serverSideEmit("ask", ...args, (...result) => done(result)),
    );
    return { error: error?.message ?? null, responses };
  },
};

process.on("message", async ({ id, call, args }) => {
  try {
    process.send({ id, value: await CALLS[call](...args) });
  } catch (error) {
    process.send({ id, error: `${call}: ${error.message}` });
  }
});
process.on("disconnect", () => process.exit(0));
process.on("SIGTERM", () => process.exit(0));
server.listen(options.port, "127.0.0.1", () => process.send({ ready: true }));
