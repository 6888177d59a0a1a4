// Starts the engine for one test file, gives it clients, and ends it.
//
// Owns: the child process, its data folder, every client made through it. Never leaves any of them
// behind: `stop` closes the clients, sends SIGTERM and demands exit code 0, and whatever still
// lives when this process ends is killed.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { connected, eventually, pause, within } from "./events.mjs";

const BIN = resolve(
  process.env.THRONG_BIN ?? join(import.meta.dirname, "../../target/release/throng"),
);
const READY_MS_MAX = 20_000;
const STOP_MS_MAX = 15_000;
const OUTPUT_BYTES_MAX = 1 << 20;

// What every engine gets unless a test says otherwise: no limit a test is not about.
const DEFAULTS = {
  HOST: "",
  LOG: "info",
  RUST_BACKTRACE: "1",
  MAX_CONNECTIONS: "20000",
  MAX_CONNECTIONS_PER_IP: "0",
  MESSAGE_RATE_LIMIT: "0",
  TYPING_RATE_LIMIT: "0",
  DRAIN_TIMEOUT: "5s",
};

const alive = new Set();
process.on("exit", () => alive.forEach((engine) => engine.kill()));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

// Where the numbers that tests look at stand in the JSON of /metrics.
export const METRICS = {
  connections: (m) => m.connections,
  rooms: (m) => m.rooms,
  participants: (m) => m.memberships,
  slowConsumerClosed: (m) => m.total.closed_slow_consumer,
  slowConsumerDropped: (m) => m.total.undelivered_dropped,
  shards: (m) => m.shards,
};

// A free port below the range the kernel takes client ports from, so that no client sits on it when
// the engine restarts there.
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const free = await new Promise((done) => {
      const probe = net.createServer();
      probe.once("error", () => done(false));
      probe.listen(port, () => probe.close(() => done(true)));
    });
    if (free) return port;
  }
}

function settings(env, port, dataDir) {
  const all = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    ...DEFAULTS,
    PORT: port,
    DATA_DIR: dataDir,
    ...env,
  };
  return Object.fromEntries(
    Object.entries(all)
      .filter(([, v]) => v !== "" && v != null)
      .map(([k, v]) => [k, `${v}`]),
  );
}

// Runs `throng <args>` to its end; for `check`, `config`, `--help` and settings that must be
// refused.
export function runEngine(args, env = {}, ms = 10_000) {
  const dataDir = mkdtempSync(join(tmpdir(), "throng-test-"));
  try {
    const run = spawnSync(BIN, args, {
      env: settings({ ...env }, env.PORT ?? 20_000, dataDir),
      encoding: "utf8",
      timeout: ms,
      killSignal: "SIGKILL",
    });
    if (run.error && run.error.code !== "ETIMEDOUT") throw run.error;
    return {
      code: run.status,
      timedOut: run.error?.code === "ETIMEDOUT",
      stdout: run.stdout,
      stderr: run.stderr,
    };
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

// `program`: an example instead of the engine itself.
export async function startEngine(env = {}, { port, program = BIN } = {}) {
  assert.ok(existsSync(program), `no ${program}: build it (make build) or set THRONG_BIN`);
  const engine = new Engine(env, port ?? (await freePort()), program);
  try {
    await engine.untilReady();
  } catch (error) {
    engine.kill();
    throw error;
  }
  return engine;
}

class Engine {
  constructor(env, port, program) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.dataDir = mkdtempSync(join(tmpdir(), "throng-test-"));
    this.clients = new Set();
    this.output = "";
    // setpriv: the engine dies with this process, however that ends
    const command = existsSync("/usr/bin/setpriv")
      ? ["setpriv", "--pdeathsig", "KILL", "--", program]
      : [program];
    this.child = spawn(command[0], command.slice(1), {
      env: settings(env, port, this.dataDir),
      cwd: this.dataDir,
      stdio: ["ignore", "pipe", "pipe"],
    });
    alive.add(this);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.output = (this.output + text).slice(-OUTPUT_BYTES_MAX);
      });
    }
    this.exited = new Promise((done) => {
      this.child.once("error", (error) => done({ code: null, signal: null, error }));
      this.child.once("exit", (code, signal) => done({ code, signal }));
    });
    this.exited.then((how) => {
      this.exit = how;
      alive.delete(this);
    });
  }

  get pid() {
    return this.child.pid;
  }

  async untilReady() {
    const deadline = Date.now() + READY_MS_MAX;
    while (Date.now() < deadline) {
      if (this.exit)
        throw new Error(
          `engine ended while starting: ${JSON.stringify(this.exit)}\n${this.output}`,
        );
      const answer = await this.http("/ready").catch(() => null);
      if (answer?.status === 200) return;
      await pause(25);
    }
    throw new Error(`engine not ready after ${READY_MS_MAX} ms\n${this.output}`);
  }

  // A client that is not waited for.
  client(auth, options = {}) {
    const socket = io(options.url ?? this.url, {
      transports: ["websocket"],
      forceNew: true,
      reconnection: false,
      auth,
      ...options,
    });
    this.clients.add(socket);
    return socket;
  }

  // A client that is connected; `auth` may be just the user's name.
  async connect(auth, options) {
    const socket = this.client(typeof auth === "string" ? { username: auth } : auth, options);
    await connected(socket);
    return socket;
  }

  // `count` connected clients, at most 100 under way at once.
  async connectMany(count, name = (i) => `user${i}`, options) {
    const sockets = [];
    for (let from = 0; from < count; from += 100) {
      const batch = Array.from({ length: Math.min(100, count - from) }, (_, i) =>
        this.connect(name(from + i), options),
      );
      sockets.push(...(await Promise.all(batch)));
    }
    return sockets;
  }

  // A WebSocket handshake as such: `{status, ws, first}`, the latter two where the answer was 101;
  // `first` is the packet that came with it.
  upgrade({ host = "127.0.0.1", headers } = {}) {
    const url = `ws://${host}:${this.port}/socket.io/?EIO=4&transport=websocket`;
    const ws = new WebSocket(url, { headers, perMessageDeflate: false, handshakeTimeout: 5000 });
    this.clients.add({ disconnect: () => ws.terminate() });
    const first = new Promise((done) => ws.once("message", (data) => done(data.toString())));
    return new Promise((done, fail) => {
      ws.once("open", () => done({ status: 101, ws, first }));
      ws.once("unexpected-response", (request, response) => {
        request.destroy();
        done({ status: response.statusCode, headers: response.headers });
      });
      ws.on("error", fail);
    });
  }

  http(path, { method = "GET", headers = {}, agent = false } = {}) {
    return new Promise((done, fail) => {
      const options = {
        host: "127.0.0.1",
        port: this.port,
        path,
        method,
        headers,
        agent,
        timeout: 5000,
      };
      const request = http.request(options, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("error", fail);
        response.on("end", () => {
          const bytes = Buffer.concat(chunks);
          const text = bytes.toString();
          const json = () => JSON.parse(text);
          done({ status: response.statusCode, headers: response.headers, bytes, text, json });
        });
      });
      request.on("timeout", () => request.destroy(new Error(`${method} ${path}: no answer`)));
      request.on("error", fail);
      request.end();
    });
  }

  async json(path, options) {
    const answer = await this.http(path, options);
    assert.equal(answer.status, 200, `GET ${path}: ${answer.text}`);
    return answer.json();
  }

  async metric(name) {
    const value = METRICS[name](await this.json("/metrics"));
    assert.notEqual(value, undefined, `/metrics has no ${name}`);
    return value;
  }

  // Nobody is left: neither in what people see nor in what operators see.
  async assertEmpty() {
    await eventually(async () => {
      assert.deepEqual((await this.json("/api/rooms")).rooms, []);
      const metrics = await this.json("/metrics");
      assert.equal(METRICS.rooms(metrics), 0, "rooms");
      assert.equal(METRICS.participants(metrics), 0, "participants");
      // the request that asks may count itself
      assert.ok(METRICS.connections(metrics) <= 1, `${METRICS.connections(metrics)} connections`);
    });
  }

  closeClients() {
    for (const socket of this.clients) socket.disconnect();
    this.clients.clear();
  }

  async stop() {
    this.closeClients();
    if (!this.exit) this.child.kill("SIGTERM");
    await this.assertExits();
  }

  async assertExits(ms = STOP_MS_MAX) {
    const how = await within(this.exited, ms);
    this.kill();
    if (how === null) throw new Error(`engine still runs ${ms} ms after SIGTERM\n${this.output}`);
    assert.deepEqual(how, { code: 0, signal: null }, `engine ended with\n${this.output}`);
    assert.doesNotMatch(this.output, /panicked at/, this.output);
  }

  kill() {
    this.closeClients();
    if (!this.exit) this.child.kill("SIGKILL");
    alive.delete(this);
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}
