// Proves: what recovery looks like on the wire, and that nobody gets with it what is not theirs: a
// CONNECT that names an unknown, another user's or an expired session, or a place that session has
// not reached, begins a new one.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { startEngine } from "./engine.mjs";
import { ask, connected, eventually, joinSeenBy, ok, pause, range } from "./events.mjs";
import { refused } from "./events.mjs";
import { TRANSPORTS, blink, comesBack, keepDiary, story, traveller } from "./recovery.mjs";
import { CALM, startTarget } from "./target.mjs";
import { RS, openChannel, openPolling } from "./wire.mjs";

async function connect(engine, payload = "", transport = "websocket") {
  const channel = await openChannel(engine.port, transport);
  channel.send(`40${payload && JSON.stringify(payload)}`);
  return { channel, reply: await channel.nextJson("40") };
}

test("without recovery the reply is {sid}, and a pid means nothing", async (t) => {
  const engine = await startEngine();
  t.after(() => engine.stop());
  for (const transport of ["websocket", "polling"]) {
    for (const payload of ["", { pid: "x", offset: "1" }]) {
      const { channel, reply } = await connect(engine, payload, transport);
      assert.deepEqual(Object.keys(reply), ["sid"]);
      channel.cut();
    }
  }
});

for (const workers of [1, 3]) {
  describe(`${workers} shards`, { concurrency: 8 }, () => {
    let engine;
    before(async () => {
      engine = await startEngine({ MAX_WORKERS: workers, RECOVERY_WINDOW: "5s" });
    });
    after(() => engine?.stop());

    test("the reply is {sid, pid}", async () => {
      const seen = new Set();
      for (const transport of ["websocket", "polling"]) {
        const { channel, reply } = await connect(engine, "", transport);
        assert.deepEqual(Object.keys(reply), ["sid", "pid"]);
        assert.equal(typeof reply.pid, "string");
        assert.ok(!seen.has(reply.pid) && reply.pid !== reply.sid);
        seen.add(reply.pid);
        channel.cut();
      }
    });

    test("events carry an offset, acks do not", async () => {
      const { channel } = await connect(engine);
      channel.send('420["join",{"room":"offsets","presence":false}]');
      assert.equal((await channel.nextJson("430")).length, 1);
      channel.send('421["message",{"room":"offsets","body":1}]');
      const both = [await channel.next(), await channel.next()].sort();
      const event = JSON.parse(both[0].slice(2));
      assert.deepEqual([event[0], event[1].body, typeof event[2]], ["message", 1, "string"]);
      assert.equal(event.length, 3);
      assert.equal(JSON.parse(both[1].slice(3)).length, 1);
      channel.cut();
    });

    test("missed events come before the reply, with their offsets", (t) => beforeReply(t, engine));
    test("pids that are none", () => madeUp(engine));
    test("a pid with a place it has not reached", () => future(engine));
    test("another user's pid", () => stolen(engine));
    test("a pid is good for one namespace, one user, one session", (t) => used(t, engine));
    for (const transport of Object.keys(TRANSPORTS)) {
      test(`the old connection seems to live, over ${transport}`, (t) =>
        halfOpen(t, engine, TRANSPORTS[transport]));
    }
    test("leaving on purpose is not recovered", (t) => onPurpose(t, engine));
  });
}

async function beforeReply(t, engine) {
  const ann = await engine.connect("ann");
  await ok(ann, "join", { room: "order", presence: false });
  for (const transport of ["websocket", "polling"]) {
    const { channel, reply } = await connect(engine, { username: "bob" }, transport);
    channel.send('420["join",{"room":"order","presence":false}]');
    await channel.nextJson("430");
    channel.cut();
    await eventually(async () =>
      assert.equal((await ok(ann, "participants", { room: "order" })).count, 1),
    );
    for (const body of range(3)) await ok(ann, "message", { room: "order", body });
    const again = await openChannel(engine.port, transport);
    again.send(`40${JSON.stringify({ pid: reply.pid, username: "bob" })}`);
    for (const body of range(3)) {
      const [name, message, offset] = await again.nextJson("42");
      assert.deepEqual([name, message.body, typeof offset], ["message", body, "string"]);
    }
    assert.deepEqual(await again.nextJson("40"), reply);
    again.cut();
    await eventually(async () =>
      assert.equal((await ok(ann, "participants", { room: "order" })).count, 1),
    );
  }
  ann.disconnect();
}

async function madeUp(engine) {
  const { channel, reply: own } = await connect(engine);
  const flipped = own.pid.slice(0, -3) + (own.pid.at(-3) === "A" ? "B" : "A") + own.pid.slice(-2);
  const bad = ["", "x", own.sid, flipped, own.pid + "A", own.pid.slice(1), "\u0000", "日本"];
  const other = [null, 5, true, {}, [own.pid], "x".repeat(50_000)];
  for (const pid of [...bad, ...other]) {
    const { channel: its, reply } = await connect(engine, { pid, offset: "0" });
    assert.deepEqual(Object.keys(reply), ["sid", "pid"], `${pid}`);
    assert.notEqual(reply.sid, own.sid);
    assert.notEqual(reply.pid, own.pid);
    its.cut();
  }
  channel.send('427["nope"]');
  await channel.nextJson("437");
  channel.cut();
}

async function future(engine) {
  for (const offset of ["ffffff", "x", "", "-1", 7, null, {}, "9".repeat(400)]) {
    const { channel, reply } = await connect(engine);
    channel.cut();
    const again = await connect(engine, { pid: reply.pid, offset });
    const told = `${offset} ${JSON.stringify(again.reply)}`;
    // what is no text was never given out: like no offset at all
    if (typeof offset === "string") assert.notEqual(again.reply.sid, reply.sid, told);
    again.channel.cut();
  }
}

async function stolen(engine) {
  const ann = await engine.connect("ann");
  await ok(ann, "join", { room: "stolen" });
  const { channel, reply } = await connect(engine, { username: "bob" });
  channel.send('420["join",{"room":"stolen","presence":false}]');
  await channel.nextJson("430");
  channel.cut();
  await ok(ann, "message", { room: "stolen", body: "secret" });
  const eve = await connect(engine, { username: "eve", pid: reply.pid });
  assert.notEqual(eve.reply.sid, reply.sid);
  assert.notEqual(eve.reply.pid, reply.pid);
  eve.channel.send('420["participants",{"room":"stolen"}]');
  const [answer] = await eve.channel.nextJson("430");
  assert.equal(answer.error?.code, "not_in_room", JSON.stringify(answer));
  eve.channel.cut();
  ann.disconnect();
}

async function used(t, engine) {
  const bob = await traveller(t, engine, "bob");
  const { id } = bob.socket;
  const pid = bob.socket._pid;
  bob.proxy.refuses = true;
  bob.proxy.kill();
  await eventually(async () => assert.ok(!bob.socket.connected));
  const first = await connect(engine, { username: "bob", pid });
  assert.equal(first.reply.sid, id);
  // two connections claim it: the later one has it, the other is closed
  const second = await connect(engine, { username: "bob", pid });
  assert.equal(second.reply.sid, id);
  await first.channel.untilClosed();
  second.channel.send('420["nope"]');
  await second.channel.nextJson("430");
  second.channel.send("41");
  await pause(50);
  const third = await connect(engine, { username: "bob", pid });
  assert.notEqual(third.reply.sid, id, "it has left on purpose");
  for (const it of [second, third]) it.channel.cut();
}

async function halfOpen(t, engine, transports) {
  const room = `half open ${transports}`;
  const ann = await engine.connect("ann");
  await ok(ann, "join", room);
  const bob = await traveller(t, engine, "bob", transports);
  const { id } = bob.socket;
  await joinSeenBy(ann, bob.socket, room);
  bob.proxy.freeze();
  // the engine sends these into the void
  for (const body of range(20)) await ok(ann, "message", { room, body });
  bob.socket.io.engine.close();
  await eventually(async () => assert.ok(!bob.socket.connected));
  assert.deepEqual(await comesBack(bob), { event: "connect", id, recovered: true });
  await ok(ann, "message", { room, body: 20 });
  await eventually(async () => assert.equal(story(bob.diary).at(-1), 20));
  assert.deepEqual(story(bob.diary), ["connect", ...range(20), "connect", 20]);
  const { participants } = await ok(ann, "participants", { room });
  assert.deepEqual(participants.map((it) => it.name).sort(), ["ann", "bob"]);
  await refused("not_found", ann, "signal", { to: "nobody", data: 1 });
  assert.equal((await ask(ann, "signal", { to: id, data: 1 })).ok, true, "can be signalled again");
  ann.disconnect();
}

async function onPurpose(t, engine) {
  const bob = await traveller(t, engine, "bob");
  const { id } = bob.socket;
  bob.socket.disconnect();
  bob.socket.connect();
  const back = await comesBack(bob);
  assert.equal(back.recovered, false);
  assert.notEqual(back.id, id);
}

describe("what is said to one socket", { concurrency: 8 }, () => {
  const targets = {};
  before(async () => {
    const settings = { recovery: 5000, ...CALM, connectTimeout: 5000 };
    for (const workers of [1, 3]) {
      targets[workers] = await startTarget({ workers, ...settings }, "throng");
      targets[workers].client = (auth, { url, ...rest }) =>
        io(url, { forceNew: true, auth, ...rest });
    }
  });
  after(() => Promise.all(Object.values(targets).map((it) => it.stop())));

  for (const workers of [1, 3]) {
    for (const how of ["is completed", "is given up"]) {
      test(`${workers} shards: two CONNECTs during an upgrade that ${how}`, () =>
        connectsDuringUpgrade(targets[workers].port, how === "is completed"));
    }
    for (const transport of Object.keys(TRANSPORTS)) {
      test(`${workers} shards, ${transport}: an answer that was lost comes again`, async (t) => {
        const bob = await traveller(t, targets[workers], { n: 1 }, TRANSPORTS[transport]);
        await lostAnswer(bob, transport);
      });

      test(`${workers} shards, ${transport}: two namespaces of one connection`, async (t) => {
        const bob = await traveller(t, targets[workers], { n: 1 }, TRANSPORTS[transport]);
        await twoNamespaces(t, bob);
      });
    }
  }
});

async function lostAnswer(bob, transport) {
  const { id } = bob.socket;
  const told = () => bob.diary.filter((it) => it.event !== "auth");
  const answers = () => told().map((it) => (it.event === "connect" ? "connect" : it.data));
  for (const n of range(20)) bob.socket.emit("message", n);
  await eventually(async () => assert.equal(answers().at(-1), 19));
  bob.proxy.deafen();
  const lost = [20];
  // a polling client that is not answered has said no more than one packet
  if (transport !== "polling") lost.push(Buffer.from("binary too"), 21);
  for (const it of lost) bob.socket.emit("message", it);
  await pause(300); // until the server has heard it, which nobody here can see
  assert.deepEqual(await blink(bob), { event: "connect", id, recovered: true });
  bob.socket.emit("message", "last");
  await eventually(async () => assert.equal(answers().at(-1), "last"));
  assert.deepEqual(answers(), ["connect", ...range(20), ...lost, "connect", "last"]);
}

async function twoNamespaces(t, bob) {
  const custom = bob.socket.io.socket("/custom", { auth: { n: 2 } });
  t.after(() => custom.disconnect());
  const diary = keepDiary(custom);
  await connected(custom);
  const ids = [bob.socket.id, custom.id];
  for (const n of range(5)) {
    for (const it of [bob.socket, custom]) it.emit("message", n);
    await blink(bob);
    await connected(custom);
    assert.deepEqual([bob.socket.recovered, custom.recovered], [true, true], `${n}`);
    assert.deepEqual([bob.socket.id, custom.id], ids);
  }
  for (const it of [bob.socket, custom]) assert.equal(await ask(it, "message-with-ack", 1), 1);
  for (const it of [bob.diary, diary]) {
    const said = it.filter(({ event }) => event === "message-back").map(({ data }) => data);
    // whether the last words before a break were heard is open, but not whether they come twice
    assert.deepEqual(said, [...new Set(said)].sort());
  }
}

// The session that comes back begins on any shard: with several rounds also on others than its own.
async function connectsDuringUpgrade(port, completes) {
  for (const round of range(8)) {
    const first = await openChannel(port, "websocket");
    first.send("40", "40/custom,");
    const [main, custom] = await repliesOf(() => first.next());
    first.cut();
    const session = await openPolling(port, "/socket.io/");
    const ws = session.upgrade();
    assert.equal(await ws.status, 101);
    await session.send(`40{"pid":"${main.pid}"}${RS}40/custom,{"pid":"${custom.pid}"}`);
    let records = [];
    let next = async () => {
      while (!records.length) records = (await session.poll()).split(RS);
      return records.shift();
    };
    if (completes) {
      ws.send("2probe");
      assert.equal(await ws.next(), "3probe");
      ws.send("5");
      next = () => ws.next();
    } else ws.cut();
    const told = `round ${round}`;
    assert.deepEqual(await repliesOf(next).catch((error) => error.message), [main, custom], told);
    ws.cut();
  }
}

// What two CONNECTs are answered, `/` and `/custom`, whatever else comes.
async function repliesOf(next) {
  const replies = {};
  while (Object.keys(replies).length < 2) {
    const [, namespace, json] = /^40(\/custom,)?({.*)$/.exec(await next()) ?? [];
    if (json) replies[namespace ?? "/"] = JSON.parse(json);
  }
  return [replies["/"], replies["/custom,"]];
}
