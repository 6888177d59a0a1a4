// Proves: Socket.IO 5 packet by packet, over WebSocket and over long-polling alone: CONNECT and its
// refusals, what closes a connection, events, acknowledgements, attachments. Under the settings of
// the official suite, with one shard and with several.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pause, range } from "./events.mjs";
import { CALM, FAST, startTarget, VARIANTS } from "./target.mjs";
import { openChannel, RS, undisturbed } from "./wire.mjs";

const CONNECT_TIMEOUT_MS = 1000;
const place = (num) => `{"_placeholder":true,"num":${num}}`;
const prefixOf = (nsp) => (nsp === "/" ? "" : `${nsp},`);

let fast;
let calm;

for (const variant of VARIANTS) {
  describe(variant.name, () => {
    before(async () => {
      const { name, ...settings } = variant;
      fast = await startTarget({ ...FAST, ...settings });
      calm = await startTarget({ ...CALM, ...settings });
    });
    after(async () => {
      await fast?.stop();
      await calm?.stop();
    });
    for (const transport of ["websocket", "polling"]) {
      describe(transport, () => {
        describe("connect", () => connect(transport));
        describe("connect timeout", () => connectTimeout(transport));
        describe("disconnect", () => disconnect(transport));
        describe("events", () => events(transport));
        describe("acknowledgements", () => acks(transport));
        describe("binary", () => binary(transport));
        describe("malformed", () => malformed(transport));
      });
    }
  });
}

const open = (transport, target = calm) => openChannel(target.port, transport);

// CONNECT, its answer, and the `auth` event that follows.
async function join(channel, nsp = "/", auth = undefined) {
  const prefix = prefixOf(nsp);
  channel.send(`40${prefix}${auth ? JSON.stringify(auth) : ""}`);
  const answer = await channel.nextJson(`40${prefix}`);
  assert.deepEqual(Object.keys(answer), ["sid"]);
  assert.match(answer.sid, /^[A-Za-z0-9_-]{20}$/);
  assert.notEqual(answer.sid, channel.open.sid);
  assert.equal(await channel.next(), `42${prefix}["auth",${JSON.stringify(auth ?? {})}]`);
  return answer.sid;
}

async function joined(transport, nsp, target) {
  const channel = await open(transport, target);
  await join(channel, nsp);
  return channel;
}

// Whatever was sent before has been taken, and nothing came of it.
async function assertQuiet(channel, nsp = "/") {
  channel.send(`42${prefixOf(nsp)}["message","fence"]`);
  assert.equal(await channel.next(), `42${prefixOf(nsp)}["message-back","fence"]`);
}

function connect(transport) {
  test("to `/`: exactly `sid`, then `auth` with `{}`", async () => {
    const channel = await open(transport, fast);
    await join(channel);
    channel.cut();
  });

  test("with a payload", async () => {
    for (const auth of [{ token: "123" }, { b: 1, a: [null, { é: "😀" }] }, {}]) {
      const channel = await open(transport);
      await join(channel, "/", auth);
      channel.cut();
    }
  });

  test("to `/custom`, with and without a payload", async () => {
    for (const auth of [undefined, { token: "123" }]) {
      const channel = await open(transport, fast);
      await join(channel, "/custom", auth);
      channel.cut();
    }
  });

  test("to `/custom` without a comma", async () => {
    const channel = await open(transport);
    channel.send("40/custom");
    assert.deepEqual(Object.keys(await channel.nextJson("40/custom,")), ["sid"]);
    assert.equal(await channel.next(), '42/custom,["auth",{}]');
    channel.cut();
  });

  test("to both on one connection, with an id each", async () => {
    const channel = await open(transport);
    const ids = [await join(channel), await join(channel, "/custom", { n: 1 })];
    assert.notEqual(ids[0], ids[1]);
    await assertQuiet(channel, "/");
    await assertQuiet(channel, "/custom");
    channel.cut();
  });

  test("to an unknown namespace: refused, the connection stays", async () => {
    const channel = await open(transport, fast);
    for (const packet of ["40/random", "40/random,", '40/random,{"token":"x"}']) {
      channel.send(packet);
      assert.equal(await channel.next(), '44/random,{"message":"Invalid namespace"}');
    }
    await join(channel);
    channel.send("40/custom2,");
    assert.equal(await channel.next(), '44/custom2,{"message":"Invalid namespace"}');
    await assertQuiet(channel);
    channel.cut();
  });

  test("twice to the same namespace closes", async () => {
    for (const nsp of ["/", "/custom"]) {
      const channel = await joined(transport, nsp);
      channel.send(`40${prefixOf(nsp)}`);
      await channel.untilClosed();
    }
  });

  test("something else first closes", async () => {
    const packets = ["4abc", '42["message","x"]', "41", '430["x"]', "4", Buffer.from([1])];
    packets.push('42/custom,["message"]', "40[]", '40"x"', "40{", "40null");
    for (const packet of packets) {
      const channel = await open(transport);
      channel.send(packet);
      await channel.untilClosed();
    }
  });
}

function connectTimeout(transport) {
  const cases = {
    "nothing at all": [],
    "a refused namespace": ["40/random,"],
  };
  for (const [name, packets] of Object.entries(cases)) {
    test(`${name} closes after a second`, () =>
      undisturbed(async () => {
        const channel = await open(transport, fast);
        const began = performance.now();
        for (const packet of packets) {
          channel.send(packet);
          await channel.next();
        }
        await channel.untilClosed();
        const waited = performance.now() - began;
        assert.ok(waited > CONNECT_TIMEOUT_MS - 30, `closed after ${waited} ms`);
        assert.ok(waited < CONNECT_TIMEOUT_MS + 150, `closed after ${waited} ms`);
      }));
  }

  test("one namespace is enough, and leaving it afterwards does not count", async () => {
    const channel = await joined(transport, "/custom");
    channel.send("41/custom,");
    await pause(CONNECT_TIMEOUT_MS + 300);
    await join(channel);
    channel.cut();
  });
}

function disconnect(transport) {
  test("from `/`: the connection stays, the next packet is a ping", async () => {
    const channel = await joined(transport, "/", fast);
    channel.pings = true;
    channel.send("41");
    assert.equal(await channel.next(), "2");
    channel.cut();
  });

  test("from `/custom`: `/` works on", async () => {
    for (const packet of ["41/custom", "41/custom,"]) {
      const channel = await open(transport);
      await join(channel, "/custom");
      await join(channel);
      channel.send(packet);
      await assertQuiet(channel);
      channel.cut();
    }
  });

  test("and in again, with another id", async () => {
    const channel = await open(transport);
    const first = await join(channel);
    channel.send("41");
    await pause(50); // Node closes where both arrive in one segment
    const second = await join(channel, "/", { again: true });
    assert.notEqual(first, second);
    channel.cut();
  });

  test("from where one never was closes", async () => {
    const channel = await joined(transport);
    channel.send("41/custom,");
    await channel.untilClosed();
  });
}

function events(transport) {
  const payloads = [
    "1",
    '1,"2",{"3":[true]}',
    '"",null,true,false,0,-1,1.5,1e+21',
    '[],{},[[]],[{}],{"a":{"b":[{"c":null}]}}',
    '{"b":1,"a":2,"z":0}',
    '"日本語 😀 é","\\\\ \\" \\n"',
    '"x]}\\",[{","1-/,2"',
    `"${"x".repeat(100_000)}"`,
    `[${range(2000)}]`,
  ];

  test("come back with their arguments", async () => {
    const channel = await joined(transport, "/", fast);
    for (const payload of payloads) {
      channel.send(`42["message",${payload}]`);
      assert.equal(await channel.next(), `42["message-back",${payload}]`);
    }
    channel.send('42["message"]');
    assert.equal(await channel.next(), '42["message-back"]');
    channel.cut();
  });

  test("in `/custom` too", async () => {
    const channel = await joined(transport, "/custom");
    await assertQuiet(channel, "/custom");
    channel.cut();
  });

  test("keep their order, across namespaces and in bulk", async () => {
    const channel = await open(transport);
    await join(channel);
    await join(channel, "/custom");
    const nsp = (n) => (n % 3 ? "" : "/custom,");
    channel.send(...range(300).map((n) => `42${nsp(n)}["message",${n}]`));
    for (const n of range(300)) {
      assert.equal(await channel.next(), `42${nsp(n)}["message-back",${n}]`);
    }
    channel.cut();
  });

  test("that nobody listens to are ignored, numbers as names too", async () => {
    const channel = await joined(transport);
    channel.send('42["nobody","x"]', '42[""]', "42[1]", "42[1.5,2]", '42["message-back"]');
    await assertQuiet(channel);
    channel.cut();
  });

  test("for a namespace that was never joined close", async () => {
    const channel = await joined(transport);
    channel.send('42/custom,["message","x"]');
    await channel.untilClosed();
  });
}

function acks(transport) {
  test("carry the id and the arguments", async () => {
    const channel = await joined(transport, "/", fast);
    for (const id of [0, 1, 456, 2_147_483_648, Number.MAX_SAFE_INTEGER]) {
      channel.send(`42${id}["message-with-ack",1,"2",{"3":[false]}]`);
      assert.equal(await channel.next(), `43${id}[1,"2",{"3":[false]}]`);
    }
    channel.cut();
  });

  test("with nothing to carry are an empty array", async () => {
    const channel = await joined(transport);
    channel.send('427["message-with-ack"]');
    assert.equal(await channel.next(), "437[]");
    channel.cut();
  });

  test("in `/custom`", async () => {
    const channel = await joined(transport, "/custom");
    channel.send('42/custom,12["message-with-ack","x"]');
    assert.equal(await channel.next(), '43/custom,12["x"]');
    channel.cut();
  });

  test("an event that wants none gets none", async () => {
    const channel = await joined(transport);
    channel.send('42["message-with-ack","x"]');
    await assertQuiet(channel);
    channel.cut();
  });

  test("an event nobody acknowledges is taken all the same", async () => {
    const channel = await joined(transport);
    channel.send('425["nobody","x"]');
    await assertQuiet(channel);
    channel.cut();
  });

  test("for which nobody waits are ignored", async () => {
    const channel = await joined(transport);
    channel.send("430[]", '437["x"]', `461-8[${place(0)}]`, Buffer.from([1]));
    await assertQuiet(channel);
    channel.cut();
  });
}

// A packet's arguments with its attachments in their places; `at` is how many there are.
async function nextBinary(channel, prefix) {
  const head = await channel.next();
  const [, kind, count, json] = /^(4[56])(\d+)-[^[]*(\[.*)$/s.exec(head);
  assert.equal(head.slice(0, prefix.length), prefix, head);
  const buffers = [];
  for (const _ of range(Number(count))) buffers.push(await channel.next());
  const reviver = (_, value) => (value?._placeholder === true ? buffers[value.num] : value);
  return { kind, count: Number(count), args: JSON.parse(json, reviver), buffers };
}

function binary(transport) {
  const [a, b] = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];

  test("an event with two attachments, byte by byte", async () => {
    const channel = await joined(transport, "/", fast);
    channel.send(`452-["message",${place(0)},${place(1)}]`, a, b);
    assert.equal(await channel.next(), `452-["message-back",${place(0)},${place(1)}]`);
    assert.deepEqual(await channel.next(), a);
    assert.deepEqual(await channel.next(), b);
    channel.cut();
  });

  test("an acknowledgement with two attachments, byte by byte", async () => {
    const channel = await joined(transport, "/", fast);
    channel.send(`452-789["message-with-ack",${place(0)},${place(1)}]`, a, b);
    assert.equal(await channel.next(), `462-789[${place(0)},${place(1)}]`);
    assert.deepEqual(await channel.next(), a);
    assert.deepEqual(await channel.next(), b);
    channel.cut();
  });

  test("in `/custom`", async () => {
    const channel = await joined(transport, "/custom");
    channel.send(`451-/custom,["message",${place(0)}]`, a);
    assert.equal(await channel.next(), `451-/custom,["message-back",${place(0)}]`);
    assert.deepEqual(await channel.next(), a);
    channel.send(`451-/custom,3["message-with-ack",${place(0)}]`, b);
    assert.equal(await channel.next(), `461-/custom,3[${place(0)}]`);
    assert.deepEqual(await channel.next(), b);
    channel.cut();
  });

  test("deep inside, ten of them, of many sizes", async () => {
    const channel = await joined(transport);
    const sizes = [0, 1, 2, 3, 125, 126, 1024, 5000, 65_536, 100_000];
    const buffers = sizes.map((size, n) => Buffer.alloc(size, n + 1));
    const nested = `{"list":[${range(9).map(place)}],"deep":{"last":${place(9)}},"n":1}`;
    channel.send(`4510-["message",${nested}]`, ...buffers);
    const { count, args } = await nextBinary(channel, "4510-");
    assert.equal(count, 10);
    const [name, value] = args;
    assert.equal(name, "message-back");
    assert.deepEqual(value, { list: buffers.slice(0, 9), deep: { last: buffers[9] }, n: 1 });
    channel.cut();
  });

  test("`num` says which attachment goes where", async () => {
    const channel = await joined(transport);
    channel.send(`452-["message",${place(1)},${place(0)}]`, a, b);
    const { args } = await nextBinary(channel, "452-");
    assert.deepEqual(args, ["message-back", b, a]);
    channel.cut();
  });

  test("attachments that come one by one, with time between", async () => {
    const channel = await joined(transport);
    for (const packet of [`452-["message",${place(0)},${place(1)}]`, a, b]) {
      channel.send(packet);
      await pause(30);
    }
    const { args } = await nextBinary(channel, "452-");
    assert.deepEqual(args, ["message-back", a, b]);
    channel.cut();
  });

  test("between text events, in order", async () => {
    const channel = await joined(transport);
    for (const n of range(20)) {
      channel.send(`42["message",${n}]`, `451-["message",${place(0)}]`, Buffer.from([n]));
    }
    for (const n of range(20)) {
      assert.equal(await channel.next(), `42["message-back",${n}]`);
      const { args } = await nextBinary(channel, "451-");
      assert.deepEqual(args, ["message-back", Buffer.from([n])]);
    }
    channel.cut();
  });
}

function malformed(transport) {
  const head = `452-["message",${place(0)},${place(1)}]`;
  const bytes = Buffer.from([1]);
  const cases = {
    "no packet type": ["4abc"],
    "an unknown packet type": ["47"],
    "an empty packet": ["4"],
    "an event that is an object": ["42{}"],
    "an event that is empty": ["42[]"],
    "an event without a name": ["42[null]"],
    "an event whose name is an object": ["42[{}]"],
    "an event that is a string": ['42"message"'],
    "an event with rubbish before it": ['42abc["message"]'],
    "an event with rubbish after it": ['42["message"]x'],
    "an event cut short": ['42["message"'],
    "bad JSON": ['42["message",{a:1}]'],
    "an acknowledgement that is no array": ["430{}"],
    "a CONNECT_ERROR": ['44{"message":"x"}'],
    "a DISCONNECT with a payload": ["41[]"],
    "a reserved name, connect": ['42["connect"]'],
    "a reserved name, connect_error": ['42["connect_error"]'],
    "a reserved name, disconnect": ['42["disconnect"]'],
    "a reserved name, disconnecting": ['42["disconnecting"]'],
    "a reserved name, newListener": ['42["newListener"]'],
    "a reserved name, removeListener": ['42["removeListener"]'],
    "a reserved name with an attachment": [`451-["disconnect",${place(0)}]`, bytes],
    "no attachments where there must be": ['450-["message"]'],
    "no number of attachments": ['45["message"]', '45-["message"]'],
    "a bad number of attachments": ['45x-["message"]'],
    "a negative number of attachments": ['45-1-["message"]'],
    "half an attachment": ['451.5-["message"]'],
    "eleven attachments": ['4511-["message"]'],
    "a stray attachment": [bytes],
    "an attachment too many": [`451-["nobody",${place(0)}]`, bytes, bytes],
    "text where an attachment is owed": [head, '42["nobody"]'],
    "text where the second attachment is owed": [head, bytes, '42["nobody"]'],
    "CONNECT where an attachment is owed": [head, "40/custom,"],
    "a placeholder out of range": [`451-["message",${place(1)}]`, bytes],
    "a negative placeholder": [`451-["message",${place(-1)}]`, bytes],
    "a placeholder that is no number": ['451-["message",{"_placeholder":true,"num":"x"}]', bytes],
  };
  for (const [name, packets] of Object.entries(cases)) {
    test(`${name} closes`, async () => {
      const channel = await joined(transport);
      channel.send(...packets);
      await channel.untilClosed();
    });
  }

  if (transport === "polling") {
    test("the session of a malformed packet is gone for every request", async () => {
      const channel = await joined(transport);
      await channel.session.post(`4abc${RS}42["message","x"]`).catch(() => {});
      await channel.untilClosed();
      await channel.session.assertGone();
    });
  } else {
    test("the close frame has no status code", async () => {
      const channel = await joined(transport);
      channel.send("4abc");
      assert.equal(await channel.untilClosed(), 1005);
    });
  }

  test("the others are undisturbed", async () => {
    const [bad, good] = [await joined(transport), await joined(transport)];
    bad.send("4abc");
    await bad.untilClosed();
    await assertQuiet(good);
    good.cut();
  });
}
