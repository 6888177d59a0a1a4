// What the differential suite runs: the stock JavaScript clients under a recorder. A log has one
// lane for each socket and one for the engine below, as only the order within a lane is promised.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { Socket as EngineSocket } from "engine.io-client";
import { Manager } from "socket.io-client";
import { pause } from "./events.mjs";

const WAIT_MS_MAX = 20_000;
const LONG = 200;

// Values as a log keeps them: long and binary ones by size and hash.
export function plain(value) {
  const hash = (data) => createHash("sha1").update(data).digest("hex").slice(0, 12);
  if (value instanceof ArrayBuffer) return plain(Buffer.from(value));
  if (ArrayBuffer.isView(value)) return `<binary ${value.byteLength} ${hash(value)}>`;
  if (typeof value === "string" && value.length > LONG) {
    return `<text ${value.length} ${hash(value)}>`;
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Error) return `<error ${value.message}>`;
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
}

export class Recorder {
  lanes = {};
  changed = new Set();

  add(lane, ...entry) {
    (this.lanes[lane] ??= []).push(entry.map(plain));
    for (const check of this.changed) check();
  }

  count(lane, first) {
    return (this.lanes[lane] ?? []).filter((entry) => entry[0] === first).length;
  }

  // Waits until `test()` holds; looked at whenever something is recorded.
  until(test, what) {
    return new Promise((done, fail) => {
      const check = () => {
        if (!test()) return;
        clearTimeout(timer);
        this.changed.delete(check);
        done();
      };
      const timer = setTimeout(() => {
        this.changed.delete(check);
        const seen = JSON.stringify(this.lanes).slice(-1500);
        fail(new Error(`${what}: not seen within ${WAIT_MS_MAX} ms; the log: ${seen}`));
      }, WAIT_MS_MAX);
      this.changed.add(check);
      check();
    });
  }

  seen(lane, first, times = 1) {
    return this.until(() => this.count(lane, first) >= times, `${times} x ${first} in ${lane}`);
  }
}

// One script's clients against one server; everything they live through is recorded.
export class Client extends Recorder {
  constructor(url, transports) {
    super();
    Object.assign(this, { url, transports });
    // polling alone: a TCP connection for each request
    this.agent = new http.Agent({ keepAlive: this.upgrades });
    this.closing = [];
  }

  get upgrades() {
    return this.transports.length > 1;
  }

  options(more) {
    const agent = this.transports.includes("polling") ? { agent: this.agent } : {};
    return { transports: this.transports, ...agent, ...more };
  }

  // A manager; its engine's fate goes to the lane `engine`.
  manager(more = {}) {
    const settings = { reconnection: false, autoConnect: false, timeout: WAIT_MS_MAX };
    const manager = new Manager(this.url, this.options({ ...settings, ...more }));
    manager.on("open", () => this.watchEngine(manager.engine));
    for (const event of ["reconnect_attempt", "reconnect", "reconnect_failed"]) {
      manager.on(event, (...args) => this.add("manager", event, ...args));
    }
    this.closing.push(() => manager._close());
    return manager;
  }

  watchEngine(engine) {
    this.add("engine", "open", engine.transport.name, engine.transport.writable);
    engine.on("upgrade", (transport) => this.add("engine", "upgrade", transport.name));
    engine.on("upgradeError", (error) => this.add("engine", "upgradeError", error));
    engine.on("close", (reason) => this.add("engine", "close", reason));
  }

  socket(manager, nsp = "/", options = {}) {
    const socket = manager.socket(nsp, options);
    socket.on("connect", () => {
      assert.match(socket.id, /^[A-Za-z0-9_-]{20}$/);
      this.add(nsp, "connect", { recovered: socket.recovered, active: socket.active });
    });
    socket.on("connect_error", (error) =>
      this.add(nsp, "connect_error", error.message, error.data, { active: socket.active }),
    );
    socket.on("disconnect", (reason) =>
      this.add(nsp, "disconnect", reason, { active: socket.active }),
    );
    socket.onAny((event, ...args) => this.add(nsp, event, ...args));
    return socket;
  }

  // A socket that is connected, has its `auth`, and is on the transport where it will stay.
  async open({ nsp = "/", auth, ...more } = {}) {
    const socket = this.socket(this.manager(more), nsp, { auth });
    socket.connect();
    await this.seen(nsp, "auth");
    await this.settled(socket.io);
    return socket;
  }

  async settled(manager, times = 1) {
    if (this.upgrades) await this.seen("engine", "upgrade", times);
    // the pong of a probe and the close of a poll may still be under way
    await pause(20);
    assert.equal(manager.engine.transport.name, this.transports.at(-1));
  }

  // A raw Engine.IO client, open and on the transport where it will stay.
  engine({ path = "/engine.io/", ...more } = {}) {
    const engine = new EngineSocket(this.url, this.options({ path, ...more }));
    engine.binaryType = "arraybuffer";
    engine.on("open", () => this.add("engine", "open", engine.transport.name));
    engine.on("handshake", ({ sid, ...rest }) => this.add("engine", "handshake", rest));
    engine.on("upgrade", (transport) => this.add("engine", "upgrade", transport.name));
    engine.on("message", (data) => this.add("engine", "message", data));
    engine.on("error", (error) => this.add("engine", "error", error));
    engine.on("close", (reason) => this.add("engine", "close", reason));
    this.closing.push(() => engine.close());
    return engine;
  }

  async openEngine(more) {
    const engine = this.engine(more);
    await this.seen("engine", "open");
    if (this.upgrades) await this.seen("engine", "upgrade");
    return engine;
  }

  // Cuts the connection under an engine, as a lost network does.
  abort(engine) {
    const { ws } = engine.transport;
    if (ws) ws.terminate();
    else this.agent.destroy();
  }

  end() {
    for (const close of this.closing) close();
    this.agent.destroy();
  }
}
