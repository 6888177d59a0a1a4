// Proves: what an application on Throng does to the sockets of all servers (the example `servers`)
// is done to those of Node servers too, and they answer it: emits, questions, lists, joins,
// disconnects, and words between servers.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { TARGET, startFleet } from "./fleet.mjs";
import { ask, collect, connected, eventually, ok, range } from "./events.mjs";

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
  "",
  "é💬",
  [],
  {},
  { a: [1, { b: "x".repeat(70_000) }] },
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
      chief().emit("tellServers", "tell");
      await eventually(async () => {
        for (const [at, it] of fleet.nodes.entries()) assert.equal(it.heard.length, before[at] + 1);
      });
      const { answers } = await ask(chief(), "askServers", "ask", PATIENCE_MS);
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
      const { asked, answers } = await ask(chief, "ask", ["even"], "question", 5000);
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
