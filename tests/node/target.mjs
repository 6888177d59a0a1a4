// Starts what the conformance suites speak to, Throng's example `conformance` or the same on npm's
// server, and ends it for sure.
//
// CONFORMANCE_TARGET=node runs the wire suites against npm's server: that is how their expectations
// are proved to be Node's. THRONG_CONFORMANCE names another binary.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort } from "./engine.mjs";
import { pause, within } from "./events.mjs";
import { request } from "./wire.mjs";

const BIN = resolve(
  process.env.THRONG_CONFORMANCE ??
    join(import.meta.dirname, "../../target/release/examples/conformance"),
);
const READY_MS_MAX = 20_000;
const STOP_MS_MAX = 10_000;
const OUTPUT_BYTES_MAX = 1 << 20;

// The settings of the official suites, and ones under which no heartbeat disturbs a test.
export const FAST = { pingInterval: 300, pingTimeout: 200, connectTimeout: 1000, maxPayload: 1e6 };
export const CALM = { ...FAST, pingInterval: 25_000, pingTimeout: 20_000 };

export const KIND = process.env.CONFORMANCE_TARGET === "node" ? "node" : "throng";

// The variants a wire suite goes through. With several shards each TCP connection is accepted by
// another one, so that the requests of one session arrive on all of them.
export const VARIANTS =
  KIND === "node"
    ? [{ name: "node" }]
    : [
        { name: "throng, 1 shard", workers: 1 },
        { name: "throng, 3 shards", workers: 3 },
      ];

const alive = new Set();
process.on("exit", () => alive.forEach((child) => child.kill("SIGKILL")));

function command(kind) {
  if (kind === "node")
    return [process.execPath, join(import.meta.dirname, "conformance-server.mjs")];
  const hint = "build it (cargo build --release -p throng --examples) or set THRONG_CONFORMANCE";
  assert.ok(existsSync(BIN), `no conformance example at ${BIN}: ${hint}`);
  return [BIN];
}

function flags(settings) {
  const dashed = (name) => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
  return Object.entries(settings)
    .filter(([name, value]) => name !== "name" && value != null)
    .flatMap(([name, value]) => [`--${dashed(name)}`, `${value}`]);
}

// `settings` are the flags in camel case: workers, cors, recovery and those of FAST.
export async function startTarget(settings = {}, kind = KIND) {
  const target = new Target(kind, settings, await freePort());
  try {
    await target.untilReady();
  } catch (error) {
    target.kill();
    throw error;
  }
  return target;
}

class Target {
  constructor(kind, settings, port) {
    this.kind = kind;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.output = "";
    const [program, ...rest] = command(kind);
    const args = [...rest, ...flags({ port, ...settings })];
    // setpriv: the target dies with this process, however that ends
    const line = existsSync("/usr/bin/setpriv")
      ? ["setpriv", "--pdeathsig", "KILL", "--", program, ...args]
      : [program, ...args];
    this.child = spawn(line[0], line.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    alive.add(this.child);
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
      alive.delete(this.child);
    });
  }

  async untilReady() {
    const deadline = Date.now() + READY_MS_MAX;
    while (Date.now() < deadline) {
      if (this.exit) {
        const how = JSON.stringify(this.exit);
        throw new Error(`${this.kind} ended while starting: ${how}\n${this.output}`);
      }
      const answer = await request(this.port, "/engine.io/").catch(() => null);
      if (answer?.status === 400) return;
      await pause(25);
    }
    throw new Error(`${this.kind} not ready after ${READY_MS_MAX} ms\n${this.output}`);
  }

  signal(name) {
    this.child.kill(name);
  }

  async stop() {
    if (!this.exit) this.child.kill("SIGTERM");
    const how = await within(this.exited, STOP_MS_MAX);
    this.kill();
    if (how === null)
      throw new Error(`${this.kind} still runs ${STOP_MS_MAX} ms after SIGTERM\n${this.output}`);
    assert.ok(
      how.code === 0 || how.signal === "SIGTERM",
      `${this.kind} ended with ${JSON.stringify(how)}\n${this.output}`,
    );
    assert.doesNotMatch(this.output, /panicked at/, this.output);
  }

  kill() {
    if (!this.exit) this.child.kill("SIGKILL");
    alive.delete(this.child);
  }
}
