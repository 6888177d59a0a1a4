// Proves: a process that only publishes (`@socket.io/redis-emitter`) moves, disconnects and tells
// everywhere; messages by hand, in every spelling that npm's server takes, are understood; and no
// bytes on the adapter's channels harm a host.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import notepack from "notepack.io";
import { TARGET, startFleet } from "./fleet.mjs";
import { reach } from "./fleet-reach.mjs";
import { collect, eventually, ok, range, seeded } from "./events.mjs";

const HOSTS = [
  { MAX_WORKERS: 2, OUTBOX_BYTES: "8MiB" },
  { MAX_WORKERS: 1, OUTBOX_BYTES: "8MiB" },
];

describe("the emitter", () => {
  let fleet;
  let clients; // one on every server, in the room `here`
  let emitter;
  before(async () => {
    fleet = await startFleet({ hosts: HOSTS, nodes: [{}] });
    clients = await Promise.all(fleet.servers.map((server) => server.connect("emitted to")));
    for (const client of clients) await ok(client, "join", { room: "here" });
    emitter = fleet.emitter.npm;
  });
  after(() => fleet?.stop());

  async function inRoom(room, expected) {
    await eventually(async () => {
      const found = await fleet.nodes[0].call("fetch", { rooms: [room] });
      assert.deepEqual(found.map((it) => it.id).sort(), expected.map((it) => it.id).sort());
    });
  }

  test("makes sockets join and leave", async () => {
    emitter.in("here").socketsJoin(["there", "two"]);
    await inRoom("there", clients);
    await inRoom("two", clients);
    emitter.in("two").except(clients[1].id).socketsLeave("there");
    await inRoom("there", [clients[1]]);
    emitter.socketsLeave(["there", "two"]);
    await inRoom("there", []);
    await inRoom("two", []);
    emitter.in(clients[2].id).socketsJoin("alone");
    await inRoom("alone", [clients[2]]);
    await inRoom("here", clients);
  });

  test("disconnects sockets", async () => {
    for (const close of [false, true]) {
      const doomed = await Promise.all(fleet.servers.map((it) => it.connect("doomed")));
      for (const socket of doomed) await ok(socket, "join", { room: "doomed" });
      const reasons = doomed.map((it) => new Promise((done) => it.once("disconnect", done)));
      emitter.in("doomed").disconnectSockets(close);
      for (const reason of await Promise.all(reasons)) {
        assert.equal(reason, "io server disconnect");
      }
    }
    assert.ok(clients.every((it) => it.connected));
  });

  test("tells servers", async () => {
    emitter.serverSideEmit("tell", "all", { of: "you" });
    const { heard } = fleet.nodes[0];
    await eventually(async () => assert.deepEqual(heard.at(-1), ["all", { of: "you" }]));
    await hears((to) => reach(emitter, to));
  });

  test("under another key it is in another fleet", async () => {
    const stranger = new Emitter(fleet.redis.client, { key: "socket.io-other" });
    const heard = clients.map((it) => collect(it, "strange"));
    stranger.emit("strange", 1);
    stranger.to("here").emit("strange", 2);
    stranger.in("here").socketsJoin("strange");
    await hears((to) => reach(emitter, to));
    assert.deepEqual(
      heard.map((it) => it.items),
      clients.map(() => []),
    );
    await inRoom("strange", []);
  });

  let words = 0;
  async function hears(operator) {
    const word = ++words;
    const heard = clients.map((it) => collect(it, "heard"));
    operator({ rooms: ["here"] }).emit("heard", word);
    await Promise.all(heard.map((it) => it.until((items) => items.includes(word))));
  }

  describe("messages by hand", () => {
    const publish = (channel, bytes) => fleet.redis.client.publish(`socket.io${channel}`, bytes);
    const str = (text) => Buffer.concat([Buffer.of(0xa0 + text.length), Buffer.from(text)]);
    const raw = (...parts) =>
      Buffer.concat(
        parts.map((it) => (typeof it === "string" ? str(it) : Buffer.from([it].flat()))),
      );
    // [uid, {type, data: ["by hand", value], nsp}, {}]
    const around = (value) =>
      Buffer.concat([
        raw(0x93, "by hand", 0x83, "type", 2, "data", 0x92, "by hand"),
        value,
        raw("nsp", "/", 0x80),
      ]);
    const long = (n) => Array(n).fill(0x61);

    const SPELLINGS = {
      "float 32": [raw([0xca, 0x3f, 0xc0, 0, 0]), 1.5],
      "float 64 of a whole number": [raw([0xcb, 0x40, 0x08, 0, 0, 0, 0, 0, 0]), 3],
      "a small number in 64 bits": [raw([0xcf, 0, 0, 0, 0, 0, 0, 0, 7]), 7],
      "a negative number in 64 bits": [raw([0xd3, ...Array(8).fill(0xff)]), -1],
      "a short string with a long length": [raw([0xdb, 0, 0, 0, 2, 0x61, 0x62]), "ab"],
      "a short string with a middling length": [raw([0xda, 0, 2, 0x61, 0x62]), "ab"],
      "a string of 40 bytes": [raw([0xd9, 40, ...long(40)]), "a".repeat(40)],
      "an array with a long length": [raw([0xdd, 0, 0, 0, 1, 5]), [5]],
      "a map with a long length": [raw([0xdf, 0, 0, 0, 1, 0xa1, 0x61, 5]), { a: 5 }],
      "binary with a long length": [raw([0xc6, 0, 0, 0, 1, 9]), Buffer.of(9)],
      "the old undefined": [raw([0xd4, 0, 0]), null],
      "the old date": [
        raw([0xd7, 0, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]),
        "2023-11-14T22:13:20.000Z",
      ],
      "the old buffer": [raw([0xc7, 3, 0, 1, 2, 3]), Buffer.of(1, 2, 3)],
      "a timestamp of 32 bits": [
        raw([0xd6, 0xff, 0x65, 0x53, 0xf1, 0]),
        "2023-11-14T22:13:20.000Z",
      ],
    };
    for (const [name, [bytes, expected]] of Object.entries(SPELLINGS)) {
      test(name, async () => {
        const heard = clients.map((it) => collect(it, "by hand"));
        await publish("#/#", around(bytes));
        const all = heard.map((it) => it.until((items) => items.length === 1));
        for (const items of await Promise.all(all)) assert.deepEqual(items, [expected]);
      });
    }

    test("no namespace is the main one, another is none of ours", async () => {
      const heard = clients.map((it) => collect(it, "whose"));
      const packet = (nsp) => ({ type: 2, data: ["whose", nsp ?? "/"], ...(nsp && { nsp }) });
      const opts = { rooms: ["here"], except: [], flags: {} };
      await publish("#/#here#", notepack.encode(["x", packet("/other"), opts]));
      await publish("#/#here#", notepack.encode(["x", packet(), opts]));
      await hears((to) => reach(emitter, to));
      for (const { items } of heard) assert.deepEqual(items, ["/"]);
    });
  });
});

describe("what no server sends", { skip: TARGET === "node" && "it ends npm's server" }, () => {
  let fleet;
  let clients;
  before(async () => {
    fleet = await startFleet({ hosts: HOSTS });
    clients = await Promise.all(fleet.hosts.map((host) => host.connect("bystander")));
    for (const client of clients) await ok(client, "join", { room: "here" });
    await fleet.untilServers(HOSTS.length);
  });
  after(() => fleet?.stop());

  async function unharmed(what) {
    const heard = clients.map((it) => collect(it, "still there"));
    await eventually(async () => {
      await fleet.emitter.emit({ rooms: ["here"] }, "still there", what);
      assert.ok(
        heard.every(({ items }) => items.includes(what)),
        what,
      );
    });
    assert.equal(await fleet.serversCount(), HOSTS.length, what);
    assert.ok(
      clients.every((it) => it.connected),
      what,
    );
  }

  const CHANNELS = ["#/#", "#/#here#", "-request#/#", "-response#/#"];
  const flood = async (messages) => {
    for (const channel of CHANNELS) {
      for (const message of messages)
        await fleet.redis.client.publish(`socket.io${channel}`, message);
    }
  };

  test("shapes that are wrong", async () => {
    const wrong = [null, 0, "", [], {}, [null], ["x"], ["x", {}], ["x", 1, 2], ["x", [], []]];
    const packet = { type: 2, data: ["x"], nsp: "/" };
    for (const it of [null, -1, "a", [], {}, [[]], 2 ** 53]) {
      wrong.push(["x", { ...packet, data: it }, {}], ["x", { ...packet, type: it }, {}]);
      wrong.push(["x", { ...packet, nsp: it }, {}], ["x", packet, it], [it, packet, {}]);
      wrong.push(["x", packet, { rooms: it }], ["x", packet, { except: it, flags: it }]);
      // 4 would disconnect everybody, with any options
      for (const type of range(12, -1).filter((type) => type !== 4)) {
        const request = { uid: it, requestId: it, type, opts: it, rooms: it, packet: it, data: it };
        wrong.push(request, {
          type,
          requestId: "r",
          opts: { rooms: [it], except: it },
          rooms: [it],
        });
        wrong.push({ type, requestId: "r", packet, opts: { rooms: [], flags: { timeout: it } } });
        wrong.push({ type, requestId: "r", clientCount: it, sockets: it, rooms: it, sid: it });
      }
    }
    await flood(wrong.map((it) => JSON.stringify(it)));
    await flood(wrong.map((it) => notepack.encode(it)));
    await unharmed("wrong shapes");
  });

  test("bytes that are no msgpack and no JSON", async (t) => {
    const random = seeded(t);
    const bytes = (n) => Buffer.from(range(n).map(() => random.below(256)));
    const good = notepack.encode([
      "x",
      { type: 2, data: ["x", { a: [1] }], nsp: "/" },
      { rooms: [] },
    ]);
    const bad = [Buffer.of(0xdd, 255, 255, 255, 255), Buffer.of(0xc6, 255, 255, 255, 255)];
    bad.push(
      Buffer.alloc(100_000, 0x91),
      Buffer.alloc(100_000, 0x81),
      Buffer.from("[".repeat(1e5)),
    );
    bad.push(Buffer.from(`{"a":${"[".repeat(1e5)}`), Buffer.concat([good, Buffer.of(0)]));
    bad.push(...range(200).map(() => bytes(1 + random.below(60))));
    bad.push(...range(good.length).map((n) => good.subarray(0, n)));
    for (const n of range(300)) {
      const broken = Buffer.from(good);
      broken[random.below(good.length)] = random.below(256);
      bad.push(broken);
    }
    await flood(bad);
    await unharmed("bytes");
  });

  test("a megabyte", async () => {
    await fleet.emitter.emit({}, "large", Buffer.alloc(1 << 20), "x".repeat(1 << 20));
    await unharmed("large");
  });
});
