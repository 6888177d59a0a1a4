// The cases of broadcasts between servers, for whichever adapter they speak: what one server of a
// fleet emits reaches exactly the sockets it should on every other, once, with the very same
// arguments.
//
// The measure is npm's server: a value must arrive everywhere as at the sender's own clients.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { startFleet } from "./fleet.mjs";
import { collect, connected, ok, range } from "./events.mjs";
import { Laggard, missHints } from "./interop-behind.mjs";
import { ODD_ROOMS, VALUES } from "./interop-values.mjs";

const SETS = [[], ["one"], ["two"], ["one", "two"]]; // the rooms of a server's four clients

// Reached: the clients whose rooms (their id too) pass.
const REACHES = {
  everybody: [{}, () => true],
  "one room": [{ rooms: ["one"] }, (rooms) => rooms.includes("one")],
  "two rooms": [{ rooms: ["one", "two"] }, (rooms) => rooms.length > 0],
  "everybody but a room": [{ except: ["two"] }, (rooms) => !rooms.includes("two")],
  "a room but another": [
    { rooms: ["one"], except: ["two"] },
    (rooms) => rooms.includes("one") && !rooms.includes("two"),
  ],
  "a room but itself": [{ rooms: ["one"], except: ["one"] }, () => false],
  "two rooms but two": [
    { rooms: ["one", "two"], except: ["two", "none"] },
    (rooms) => `${rooms}` === "one",
  ],
  "a room nobody is in": [{ rooms: ["none"] }, () => false],
  "a room and one nobody is in": [{ rooms: ["none", "two"] }, (rooms) => rooms.includes("two")],
  "another namespace": [{ nsp: "/other" }, () => false],
};

// `plan` is `startFleet`'s, and `emitter`: whether npm's emitter takes part.
export function broadcasts(plan) {
  const { adapter, mode } = plan;
  describe(`broadcasts, ${mode ? `${adapter} ${mode}` : adapter}`, () => cases(plan));
}

function cases(plan) {
  let fleet;
  let clients;
  let guests = []; // further clients, of one test
  let fences = 0;
  const senders = () => [
    ...fleet.nodes.map((node, n) => [node, `node ${n} (${node.options.adapter})`]),
    ...(plan.emitter ? [[fleet.emitter, "the emitter"]] : []),
  ];

  before(async () => {
    fleet = await startFleet(plan);
    clients = (await Promise.all(fleet.servers.map(openOn))).flat();
    for (const room of ["one", "two"]) await fleet.untilSubscribed(room, fleet.servers.length);
    await fleet.untilHeardOf(clients.map((it) => it.socket));
  });
  after(() => fleet?.stop());

  // Everybody has heard whatever `sender` emitted before this.
  async function fence(sender) {
    const fence = ++fences;
    const all = [...clients, ...guests].map((it) =>
      it.fences.until((items) => items.includes(fence)),
    );
    await sender.emit({}, "fence", fence);
    await Promise.all(all);
  }

  async function heardBy(sender, emitting) {
    for (const client of [...clients, ...guests]) client.diary.length = 0;
    await emitting();
    await fence(sender);
    return clients.map((client) => client.diary);
  }

  // One more client on every server, until the test ends.
  async function withGuests(t, options) {
    guests = await Promise.all(fleet.servers.map((server) => open(server, "guest", [], options)));
    t.after(() => {
      guests.forEach((it) => it.socket.disconnect());
      guests = [];
    });
  }

  async function allGuests(event, room) {
    await Promise.all(guests.map((it) => ok(it.socket, event, { room })));
    if (event === "join") await fleet.untilSubscribed(room, fleet.servers.length);
  }

  for (const [name, [to, passes]] of Object.entries(REACHES)) {
    test(`to ${name}`, async () => {
      for (const [sender, who] of senders()) {
        const diaries = await heardBy(sender, () => sender.emit(to, "reached", name));
        const expected = clients.map((it) => (passes(it.rooms) ? [["reached", name]] : []));
        for (const [n, client] of clients.entries()) {
          assert.deepEqual(diaries[n], expected[n], `${client.name}, from ${who}`);
        }
      }
    });
  }

  test("to one socket, by its id", async () => {
    for (const [sender, who] of senders()) {
      for (const target of [clients.at(-1), clients.at(-5), clients[0]]) {
        const to = { rooms: [target.socket.id] };
        const diaries = await heardBy(sender, () => sender.emit(to, "reached"));
        for (const [n, client] of clients.entries()) {
          const expected = client === target ? [["reached"]] : [];
          assert.deepEqual(diaries[n], expected, `${client.name}, from ${who}`);
        }
        const but = { except: [target.socket.id] };
        const others = await heardBy(sender, () => sender.emit(but, "reached"));
        assert.equal(others.filter((it) => it.length === 1).length, clients.length - 1, who);
        assert.deepEqual(others[clients.indexOf(target)], [], who);
      }
    }
  });

  // Emits each of VALUES to one client of every server. `differs` says where a value is known to
  // arrive as another: there nothing is compared.
  async function values(sender, reference, differs) {
    const to = { rooms: ["two"], except: ["one"] };
    const receivers = clients.filter(({ rooms }) => `${rooms}` === "two");
    for (const [name, args] of Object.entries(VALUES)) {
      await heardBy(sender, () => sender.emit(to, "values", ...args));
      const expected = receivers[reference].diary;
      assert.equal(expected.length, 1, name);
      assert.equal(expected[0].length, args.length + 1, name);
      for (const receiver of receivers) {
        if (!differs(name, receiver.server)) same(receiver.diary, expected, name, receiver.name);
      }
    }
  }
  const oldAdapter = (server) => /classic-[67]/.test(server.options?.adapter);
  const oldDates = (name, server) => /dates/.test(name) && oldAdapter(server);

  // Node passes on what only looks like a placeholder, and clients break on it; Throng defuses it.
  const defused = (name, server) => name === "like a placeholder" && fleet.hosts.includes(server);
  const known = (name, server) => oldDates(name, server) || defused(name, server);

  test("values arrive as at the sender's own clients", () => values(fleet.nodes[0], 0, known));

  const old = plan.nodes.findIndex(({ adapter }) => adapter === "classic-7");
  test("values of the old adapter arrive as at its own clients", { skip: old < 0 }, () => {
    // it writes the whole memory that a view looks into
    const views = (name) => name === "views and buffers";
    return values(fleet.nodes[old], old, (name, it) => views(name) || defused(name, it));
  });

  test("the emitter's values arrive everywhere the same", { skip: !plan.emitter }, () => {
    return values(fleet.emitter, 0, known);
  });

  test("event names need not be words", async () => {
    const [sender] = fleet.nodes;
    for (const event of ["", " ", "ünï", "x".repeat(300), "message", "$&", '"']) {
      const diaries = await heardBy(sender, () => sender.emit({}, event, 1));
      for (const [n, client] of clients.entries()) {
        assert.deepEqual(diaries[n], [[event, 1]], `${client.name}: ${event}`);
      }
    }
  });

  test("rooms with odd names are just rooms", async (t) => {
    await withGuests(t);
    for (const room of ODD_ROOMS) {
      await allGuests("join", room);
      for (const [sender, who] of senders()) {
        const diaries = await heardBy(sender, () => sender.emit({ rooms: [room] }, "odd", room));
        for (const { name, diary } of guests) {
          assert.deepEqual(diary, [["odd", room]], `${name} in ${room}, from ${who}`);
        }
        assert.deepEqual(diaries.flat(), [], `${room}, from ${who}`);
      }
      await allGuests("leave", room);
    }
  });

  test("a room is no longer reached when it has been left", async (t) => {
    await withGuests(t);
    const [sender] = fleet.nodes;
    for (const [event, expected] of Object.entries({ join: [["now"]], leave: [] })) {
      await allGuests(event, "left");
      await heardBy(sender, () => sender.emit({ rooms: ["left"] }, "now"));
      for (const { name, diary } of guests) assert.deepEqual(diary, expected, name);
    }
  });

  test("volatile emits reach whoever keeps up, once each", async () => {
    for (const [sender, who] of senders()) {
      const to = { rooms: ["one"], flags: ["volatile"] };
      const diaries = await heardBy(sender, async () => {
        for (const n of range(20)) {
          await fence(sender);
          await sender.emit(to, "perhaps", n);
        }
      });
      for (const [n, client] of clients.entries()) {
        const numbers = diaries[n].map(([, number]) => number);
        const rising = numbers.every((it, at) => at === 0 || it > numbers[at - 1]);
        assert.ok(rising, `${client.name}, from ${who}: ${numbers}`);
        const reached = client.rooms.includes("one");
        assert.ok(reached ? numbers.length > 0 : numbers.length === 0, `${client.name}, ${who}`);
      }
    }
  });

  test("volatile emits miss whoever is behind", async () => {
    const room = "behind";
    const open = (server) => Laggard.open(server, ["join", { room }]);
    const laggards = await Promise.all(fleet.servers.map(open));
    await fleet.untilSubscribed(room, fleet.servers.length);
    for (const [sender] of senders()) {
      const hint = (...args) => sender.emit({ rooms: [room], flags: ["volatile"] }, ...args);
      const word = (...args) => sender.emit({ rooms: [room] }, ...args);
      await missHints(laggards, hint, word);
    }
    await Promise.all(laggards.map((it) => it.close()));
  });

  test("local emits stay local", async () => {
    const [sender] = fleet.nodes;
    const diaries = await heardBy(sender, () => sender.emit({ flags: ["local"] }, "here"));
    for (const [n, client] of clients.entries()) {
      assert.deepEqual(diaries[n], client.server === sender ? [["here"]] : [], client.name);
    }
  });

  test("order is kept", async () => {
    const reached = [() => true, (rooms) => rooms.includes("one"), (rooms) => rooms.length > 0];
    const rooms = [[], ["one"], ["one", "two"]];
    const diaries = await heardBy(fleet.nodes[0], async () => {
      const emits = range(600).map((n) => fleet.nodes[0].emit({ rooms: rooms[n % 3] }, "n", n));
      await Promise.all(emits);
    });
    for (const [n, client] of clients.entries()) {
      const mine = range(600).filter((it) => reached[it % 3](client.rooms));
      const heard = diaries[n].map(([, number]) => number);
      assert.deepEqual(heard, mine, client.name);
    }
  });

  test("over polling, too", async (t) => {
    await withGuests(t, { transports: ["polling"] });
    await allGuests("join", "polled");
    const [sender] = fleet.nodes;
    const args = ["text", VALUES["binary among other things"], { last: true }];
    await heardBy(sender, () => sender.emit({ rooms: ["polled"] }, "polled", ...args));
    assert.equal(guests[0].diary.length, 1);
    for (const { name, diary } of guests) assert.deepEqual(diary, guests[0].diary, name);
  });
}

async function open(server, name, rooms, options) {
  const socket = server.client({ username: "interop" }, options);
  const fences = collect(socket, "fence");
  const diary = keep(socket);
  await connected(socket);
  for (const room of rooms) await ok(socket, "join", { room });
  return { name: `${name} of ${server.url}`, server, socket, rooms, diary, fences };
}

// Four clients of a server: in no room, in one, in the other, in both.
function openOn(server, index) {
  return Promise.all(SETS.map((rooms) => open(server, `server ${index} in [${rooms}]`, rooms)));
}

// All that a client hears but fences and Throng's own words. Where it can be recovered, an offset is
// behind everything.
function keep(socket) {
  const diary = [];
  socket.onAny((event, ...args) => {
    if (event === "fence" || event === "presence") return;
    if (socket._pid) assert.match(args.pop(), /^[0-9a-f.]+$/, "an offset");
    diary.push([event, ...args]);
  });
  return diary;
}

// Large values are not printed when they differ.
function same(actual, expected, ...what) {
  const large = JSON.stringify(expected).length > 20_000;
  if (!large) return assert.deepStrictEqual(actual, expected, what.join(", "));
  assert.ok(isDeepStrictEqual(actual, expected), what.join(", "));
}
