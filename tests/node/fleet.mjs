// Starts a fleet for one test file: a real Redis, Throng hosts and Node servers on it, and ends
// all of it.
//
// FLEET_TARGET=node puts npm's server in the place of every Throng host: that is how the interop
// suites' expectations are proved to be Node's. FLEET_TARGET=one is a single host without Redis in
// the place of all: what clients expect of a fleet, one host must do as well. FLEET_REDIS names
// another redis-server.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { io } from "socket.io-client";
import { freePort, startEngine } from "./engine.mjs";
import { reach } from "./fleet-reach.mjs";
import { connected, eventually, pause, within } from "./events.mjs";

export const TARGET = process.env.FLEET_TARGET ?? "throng";
const EXAMPLES = resolve(
  process.env.THRONG_EXAMPLES ?? join(import.meta.dirname, "../../target/release/examples"),
);
const NODE_SERVER = join(import.meta.dirname, "fleet-node.mjs");
const ANSWER_MS_MAX = 20_000;
const STOP_MS_MAX = 10_000;
const OUTPUT_BYTES_MAX = 1 << 20;
const CLUSTER = [
  [0, 5460],
  [5461, 10922],
  [10923, 16383],
]; // slots of its masters

const alive = new Set();
process.on("exit", () => alive.forEach((child) => child.kill("SIGKILL")));

// A child that dies with this process, however that ends. Gathers what it prints.
function child(program, args, options = {}) {
  const line = existsSync("/usr/bin/setpriv")
    ? ["setpriv", "--pdeathsig", "KILL", "--", program, ...args]
    : [program, ...args];
  const process = spawn(line[0], line.slice(1), options);
  process.text = "";
  for (const stream of [process.stdout, process.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      process.text = (process.text + text).slice(-OUTPUT_BYTES_MAX);
    });
  }
  alive.add(process);
  process.ended = new Promise((done) => {
    process.once("error", (error) => done(`${error}`));
    process.once("exit", (code, signal) => done(signal ?? code));
  }).finally(() => alive.delete(process));
  return process;
}

export async function startRedis(settings = []) {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), "throng-redis-"));
  const basics = [
    "--port",
    port,
    "--bind",
    "127.0.0.1",
    "--dir",
    dir,
    "--save",
    "",
    "--appendonly",
  ];
  const program = process.env.FLEET_REDIS ?? "redis-server";
  const args = [...basics, "no", ...settings].map(String);
  const url = `redis://127.0.0.1:${port}`;
  const redis = { ports: [port], url, server: child(program, args), client: createClient({ url }) };
  redis.nodes = [redis.client];
  redis.client.on("error", () => {});
  const began = await within(redis.client.connect(), ANSWER_MS_MAX);
  assert.ok(began, `no Redis at port ${port}\n${redis.server.text}`);
  // By SIGKILL. What was in memory is gone, unless `settings` say otherwise.
  redis.restart = async (away = () => {}) => {
    redis.server.kill("SIGKILL");
    await redis.server.ended;
    await away();
    redis.server = child(program, args);
    await eventually(() => redis.client.ping(), ANSWER_MS_MAX);
  };
  redis.stop = async () => {
    redis.client.destroy();
    redis.server.kill("SIGKILL");
    await redis.server.ended;
    rmSync(dir, { recursive: true, force: true });
  };
  return redis;
}

// A cluster of three masters, each with a third of the slots.
export async function startRedisCluster() {
  // The second port is 10000 above the first unless it is named, where clients have theirs.
  const starting = CLUSTER.map(async () => {
    const busPort = await freePort();
    const redis = await startRedis(["--cluster-enabled", "yes", "--cluster-port", busPort]);
    return Object.assign(redis, { busPort });
  });
  const all = await Promise.all(starting);
  const ask = (redis, ...args) => redis.client.sendCommand(["CLUSTER", ...args.map(String)]);
  for (const [n, redis] of all.entries()) {
    await ask(redis, "ADDSLOTSRANGE", ...CLUSTER[n]);
    await ask(redis, "SET-CONFIG-EPOCH", n + 1);
    if (n > 0) await ask(redis, "MEET", "127.0.0.1", all[0].ports[0], all[0].busPort);
  }
  await eventually(async () => {
    for (const redis of all) {
      const info = await ask(redis, "INFO");
      assert.match(info, /cluster_state:ok[^]*cluster_known_nodes:3/);
    }
  }, ANSWER_MS_MAX);
  return {
    ports: all.flatMap((it) => it.ports),
    url: all.map((it) => it.url).join(","),
    client: all[0].client,
    nodes: all.map((it) => it.client),
    stop: () => Promise.all(all.map((it) => it.stop())),
  };
}

// `hosts`: the settings of each Throng host. `nodes`: the options of each Node server (those of
// `fleet-node.mjs`). `adapter`: classic, sharded, or null for none; `mode`: the sharded one's, where it
// is not the default. `cluster`: whether Redis is one.
// `app`: what hosts run, `chat` or the example `servers`. `prefix`: what all that is theirs in Redis
// begins with.
export async function startFleet(plan) {
  const { hosts = [{}, {}], nodes = [], adapter = "classic", cluster = false, prefix } = plan;
  const fleet = new Fleet(adapter, await (cluster ? startRedisCluster() : startRedis()), prefix);
  fleet.app = plan.app ?? "chat";
  fleet.mode = plan.mode;
  try {
    const starting = [
      ...hosts.map((env) => fleet.startHost(env)),
      ...nodes.map((options) => fleet.startNode(options)),
    ];
    const settled = await Promise.allSettled(starting);
    const servers = settled.map((it) => it.value);
    Object.assign(fleet, {
      hosts: servers.slice(0, hosts.length),
      nodes: servers.slice(hosts.length),
    });
    const failed = settled.find((it) => it.status === "rejected");
    if (failed) throw failed.reason;
    if (nodes.length > 0) await fleet.untilServers(servers.length);
    return fleet;
  } catch (error) {
    await fleet.kill();
    throw error;
  }
}

class Fleet {
  hosts = [];
  nodes = [];
  #one;

  constructor(adapter, redis, prefix = "") {
    this.adapter = adapter;
    this.redis = redis;
    this.prefix = prefix;
    this.emitter = new PublishingOnly(redis.client, `${prefix}socket.io`);
  }

  get servers() {
    return [...new Set([...this.nodes, ...this.hosts])].filter(Boolean);
  }

  startHost(env, options) {
    if (TARGET === "one") return (this.#one ??= startEngine({ DATA_DIR: "none", ...env }));
    const { app } = this;
    if (TARGET === "node") return this.startNode({ app, answers: app === "servers" });
    const sharded = this.mode ? `sharded-${this.mode}` : "sharded";
    const SOCKETIO_ADAPTER = { classic: "on", sharded }[this.adapter];
    const shared = { REDIS_URL: this.redis.url, DATA_DIR: "none", SOCKETIO_ADAPTER };
    if (this.prefix) shared.REDIS_KEY_PREFIX = this.prefix;
    const program = app === "servers" && { program: join(EXAMPLES, app) };
    return startEngine({ ...shared, ...env }, { ...options, ...program });
  }

  async startNode(options) {
    const key = `${this.prefix}socket.io`;
    const server = new NodeServer({
      adapter: this.adapter ?? "classic",
      client: "redis",
      app: "plain",
      answers: true,
      redis: this.redis.ports,
      port: await freePort(),
      ...options,
      settings: {
        key,
        channelPrefix: key,
        ...(this.mode && { subscriptionMode: this.mode }),
        ...options.settings,
      },
    });
    await server.untilReady();
    return server;
  }

  // How many servers take part in the protocol of the adapter, as its own count has it.
  async serversCount(nsp = "/") {
    const [kind, channel] =
      this.adapter === "sharded"
        ? ["SHARDNUMSUB", `${this.prefix}socket.io#${nsp}#`]
        : ["NUMSUB", `${this.prefix}socket.io-request#${nsp}#`];
    return this.#subscribers(kind, channel);
  }

  // Redis counts per node.
  async #subscribers(kind, channel) {
    const command = ["PUBSUB", kind, channel];
    const counts = this.redis.nodes.map(async (it) => Number((await it.sendCommand(command))[1]));
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  }

  untilServers(count) {
    return eventually(async () => assert.equal(await this.serversCount(), count), ANSWER_MS_MAX);
  }

  // The sharded adapter hears of a room once it has subscribed, some time after its first join; in its
  // mode static it subscribes to none.
  untilSubscribed(room, count) {
    if (this.adapter !== "sharded" || this.mode === "static") return;
    return eventually(async () => {
      const channel = `${this.prefix}socket.io#/#${room}#`;
      const found = await this.#subscribers("SHARDNUMSUB", channel);
      assert.ok(found >= count, `${found} of ${count} servers have subscribed to ${room}`);
    });
  }

  // In the mode dynamic-private it likewise hears of a socket.
  async untilHeardOf(sockets) {
    if (this.mode !== "dynamic-private") return;
    for (const { id } of sockets) await this.untilSubscribed(id, 1);
  }

  // Every server ends as it should.
  async stop() {
    try {
      const ends = await Promise.allSettled(this.servers.map((server) => server.stop()));
      const failed = ends.find((it) => it.status === "rejected");
      if (failed) throw failed.reason;
    } finally {
      await this.kill();
    }
  }

  async kill() {
    for (const server of this.servers) server.kill();
    await this.redis.stop();
  }
}

// npm's emitter, asked like a server.
class PublishingOnly {
  constructor(client, key) {
    this.npm = new Emitter(client, { key });
  }

  async emit(to, ...args) {
    reach(this.npm, to).emit(...args);
  }
}

class NodeServer {
  clients = new Set();
  heard = []; // what other servers told it
  #calls = new Map();
  #last = 0;

  constructor(options) {
    this.options = options;
    this.port = options.port;
    this.url = `http://127.0.0.1:${options.port}`;
    const stdio = ["ignore", "pipe", "pipe", "ipc"];
    const args = [NODE_SERVER, JSON.stringify(options)];
    this.child = child(process.execPath, args, { stdio, serialization: "advanced" });
    this.ready = new Promise((done) => {
      this.child.on("message", (message) => {
        if (message.ready) return done(true);
        if (message.heard) return this.heard.push(message.heard);
        this.#calls.get(message.id)?.(message);
        this.#calls.delete(message.id);
      });
    });
  }

  async untilReady() {
    const how = await within(Promise.race([this.ready, this.child.ended]), ANSWER_MS_MAX);
    if (how === true) return;
    this.kill();
    throw new Error(`Node server not ready (${how})\n${this.child.text}`);
  }

  // Calls `CALLS[call]` of `fleet-node.mjs`.
  async call(call, ...args) {
    const id = ++this.#last;
    const answer = new Promise((done) => this.#calls.set(id, done));
    this.child.send({ id, call, args });
    const got = await within(Promise.race([answer, this.child.ended]), ANSWER_MS_MAX);
    if (got?.id !== id) throw new Error(`${call}: no answer (${got})\n${this.child.text}`);
    if (got.error) throw new Error(got.error);
    return got.value;
  }

  emit(to, ...args) {
    return this.call("emit", to, args);
  }

  client(auth, options = {}) {
    const url = (options.url ?? this.url) + (options.nsp ?? "");
    const defaults = { transports: ["websocket"], forceNew: true, reconnection: false };
    const socket = io(url, { ...defaults, auth, ...options });
    this.clients.add(socket);
    return socket;
  }

  async connect(auth, options) {
    const socket = this.client(typeof auth === "string" ? { username: auth } : auth, options);
    await connected(socket);
    return socket;
  }

  closeClients() {
    for (const socket of this.clients) socket.disconnect();
    this.clients.clear();
  }

  async stop() {
    this.closeClients();
    this.child.kill("SIGTERM");
    const how = await within(this.child.ended, STOP_MS_MAX);
    this.kill();
    assert.ok(how === 0 || how === "SIGTERM", `Node server ended with ${how}\n${this.child.text}`);
  }

  kill() {
    this.closeClients();
    this.child.kill("SIGKILL");
  }
}

// The engine and the Node server both have `child`, whose end by SIGKILL this waits for.
export async function killed(server) {
  server.child.kill("SIGKILL");
  await (server.exited ?? server.child.ended);
  await pause(0);
}
