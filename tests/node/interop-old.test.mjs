// Proves: a Node server with the adapter's version 6, of Socket.IO 3's time, takes part as far as
// it can: what it asks is answered, and what Throng does to all sockets is done to its own. It
// knows no questions to clients or servers: whoever asks one waits for it until the time is over.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startFleet } from "./fleet.mjs";
import { ask, collect, eventually, ok } from "./events.mjs";
import { requests } from "./interop-asking.mjs";

const settings = { requestsTimeout: 2000 };
const nodes = [{ settings }, { adapter: "classic-6", settings }];
const hosts = [{ MAX_WORKERS: 2 }, { MAX_WORKERS: 1 }];
requests({ adapter: "classic", hosts, nodes, from: [1] });

describe("done by Throng to an old server", () => {
  let fleet;
  let old;
  let chief;
  let people; // one on each server, in `here`
  const ids = () => people.map((it) => it.id).sort();
  before(async () => {
    fleet = await startFleet({ adapter: "classic", app: "servers", hosts, nodes });
    old = fleet.nodes[1];
    chief = await fleet.hosts[0].connect("chief");
    people = await Promise.all(fleet.servers.map((it) => it.connect("person")));
    for (const [at, it] of people.entries()) {
      if (fleet.servers[at].options?.app === "plain") await ok(it, "join", { room: "here" });
      else await ask(it, "enter", "here");
    }
  });
  after(() => fleet?.stop());

  test("its sockets and rooms are listed", async () => {
    const { answers } = await ask(chief, "fetch", ["here"]);
    assert.deepEqual(answers.map((it) => it.id).sort(), ids());
    const all = (await ask(chief, "rooms")).answers;
    assert.deepEqual([...new Set(all)].sort(), [...ids(), chief.id, "here"].sort());
  });

  test("its sockets join, hear and leave", async () => {
    const untilIn = (room, expected) =>
      eventually(async () => {
        const found = await old.call("fetch", { rooms: [room] });
        assert.deepEqual(found.map((it) => it.id).sort(), expected);
      });
    chief.emit("joinAll", ["here"], "there");
    await untilIn("there", ids());
    const heard = people.map((it) => collect(it, "word"));
    const word = { of: [Buffer.of(1, 2), "é💬", 2 ** 53 - 1] };
    for (const rooms of [[], ["there"], ["there", "none"]]) {
      chief.emit("cast", rooms, [], "word", word);
    }
    for (const it of heard) {
      const items = await it.until(({ length }) => length === 3);
      assert.deepEqual(items, [word, word, word]);
    }
    chief.emit("leaveAll", ["there"], "there");
    await untilIn("there", []);
  });

  test("its sockets are disconnected", async () => {
    for (const close of [false, true]) {
      const doomed = await old.connect("doomed");
      const reason = new Promise((done) => doomed.once("disconnect", done));
      chief.emit("disconnectAll", [doomed.id], close);
      assert.equal(await reason, "io server disconnect");
    }
  });

  test("questions end without it, with all other answers, and leave it unharmed", async () => {
    for (const [at, it] of people.entries()) it.on("question", (answer) => answer(at));
    const { answers } = await ask(chief, "ask", ["here"], "question", 500);
    const expected = [...people.keys()].filter((at) => fleet.servers[at] !== old);
    assert.deepEqual(answers.sort(), expected);
    const heard = fleet.nodes[0].heard.length;
    chief.emit("tellServers", "tell", "all");
    await eventually(async () => assert.equal(fleet.nodes[0].heard.length, heard + 1));
    const pids = (await ask(chief, "askServers", "ask", "why", 500)).answers.map((it) => it.pid);
    assert.deepEqual(pids.filter((it) => it === fleet.nodes[0].child.pid).length, 1);
    assert.ok(!pids.includes(old.child.pid));
    const found = await old.call("fetch", { rooms: ["here"] });
    assert.deepEqual(found.map((it) => it.id).sort(), ids());
  });
});
