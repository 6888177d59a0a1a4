// Engine.IO and Socket.IO by hand: HTTP requests, WebSockets and plain TCP, with no client library
// between a test and the bytes. Knows a port, never the process behind it.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import WebSocket from "ws";
import { within } from "./events.mjs";

export const RS = "\x1e";
const ANSWER_MS_MAX = 5000;

// One HTTP request, on a TCP connection of its own unless `agent` says otherwise. The promise
// yields `{status, headers, bytes, text}`; its `abort()` cuts the connection.
export function request(port, path, options = {}) {
  const { method = "GET", body, headers = {}, agent = false, host = "127.0.0.1" } = options;
  let call;
  const answer = new Promise((done, fail) => {
    call = http.request({ host, port, path, method, headers, agent }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", fail);
      response.on("end", () => {
        const bytes = Buffer.concat(chunks);
        const { statusCode: status, headers } = response;
        done({ status, headers, bytes, text: bytes.toString(), reused: call.reusedSocket });
      });
    });
    call.setTimeout(ANSWER_MS_MAX, () => call.destroy(new Error(`${method} ${path}: no answer`)));
    call.on("error", fail);
    call.end(body);
  });
  answer.abort = () => {
    answer.catch(() => {}); // whoever aborts does not wait for an answer
    call.destroy();
  };
  return answer;
}

export function query(parameters) {
  return new URLSearchParams({ EIO: "4", ...parameters }).toString();
}

// A polling session: handshake done, nothing else.
export async function openPolling(port, path = "/engine.io/", options = {}) {
  const answer = await request(port, `${path}?${query({ transport: "polling" })}`, options);
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.text[0], "0", answer.text);
  return new PollingSession(port, path, JSON.parse(answer.text.slice(1)), answer);
}

class PollingSession {
  constructor(port, path, open, answer) {
    Object.assign(this, { port, path, open, answer, sid: open.sid });
  }

  url(parameters = {}) {
    return `${this.path}?${query({ transport: "polling", sid: this.sid, ...parameters })}`;
  }

  get(options) {
    return request(this.port, this.url(), options);
  }

  post(body, options = {}) {
    const headers = { "content-type": "text/plain;charset=UTF-8", ...options.headers };
    return request(this.port, this.url(), { method: "POST", body, ...options, headers });
  }

  // POST and what the server says when it has taken it.
  async send(body) {
    const answer = await this.post(body);
    assert.deepEqual([answer.status, answer.text], [200, "ok"]);
  }

  // The body of one GET.
  async poll() {
    const answer = await this.get();
    assert.equal(answer.status, 200, answer.text);
    return answer.text;
  }

  // Records of as many GETs as it takes to have `count`, and how many each GET brought.
  async collect(count) {
    const records = [];
    const perGet = [];
    while (records.length < count) {
      const got = (await this.poll()).split(RS);
      records.push(...got);
      perGet.push(got.length);
    }
    return { records, perGet };
  }

  async assertEcho(text = "still here") {
    await this.send(`4${text}`);
    assert.equal(await this.poll(), `4${text}`);
  }

  async assertGone() {
    const answer = await this.get();
    const unknown = '{"code":1,"message":"Session ID unknown"}';
    assert.deepEqual([answer.status, answer.text], [400, unknown]);
  }

  upgrade() {
    return openWs(this.port, { sid: this.sid }, { path: this.path });
  }
}

// What arrives, in order, for those who ask one by one.
class Inbox {
  items = [];
  waiting = [];

  push(item) {
    const first = this.waiting.shift();
    if (first) first(item);
    else this.items.push(item);
  }

  async next(ms) {
    if (this.items.length) return this.items.shift();
    let mine;
    const item = await within(new Promise((done) => this.waiting.push((mine = done))), ms);
    this.waiting = this.waiting.filter((one) => one !== mine);
    if (item === null) throw new Error(`nothing arrived within ${ms} ms`);
    return item;
  }
}

const CLOSED = Symbol("closed");

// One side of a session that a Socket.IO test speaks through: `send`, `next`, `untilClosed`.
// Pings are answered and not shown unless `pings` is set.
class Channel {
  inbox = new Inbox();
  pings = false;
  ended = false;

  take(packet) {
    if (packet === "2" && !this.pings) return void this.send("3");
    this.inbox.push(packet);
  }

  end(how) {
    if (this.ended) return;
    this.ended = true;
    this.how = how;
    this.inbox.push(CLOSED);
  }

  // The next packet: text as it came, binary as a Buffer.
  async next(ms = ANSWER_MS_MAX) {
    const packet = await this.inbox.next(ms);
    assert.notEqual(packet, CLOSED, "the connection was closed");
    return packet;
  }

  // Fails if a packet comes before the end does; pings don't count.
  async untilClosed(ms = ANSWER_MS_MAX) {
    for (;;) {
      const packet = await this.inbox.next(ms);
      if (packet === CLOSED) return this.how;
      assert.equal(packet, "2", `a packet came instead of the end: ${packet}`);
    }
  }

  async nextJson(prefix, ms) {
    const packet = await this.next(ms);
    assert.ok(`${packet}`.startsWith(prefix), `${packet} does not start with ${prefix}`);
    return JSON.parse(packet.slice(prefix.length));
  }
}

class WsChannel extends Channel {
  constructor(ws) {
    super();
    this.ws = ws;
    this.headers = new Promise((done) => ws.once("upgrade", ({ headers }) => done(headers)));
    this.status = new Promise((done) => {
      ws.once("open", () => done(101));
      ws.once("unexpected-response", (call, response) => this.refuse(response, done));
      ws.on("error", () => done(null));
    });
    ws.on("message", (data, binary) => this.take(binary ? data : data.toString()));
    ws.once("close", (code) => this.end(code));
  }

  refuse(response, done) {
    const chunks = [];
    response.on("data", (chunk) => chunks.push(chunk));
    response.on("end", () => {
      this.refusal = { headers: response.headers, text: Buffer.concat(chunks).toString() };
      this.end(null);
      done(response.statusCode);
    });
  }

  send(...packets) {
    if (this.ws.readyState === WebSocket.OPEN) packets.forEach((packet) => this.ws.send(packet));
  }

  cut() {
    this.ws.terminate();
  }
}

// A WebSocket, from its handshake on; `await channel.status` says how that went.
export function openWs(port, parameters = {}, { path = "/engine.io/", host = "127.0.0.1" } = {}) {
  const url = `ws://${host}:${port}${path}?${query({ transport: "websocket", ...parameters })}`;
  const ws = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: ANSWER_MS_MAX });
  return new WsChannel(ws);
}

// A WebSocket session after its open packet, which is in `open`.
export async function openWsSession(port, path = "/engine.io/", options = {}) {
  const channel = openWs(port, options.query, { path, ...options });
  assert.equal(await channel.status, 101);
  channel.open = await channel.nextJson("0");
  return channel;
}

class PollingChannel extends Channel {
  constructor(session) {
    super();
    this.session = session;
    this.open = session.open;
    this.posts = Promise.resolve();
    this.pump();
  }

  async pump() {
    while (!this.ended) {
      const answer = await this.session.get().catch(() => null);
      if (answer?.status !== 200) return this.end(answer?.status);
      for (const record of answer.text.split(RS)) this.takeRecord(record);
    }
  }

  takeRecord(record) {
    if (record === "1") this.end("1");
    else if (record[0] === "b") this.take(Buffer.from(record.slice(1), "base64"));
    else if (record !== "6") this.take(record);
  }

  // All packets in one POST; one POST after the other. Node resets the POST that makes it close, so
  // that what comes of it shows on the GET alone.
  send(...packets) {
    const record = (p) => (typeof p === "string" ? p : `b${p.toString("base64")}`);
    const body = packets.map(record).join(RS);
    this.posts = this.posts.then(() => this.session.post(body)).catch(() => {});
  }

  cut() {
    this.session.post("1").catch(() => {});
  }
}

export async function openChannel(port, transport, path = "/socket.io/") {
  if (transport === "websocket") return openWsSession(port, path);
  return new PollingChannel(await openPolling(port, path));
}

// A TCP connection that sends `text` as it stands and gathers what comes back.
export function openTcp(port, text = "", host = "127.0.0.1") {
  const socket = net.connect(port, host);
  const tcp = { socket, received: "" };
  tcp.ended = new Promise((done) => {
    socket.on("error", () => {});
    socket.on("close", () => done(tcp.received));
  });
  socket.setEncoding("latin1").on("data", (data) => (tcp.received += data));
  tcp.until = async (test, ms = ANSWER_MS_MAX) => {
    const deadline = Date.now() + ms;
    while (!test(tcp.received)) {
      if (Date.now() > deadline) throw new Error(`not seen within ${ms} ms: ${tcp.received}`);
      await new Promise((done) => setTimeout(done, 5));
    }
    return tcp.received;
  };
  socket.write(text);
  return tcp;
}

// The whole HTTP answers at the start of `text`, each `{status, head, body}`.
export function parseAnswers(text) {
  const answers = [];
  for (let rest = text; ;) {
    const head = /^HTTP\/1\.[01] (\d+)[^]*?\r\n\r\n/.exec(rest);
    const part = head && parseBody(head[0], rest.slice(head[0].length));
    if (!part) return answers;
    answers.push({ status: Number(head[1]), head: head[0], body: part.body });
    rest = part.rest;
  }
}

// By Content-Length or in chunks; undefined while not all of it is there.
function parseBody(head, text) {
  if (!/transfer-encoding: *chunked/i.test(head)) {
    const size = Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    return text.length < size ? undefined : { body: text.slice(0, size), rest: text.slice(size) };
  }
  for (let body = "", rest = text; ;) {
    const line = /^([0-9a-f]+)\r\n/i.exec(rest);
    if (!line) return undefined;
    const end = line[0].length + parseInt(line[1], 16);
    if (rest.length < end + 2) return undefined;
    body += rest.slice(line[0].length, end);
    rest = rest.slice(end + 2);
    if (line[1] === "0") return { body, rest };
  }
}

// Runs a test about exact times up to three times: on a shared machine either side may be held up
// for longer than the time in question, and the first undisturbed run decides.
export async function undisturbed(test, runs = 3) {
  for (let run = 1; ; run++) {
    try {
      return await test();
    } catch (error) {
      if (run === runs) throw error;
    }
  }
}
