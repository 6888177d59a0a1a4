// Proves: what an application on Throng does to the sockets of all servers (the example `servers`)
// is done to those of Node servers too, and they answer it: emits, questions, lists, joins,
// disconnects, and words between servers.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { TARGET, startFleet } from "./fleet.mjs";
import { ask, collect, connected, eventually, ok, range } from "./events.mjs";
import { Laggard, missHints } from "./interop-behind.mjs";
import { ODD_ROOMS } from "./interop-values.mjs";

const PATIENCE_MS = 2000;
const settings = { requestsTimeout: PATIENCE_MS };
const hosts = [{ MAX_WORKERS: 3 }, { MAX_WORKERS: 1 }];

const PLANS = [
  {
    adapter: "classic",
    nodes: [
      { settings },
      { adapter: "classic-7", client: "ioredis", settings },
      { settings: { ...settings, publishOnSpecificResponseChannel: true } },
    ],
  },
  { adapter: "sharded", nodes: [{}, { client: "ioredis" }] },
];
for (const plan of PLANS) {
  describe(`initiated by Throng, ${plan.adapter}`, () => cases({ app: "servers", hosts, ...plan }));
}

const VALUES = [
  null,
  0,
  -1.5,
  2 ** 53 - 1,
  -(2 ** 53) + 1,
  2 ** 60,
  -(2 ** 63),
  2 ** 64 - 2 ** 11, // the largest that npm's msgpack takes
  "",
  "é💬",
  [],
  {},
  { a: [1, { b: "x".repeat(70_000) }] },
];

// With binary parts: one alone, several and deep among other things, empty and large ones.
const BINARY = [
  Buffer.of(1, 2, 3),
  { b: [Buffer.of(3), { c: Buffer.of(4) }], d: "e", f: [null, 1.5] },
  [[[Buffer.alloc(0)]], { side: [Buffer.alloc(70_000, 7), Buffer.of(0)] }],
  range(10).map((n) => ({ [`part ${n}`]: Buffer.alloc(n, n) })), // npm's parser takes no more
];

// What JSON lacks is lost on the way to the server that casts, as a client of Node's would lose it.
const BEYOND_JSON = [
  new Date(1_700_000_000_123),
  { at: [new Date(0)] },
  [undefined, 1],
  { kept: 1, dropped: undefined },
  NaN,
];

function cases(plan) {
  let fleet;
  let clients; // two on every server: in `even` and in `odd`
  let chiefs; // one more on each host, in no room: the initiators
  const ids = (some = clients) => some.map((it) => it.socket.id).sort();
  const inRoom = (room) => clients.filter((it) => it.room === room);
  const everybody = () => [...clients, ...chiefs.map((socket) => ({ socket, name: "chief" }))];

  before(async () => {
    fleet = await startFleet(plan);
    clients = (await Promise.all(fleet.servers.map(openOn))).flat();
    chiefs = await Promise.all(fleet.hosts.map((host) => host.connect("chief")));
    for (const chief of chiefs) chief.on("question", (answer) => answer("chief"));
    for (const room of ["even", "odd"]) await fleet.untilSubscribed(room, fleet.servers.length);
  });
  after(() => fleet?.stop());

  for (const n of hosts.keys()) describe(`by host ${n}`, () => initiating(n));

  function initiating(n) {
    const chief = () => chiefs[n];
    let fences = 0;

    // What each hears of `event`, filling up: emits to different rooms may overtake each other.
    async function heard(event, casting) {
      const all = everybody().map(({ socket }) => ({
        diary: collect(socket, event),
        fence: collect(socket, "fence"),
      }));
      casting();
      const fence = ++fences;
      chief().emit("cast", [], [], "fence", fence);
      await Promise.all(all.map((it) => it.fence.until((items) => items.includes(fence))));
      return all.map((it) => it.diary.items);
    }

    const REACHES = {
      everybody: [[], [], () => true],
      "a room": [["even"], [], (room) => room === "even"],
      "two rooms": [["even", "odd"], [], (room) => room !== undefined],
      "all but a room": [[], ["even"], (room) => room !== "even"],
      "a room but itself": [["even"], ["even"], () => false],
      "a room and nobody's": [["none", "odd"], [], (room) => room === "odd"],
      "two rooms but two": [["even", "odd"], ["odd", "none"], (room) => room === "even"],
      "nobody's room": [["none"], [], () => false],
    };
    for (const [name, [rooms, except, reaches]] of Object.entries(REACHES)) {
      test(`an emit to ${name}`, async () => {
        const event = `to ${name} by ${n}`;
        const diaries = await heard(event, () => chief().emit("cast", rooms, except, event, 1));
        await eventually(async () => {
          for (const [at, { room, name }] of everybody().entries()) {
            assert.deepEqual(diaries[at], reaches(room) ? [1] : [], name);
          }
        });
      });
    }

    test("an emit to one socket of another server", async () => {
      for (const { socket } of [clients[0], clients.at(-1)]) {
        const event = `to ${socket.id} by ${n}`;
        const diaries = await heard(event, () => chief().emit("cast", [socket.id], [], event, 1));
        await eventually(async () => {
          for (const [at, it] of everybody().entries()) {
            assert.deepEqual(diaries[at], it.socket === socket ? [1] : [], it.name);
          }
        });
      }
    });

    test("an emit to a room but one socket of another server", async () => {
      for (const left of [clients[0], clients.findLast((it) => it.room === "even")]) {
        const event = `but ${left.socket.id} by ${n}`;
        const casting = () => chief().emit("cast", ["even"], [left.socket.id], event, 1);
        const diaries = await heard(event, casting);
        await eventually(async () => {
          for (const [at, it] of everybody().entries()) {
            const reached = it.room === "even" && it.socket !== left.socket;
            assert.deepEqual(diaries[at], reached ? [1] : [], it.name);
          }
        });
      }
    });

    test("rooms with odd names are just rooms", async () => {
      const event = `to odd rooms by ${n}`;
      const untilInThem = (count) =>
        eventually(async () => {
          const rooms = (await fleet.nodes[0].call("fetch", {})).map((it) => it.rooms);
          const odd = rooms.map((it) => it.filter((room) => ODD_ROOMS.includes(room)).length);
          assert.deepEqual(odd.filter(Boolean), Array(count).fill(ODD_ROOMS.length));
        });
      for (const room of ODD_ROOMS) chief().emit("joinAll", ["even"], room);
      await untilInThem(inRoom("even").length);
      const subscribed = (room) => fleet.untilSubscribed(room, fleet.servers.length);
      await Promise.all(ODD_ROOMS.map(subscribed));
      const casting = () =>
        ODD_ROOMS.forEach((room) => chief().emit("cast", [room], [], event, room));
      const diaries = await heard(event, casting);
      const wanted = [...ODD_ROOMS].sort();
      await eventually(async () => {
        for (const [at, { room, name }] of everybody().entries()) {
          assert.deepEqual([...diaries[at]].sort(), room === "even" ? wanted : [], name);
        }
      });
      for (const room of ODD_ROOMS) chief().emit("leaveAll", [], room);
      await untilInThem(0);
    });

    test("volatile emits miss whoever is behind, and nobody else", async () => {
      const room = "behind";
      const enter = ({ options }) =>
        options?.app === "plain" ? ["join", { room }] : ["enter", room];
      const open = (server) => Laggard.open(server, enter(server));
      const laggards = await Promise.all(fleet.servers.map(open));
      await fleet.untilSubscribed(room, fleet.servers.length);
      for (const rooms of [[room], [room, "none"]]) {
        const hint = (...args) => chief().emit("hint", rooms, ...args);
        const word = (...args) => chief().emit("cast", rooms, [], ...args);
        await missHints(laggards, hint, word);
      }
      await Promise.all(laggards.map((it) => it.close()));
      const event = `hint by ${n}`;
      const diaries = everybody().map(({ socket }) => collect(socket, event));
      await eventually(async () => {
        chief().emit("hint", [], event, BINARY[1]);
        for (const it of diaries) await it.until((items) => items.length > 0, 200);
      });
      for (const { items } of diaries) assert.deepEqual(items[0], BINARY[1]);
    });

    test("values with binary parts, to all, a room and two", async () => {
      for (const rooms of [[], ["even"], ["even", "odd"]]) {
        const event = `binary to ${rooms} by ${n}`;
        const casting = () => BINARY.forEach((it) => chief().emit("cast", rooms, [], event, it));
        const diaries = await heard(event, casting);
        await eventually(async () => {
          for (const [at, { room, name }] of everybody().entries()) {
            const reached = rooms.length === 0 || rooms.includes(room);
            assert.deepEqual(diaries[at], reached ? BINARY : [], name);
          }
        });
      }
    });

    test("values", async () => {
      const event = `values by ${n}`;
      const casting = () => VALUES.forEach((it) => chief().emit("cast", [], [], event, it));
      for (const diary of await heard(event, casting)) assert.deepEqual(diary, VALUES);
    });

    test("values beyond JSON", async () => {
      const event = `beyond JSON by ${n}`;
      const casting = () => BEYOND_JSON.forEach((it) => chief().emit("cast", [], [], event, it));
      const wanted = BEYOND_JSON.map((it) => JSON.parse(JSON.stringify(it)));
      for (const diary of await heard(event, casting)) assert.deepEqual(diary, wanted);
    });

    test("clients of all servers answer a question", async () => {
      const even = await ask(chief(), "ask", ["even"], "question", 5000);
      assert.equal(even.asked, inRoom("even").length);
      assert.deepEqual(
        even.answers.sort(),
        inRoom("even")
          .map((it) => it.name)
          .sort(),
      );
      const all = await ask(chief(), "ask", [], "question", 5000);
      assert.equal(all.asked, everybody().length);
      assert.deepEqual(
        all.answers.sort(),
        everybody()
          .map((it) => it.name)
          .sort(),
      );
      const nobody = await ask(chief(), "ask", ["none"], "question", 5000);
      assert.deepEqual(nobody, { asked: 0, answers: [] });
    });

    test("binary answers come back, as JSON has them", async () => {
      const on = fleet.servers.map(async (server, at) => {
        const socket = await server.connect("with a picture");
        socket.on("picture", (answer) => answer({ of: [Buffer.of(1, 255, at)] }));
        return socket;
      });
      const all = await Promise.all(on);
      for (const [at, { id }] of all.entries()) {
        const reply = await ask(chief(), "ask", [id], "picture", 5000);
        const wanted = { asked: 1, answers: [{ of: [Buffer.of(1, 255, at)] }] };
        assert.deepEqual(plain(reply), plain(wanted));
      }
      for (const it of all) it.disconnect();
    });
    const plain = (value) => JSON.parse(JSON.stringify(value));

    test("a client of Node that is silent is waited for, and the others' answers kept", async () => {
      const silent = await fleet.nodes[0].connect("silent");
      await ok(silent, "join", { room: "even" });
      const { answers } = await ask(chief(), "ask", ["even"], "question", 1000);
      assert.deepEqual(
        answers.sort(),
        inRoom("even")
          .map((it) => it.name)
          .sort(),
      );
      silent.disconnect();
    });

    test("a client that is slow is waited for, on whichever server it is", async () => {
      const slow = await Promise.all(fleet.servers.map((it) => it.connect("slow")));
      for (const [at, it] of slow.entries()) {
        it.on("question", (answer) => setTimeout(answer, 700, `slow ${at}`));
        if (fleet.servers[at].options?.app === "plain") await ok(it, "join", { room: "slow" });
        else await ask(it, "enter", "slow");
      }
      await fleet.untilSubscribed("slow", fleet.servers.length);
      const names = slow.map((_, at) => `slow ${at}`);
      const alone = await ask(chief(), "ask", ["slow"], "question", 8000);
      assert.deepEqual([alone.asked, alone.answers.sort()], [slow.length, names]);
      const expected = [...names, ...inRoom("even").map((it) => it.name)].sort();
      const both = await ask(chief(), "ask", ["slow", "even"], "question", 8000);
      assert.deepEqual([both.asked, both.answers.sort()], [expected.length, expected]);
      // too slow: who answers in time is counted, and what comes late disturbs nobody
      const some = await ask(chief(), "ask", ["slow", "even"], "question", 300);
      assert.deepEqual(some.answers.sort(), inRoom("even").map((it) => it.name).sort());
      for (const it of slow) it.disconnect();
      await eventually(async () => {
        const again = await ask(chief(), "ask", [], "question", 5000);
        assert.equal(again.answers.length, everybody().length);
      });
    });

    test("sockets of all servers are listed", async () => {
      const listed = async (rooms) => (await ask(chief(), "fetch", rooms)).answers;
      const all = await listed([]);
      assert.deepEqual(
        all.map((it) => it.id).sort(),
        [...ids(), ...chiefs.map((it) => it.id)].sort(),
      );
      for (const { socket, room } of clients) {
        const { rooms } = all.find((it) => it.id === socket.id);
        assert.deepEqual(rooms.sort(), [socket.id, room].sort());
      }
      const even = await listed(["even"]);
      assert.deepEqual(even.map((it) => it.id).sort(), ids(inRoom("even")));
    });

    test("rooms of all servers are listed", { skip: plan.adapter === "sharded" }, async () => {
      const { answers } = await ask(chief(), "rooms");
      const expected = [...ids(), ...chiefs.map((it) => it.id), "even", "odd"];
      assert.deepEqual([...new Set(answers)].sort(), expected.sort());
    });

    test("servers are told and asked", async () => {
      const before = fleet.nodes.map((it) => it.heard.length);
      const word = { from: n, deep: [1, null, "é💬"] };
      chief().emit("tellServers", "tell", word);
      await eventually(async () => {
        for (const [at, it] of fleet.nodes.entries()) {
          assert.deepEqual(it.heard.slice(before[at]), [[word]]);
        }
      });
      const { answers } = await ask(chief(), "askServers", "ask", word, PATIENCE_MS);
      const ofNodes = answers.filter((it) => nodePids().includes(it.pid));
      for (const { question } of ofNodes) assert.deepEqual(question, word);
      const pids = answers.map((it) => it.pid).filter((pid) => nodePids().includes(pid));
      assert.deepEqual(pids.sort(), nodePids().sort());
      assert.equal(answers.length, fleet.servers.length - 1, "the other host, too");
    });
    const nodePids = () => fleet.nodes.map((it) => it.child.pid);

    test("sockets of all servers join and leave", async () => {
      const untilIn = (room, expected) =>
        eventually(async () => {
          const found = await fleet.nodes[0].call("fetch", { rooms: [room] });
          assert.deepEqual(found.map((it) => it.id).sort(), expected);
        });
      chief().emit("joinAll", ["even"], "moved");
      await untilIn("moved", ids(inRoom("even")));
      chief().emit("leaveAll", ["moved"], "moved");
      await untilIn("moved", []);
    });

    test("sockets of all servers are disconnected", async () => {
      for (const close of [false, true]) {
        const doomed = await Promise.all(fleet.servers.map((it) => it.connect("doomed")));
        const reasons = doomed.map((it) => new Promise((done) => it.once("disconnect", done)));
        for (const it of doomed) chief().emit("disconnectAll", [it.id], close);
        for (const reason of await Promise.all(reasons)) {
          assert.equal(reason, "io server disconnect");
        }
      }
      assert.ok(everybody().every((it) => it.socket.connected));
    });
  }

  test("Node servers ask all servers, and hosts answer, too", async () => {
    for (const node of fleet.nodes) {
      const others = fleet.nodes.filter((it) => it !== node);
      for (const question of ["why", { n: [1, null, "é💬"] }]) {
        const told = chiefs.map(() => []);
        for (const [at, it] of chiefs.entries()) it.once("told", (...args) => told[at].push(args));
        const { error, responses } = await node.call("askServers", [question]);
        assert.equal(error, null);
        assert.equal(responses.length, fleet.servers.length - 1);
        const own = responses.filter((it) => it.pid === undefined);
        const pids = responses.map((it) => it.pid).filter(Boolean);
        if (TARGET === "node") {
          assert.equal(pids.length, responses.length);
          continue;
        }
        assert.deepEqual(own, hosts.map(() => "throng heard"));
        assert.deepEqual(pids.sort(), others.map((it) => it.child.pid).sort());
        await eventually(async () => {
          for (const it of told) assert.deepEqual(it, [["ask", question]], "what hosts were asked");
        });
      }
    }
  });

  test("Node servers that ask many times at once are each answered", async () => {
    const asked = fleet.nodes.flatMap((node) =>
      range(20).map((n) => node.call("askServers", [`question ${n}`])),
    );
    for (const { error, responses } of await Promise.all(asked)) {
      assert.equal(error, null);
      assert.equal(responses.length, fleet.servers.length - 1);
    }
  });

  test("after a Node server was killed nobody waits for it", async () => {
    const victim = fleet.nodes[0];
    const left = clients.filter((it) => it.server !== victim);
    victim.child.kill("SIGKILL");
    await fleet.untilServers(fleet.servers.length - 1);
    for (const chief of chiefs) {
      // within less than the answers may take
      const { asked, answers } = await ask(chief, "ask", ["even"], "question", 60_000);
      const expected = left.filter((it) => it.room === "even");
      assert.equal(asked, expected.length);
      assert.deepEqual(answers.sort(), expected.map((it) => it.name).sort());
      const found = (await ask(chief, "fetch", ["even"])).answers;
      assert.deepEqual(found.map((it) => it.id).sort(), ids(expected));
    }
    fleet.nodes.shift();
  });
}

function openOn(server, index) {
  const opening = ["even", "odd"].map(async (room) => {
    const name = `${index} ${room}`;
    const socket = server.client({ username: "initiated" });
    socket.on("question", (answer) => answer(name));
    await connected(socket);
    if (server.options?.app === "plain") await ok(socket, "join", { room });
    else await ask(socket, "enter", room);
    return { name, server, socket, room };
  });
  return Promise.all(opening);
}
