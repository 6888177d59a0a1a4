// Proves: /ws offers all that Socket.IO clients can do, as JSON over WebSocket: the same events and
// answers, the same rooms, binary in base64, a heartbeat of WebSocket's own, one subprotocol.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { startEngine } from "./engine.mjs";
import { collect, eventually, ok, once, pause, range, within } from "./events.mjs";

const SUBPROTOCOL = "throng.json.v1";

// A client on /ws, by `Socket`: `ws`'s or the browser's own.
class Plain {
  heard = [];
  asked = 0;
  waiting = new Map();

  constructor(port, Socket = WebSocket, { protocols = [], path = "/ws", options } = {}) {
    const url = `ws://127.0.0.1:${port}${path}`;
    this.ws = options ? new Socket(url, protocols, options) : new Socket(url, protocols);
    this.opened = new Promise((done, fail) => {
      this.ws.onopen = done;
      this.ws.onerror = (event) => fail(new Error(event.message ?? "refused"));
    });
    this.opened.catch(() => {});
    this.closed = new Promise((done) => (this.ws.onclose = ({ code }) => done(code)));
    this.ws.onmessage = ({ data }) => this.take(JSON.parse(data));
  }

  take(said) {
    const asked = said.event === "ack" && this.waiting.get(said.id);
    if (asked) asked(said);
    else this.heard.push(said);
  }

  send(object) {
    this.ws.send(typeof object === "string" ? object : JSON.stringify(object));
  }

  // Emits and yields the whole answer.
  async asks(event, data, attachments) {
    const id = ++this.asked;
    const answer = new Promise((done) => this.waiting.set(id, done));
    this.send({ id, event, data, attachments });
    const said = await within(answer, 5000);
    assert.ok(said, `${event}: no answer; heard ${JSON.stringify(this.heard).slice(0, 500)}`);
    return said;
  }

  async ok(event, data, attachments) {
    const said = await this.asks(event, data, attachments);
    assert.deepEqual(Object.keys(said).slice(0, 3), ["id", "event", "data"]);
    assert.equal(said.data.ok, true, `${event}: ${JSON.stringify(said)}`);
    return said.data;
  }

  async refused(code, event, data, attachments) {
    const said = await this.asks(event, data, attachments);
    assert.equal(said.data?.error?.code, code, `${event}: ${JSON.stringify(said)}`);
    assert.equal(said.data.ok, false);
  }

  // The next message with this event, taken out of what was heard.
  async next(event, accept = () => true) {
    const is = (it) => it.event === event && accept(it.data);
    return eventually(async () => {
      const at = this.heard.findIndex(is);
      assert.ok(at >= 0, `no ${event} in ${JSON.stringify(this.heard).slice(0, 500)}`);
      return this.heard.splice(at, 1)[0];
    }, 5000);
  }
}

const SOCKETS = { ws: WebSocket };
if (globalThis.WebSocket) SOCKETS["the browser's WebSocket"] = globalThis.WebSocket;

for (const workers of [1, 3]) {
  for (const [name, Socket] of Object.entries(SOCKETS)) {
    describe(`${workers} shards, ${name}`, { concurrency: 8 }, () => {
      let engine;
      before(async () => {
        engine = await startEngine({ MAX_WORKERS: workers, MAX_MESSAGE_BYTES: 1000 });
      });
      after(() => engine?.stop());

      const join = async (username, settings) => {
        const plain = new Plain(engine.port, Socket, settings);
        await plain.opened;
        plain.send({ event: "connect", data: { username } });
        const { data } = await plain.next("connect");
        assert.deepEqual(Object.keys(data), ["sid"]);
        return Object.assign(plain, { id: data.sid });
      };
      const context = { join, get: () => engine };
      const cases = { connecting, nineEvents, errors, sameRoom, binary, badMessages, leaving };
      for (const [title, run] of Object.entries(cases)) test(title, () => run(context));
    });
  }
}

async function connecting({ join, get }) {
  const cy = new Plain(get().port);
  await cy.opened;
  cy.send({ id: 1, event: "join", data: "x" });
  assert.match((await cy.next("error")).data.message, /connect/);
  cy.send({ event: "connect", data: { username: "admin" } });
  const { data } = await cy.next("connect_error");
  assert.equal(data.data.code, "forbidden");
  cy.send({ event: "connect", data: "text" });
  await cy.next("error");
  cy.send({ event: "connect" });
  const guest = await cy.next("connect");
  assert.equal(guest.data.sid.length, 20);
  const { participants } = await cy.ok("join", "guests");
  assert.match(participants[0].name, /^guest-/);
  const bob = await join("bob");
  bob.send({ event: "connect", data: {} });
  await bob.next("error");
  await bob.ok("join", "still here");
}

async function nineEvents({ join }) {
  const room = "nine";
  const ann = await join("Ann");
  await ann.ok("join", { room, metadata: { a: 1 } });
  const bob = await join("bob");
  const joined = await bob.ok("join", room);
  const keys = "ok room participants count state lastSeq messages complete";
  assert.deepEqual(Object.keys(joined), keys.split(" "));
  assert.deepEqual(
    joined.participants.map((it) => [it.id, it.user, it.name, it.metadata]),
    [
      [ann.id, "ann", "Ann", { a: 1 }],
      [bob.id, "bob", "bob", null],
    ],
  );
  await ann.next("presence", (it) => it.joined?.some((p) => p.id === bob.id));

  const from = { id: ann.id, user: "ann", name: "Ann" };
  const body = { text: "héllo", list: [1, null, "x"] };
  const { id, seq, at } = await ann.ok("message", { room, body, clientId: "c1" });
  const message = { room, id, seq, from, body, at, clientId: "c1" };
  for (const it of [ann, bob]) assert.deepEqual((await it.next("message")).data, message);

  ann.send({ event: "typing", data: { room, typing: true } });
  assert.deepEqual((await bob.next("typing")).data, { room, from, typing: true });
  await ann.ok("screen", { room, sharing: true });
  assert.deepEqual((await bob.next("screen")).data, { room, from, sharing: true });
  await ann.ok("signal", { to: bob.id, data: { sdp: "v=0" } });
  assert.deepEqual((await bob.next("signal")).data, { from, data: { sdp: "v=0" } });
  await ann.ok("update", { room, metadata: 5 });
  const { data } = await bob.next("presence", (it) => it.updated);
  assert.equal(data.updated.find((it) => it.id === ann.id).metadata, 5);

  const history = await bob.ok("history", { room });
  assert.deepEqual([history.messages, history.more], [[message], false]);
  const people = await bob.ok("participants", { room });
  assert.equal(people.count, 2);
  assert.equal(people.participants.find((it) => it.id === ann.id).sharing, true);
  await ann.ok("leave", { room });
  const left = await bob.next("presence", (it) => it.left);
  assert.deepEqual([left.data.left, left.data.count], [[ann.id], 1]);
  assert.deepEqual(
    ann.heard.filter((it) => ["typing", "screen"].includes(it.event)),
    [],
    "only others are told",
  );
}

async function errors({ join }) {
  const ann = await join("ann");
  await ann.refused("unknown_event", "nope", {});
  await ann.refused("unknown_event", "nope");
  await ann.refused("invalid", "join", {});
  await ann.refused("invalid", "join", { room: "" });
  await ann.refused("invalid", "join");
  await ann.refused("not_in_room", "message", { room: "nowhere", body: 1 });
  await ann.refused("not_found", "signal", { to: "nobody", data: 1 });
  await ann.ok("join", "errors");
  await ann.refused("too_large", "message", { room: "errors", body: "x".repeat(1001) });
  await ann.refused("invalid", "message", { room: "errors" });
}

async function sameRoom({ join, get }) {
  const room = "mixed";
  const sio = await get().connect("sio");
  await ok(sio, "join", room);
  const heard = collect(sio, "message");
  const plain = await join("plain");
  const joined = once(sio, "presence", 5000, (it) => it.joined?.some((p) => p.id === plain.id));
  await plain.ok("join", room);
  await joined;
  await ok(sio, "message", { room, body: "from sio" });
  await plain.ok("message", { room, body: "from plain" });
  await heard.until((items) => items.length === 2);
  assert.deepEqual(
    [(await plain.next("message")).data, (await plain.next("message")).data],
    heard.items,
  );
  const signal = once(sio, "signal");
  await plain.ok("signal", { to: sio.id, data: [1] });
  assert.deepEqual((await signal).data, [1]);
  await ok(sio, "signal", { to: plain.id, data: { x: 1 } });
  assert.deepEqual((await plain.next("signal")).data.data, { x: 1 });
  const typing = once(sio, "typing");
  plain.send({ event: "typing", data: { room, typing: true } });
  assert.equal((await typing).from.id, plain.id);
  const left = once(sio, "presence", 5000, (it) => it.left?.includes(plain.id));
  plain.ws.close();
  await left;
}

async function binary({ join, get }) {
  const room = "binary";
  const sio = await get().connect("sio");
  await ok(sio, "join", { room, presence: false });
  const plain = await join("plain");
  await plain.ok("join", { room, presence: false });
  const parts = [Buffer.from([0, 1, 2, 253, 254, 255]), Buffer.from("two")];
  const placeholder = (num) => ({ _placeholder: true, num });

  const heard = once(sio, "message");
  const body = { a: placeholder(0), b: [placeholder(1)] };
  const base64 = parts.map((it) => it.toString("base64"));
  await plain.ok("message", { room, body }, base64);
  assert.deepEqual((await heard).body, { a: parts[0], b: [parts[1]] });
  const own = await plain.next("message");
  assert.deepEqual([own.data.body, own.attachments], [body, base64]);

  await ok(sio, "message", { room, body: { z: parts[1], y: parts[0] } });
  const told = await plain.next("message");
  const at = ({ num }) => Buffer.from(told.attachments[num], "base64");
  const { z, y } = told.data.body;
  assert.deepEqual([at(z), at(y)], [parts[1], parts[0]]);

  const signal = once(sio, "signal");
  await plain.ok("signal", { to: sio.id, data: placeholder(0) }, [base64[0]]);
  assert.deepEqual((await signal).data, parts[0]);
  await ok(sio, "signal", { to: plain.id, data: parts[1] });
  assert.deepEqual((await plain.next("signal")).attachments, [base64[1]]);

  const said = await plain.asks("history", { room });
  assert.equal(said.data.messages.length, 2);
  assert.equal(said.attachments.length, 4);
  const { messages } = await ok(sio, "history", { room });
  assert.deepEqual(messages[0].body, { a: parts[0], b: [parts[1]] });

  // what is no base64, too many parts, placeholders for nothing
  for (const [data, attachments] of [
    [{ room, body: placeholder(0) }, ["***"]],
    [{ room, body: range(11).map(placeholder) }, range(11).map(() => "AA==")],
    [{ room, body: placeholder(1) }, ["AA=="]],
    [{ room, body: 1 }, [5]],
  ]) {
    plain.send({ id: 999, event: "message", data, attachments });
    await plain.next("error");
  }
  await plain.ok("leave", room);
}

async function badMessages({ join }) {
  const ann = await join("ann");
  const bad = ["", "x", "[]", "{}", "null", "5", '{"event":5}', '{"event":"join","id":"1"}'];
  const more = ['{"event":"join","id":-1}', '{"event":"join","data":', '{"event":"a","event":"b"}'];
  for (const text of [...bad, ...more]) {
    ann.send(text);
    const { data } = await ann.next("error");
    assert.equal(data.code, "invalid", text);
  }
  ann.ws.send(Buffer.from("binary"));
  await ann.next("error");
  ann.send({ event: "ack", id: 12345, data: "to nothing" });
  await ann.ok("join", "still here");
}

async function leaving({ join, get }) {
  const watcher = await get().connect("watcher");
  await ok(watcher, "join", "leaving");
  await pause(200);
  const ann = await join("ann");
  const came = once(watcher, "presence", 5000, (it) => it.joined?.some((p) => p.id === ann.id));
  await ann.ok("join", "leaving");
  await came;
  const left = once(watcher, "presence", 5000, (it) => it.left?.includes(ann.id));
  ann.send({ event: "disconnect" });
  assert.notEqual(await within(ann.closed, 3000), null, "closed");
  await left;
}

describe("the handshake", () => {
  let engine;
  before(async () => {
    engine = await startEngine();
  });
  after(() => engine?.stop());

  const protocolOf = async (protocols, path) => {
    const plain = new Plain(engine.port, WebSocket, { protocols, path });
    await plain.opened;
    const { protocol } = plain.ws;
    plain.ws.terminate();
    return protocol;
  };

  test("the subprotocol is selected if asked for", async () => {
    assert.equal(await protocolOf([SUBPROTOCOL]), SUBPROTOCOL);
    assert.equal(await protocolOf(["other", SUBPROTOCOL]), SUBPROTOCOL);
    assert.equal(await protocolOf([]), "");
    assert.equal(await protocolOf([], "/ws?x=1"), "");
  });

  test("an unknown subprotocol is refused with 400", async () => {
    for (const protocols of [["other"], ["throng.json.v2", "x"], ["Throng.JSON.v1"]]) {
      const plain = new Plain(engine.port, WebSocket, { protocols });
      await assert.rejects(plain.opened, /400/, `${protocols}`);
    }
  });

  test("a plain GET is told to upgrade", async () => {
    const answer = await engine.http("/ws");
    assert.deepEqual([answer.status, answer.headers.upgrade], [426, "websocket"]);
    assert.equal((await engine.http("/ws/more")).status, 404);
  });
});

test("the heartbeat closes who does not answer, and keeps who does", async (t) => {
  const engine = await startEngine({ PING_INTERVAL: "300ms", PING_TIMEOUT: "200ms" });
  t.after(() => engine.stop());
  const begun = performance.now();
  const clients = { alive: {}, mute: { autoPong: false } };
  for (const [name, options] of Object.entries(clients)) {
    const plain = new Plain(engine.port, WebSocket, { options });
    await plain.opened;
    plain.send({ event: "connect", data: { username: name } });
    await plain.next("connect");
    plain.pings = 0;
    plain.ws.on("ping", () => (plain.pings += 1));
    clients[name] = plain;
  }
  const { alive, mute } = clients;
  // busy in vain: only a pong counts
  const busy = setInterval(() => mute.ws.readyState === 1 && mute.send({ event: "nope" }), 50);
  const code = await within(mute.closed, 3000);
  clearInterval(busy);
  assert.notEqual(code, null, "closed");
  const took = performance.now() - begun;
  assert.ok(took > 400 && took < 1200, `closed after ${took} ms`);
  await pause(1000);
  assert.ok(alive.pings >= 3, `${alive.pings} pings`);
  await alive.ok("join", "alive");
});
