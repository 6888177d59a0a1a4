// Proves: a room of Throng is the room of the same name of Node servers: their clients in it hear
// what is written, who comes and goes, who types and shares, once each, however many hosts there
// are; and what Node servers emit to it Throng's members hear. Also after Redis was away.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { TARGET, startFleet } from "./fleet.mjs";
import { collect, eventually, ok, once, pause, range } from "./events.mjs";
import { BREAKS, comesBack, traveller } from "./recovery.mjs";

const MESSAGES = 50; // from each host
const likeness = TARGET === "node";

for (const adapter of ["classic", "sharded"]) {
  describe(`chat rooms, ${adapter}`, () => cases(adapter));
}

function cases(adapter) {
  let fleet;
  let node;
  let count = 0;
  before(async () => {
    fleet = await startFleet({
      adapter,
      hosts: [{ MAX_WORKERS: 3 }, { MAX_WORKERS: 1, RECOVERY_WINDOW: "60s" }],
      nodes: [{}],
    });
    [node] = fleet.nodes;
  });
  after(() => fleet?.stop());

  // A room of its own with ann and bob on the hosts, nina and otto on the Node server; otto is in
  // another room. What nina hears of an event: `fence` first sees to it that nothing is still to
  // come.
  async function people(room = `room ${++count}`) {
    const [ann, bob] = await Promise.all(fleet.hosts.map((it, n) => it.connect(["ann", "bob"][n])));
    const [nina, otto] = await Promise.all(["nina", "otto"].map((name) => node.connect(name)));
    await ok(nina, "join", { room });
    await ok(otto, "join", { room: `${room}'s neighbour` });
    const heard = { nina: [], otto: [] };
    nina.onAny((event, data) => heard.nina.push({ event, data }));
    otto.onAny((event, data) => heard.otto.push({ event, data }));
    await ok(ann, "join", { room });
    await ok(bob, "join", { room });
    await fleet.untilSubscribed(room, fleet.servers.length);
    const of = (event) => heard.nina.filter((it) => it.event === event).map((it) => it.data);
    const end = () => [ann, bob, nina, otto].forEach((it) => it.disconnect());
    return { room, ann, bob, nina, otto, heard, of, end };
  }

  // Whatever hosts published until now has arrived: each has published something since.
  async function settle({ room, ann, bob, of }) {
    for (const it of [ann, bob]) {
      await ok(it, "screen", { room, sharing: true });
      await ok(it, "screen", { room, sharing: false });
    }
    const done = (it) => of("screen").some(({ from, sharing }) => from.id === it.id && !sharing);
    await eventually(async () => assert.ok(done(ann) && done(bob), "screens"));
    await pause(200); // what would come twice, from another host
  }

  test("messages", async () => {
    const all = await people();
    const { room, ann, bob, nina, otto } = all;
    const told = { ann: collect(ann, "message"), nina: collect(nina, "message") };
    const say = (it, n) => ok(it, "message", { room, body: { n, text: "héllo 💬", more: [null] } });
    await Promise.all(range(MESSAGES).flatMap((n) => [say(ann, n), say(bob, n)]));
    await told.ann.until((items) => items.length === 2 * MESSAGES);
    await told.nina.until((items) => items.length >= 2 * MESSAGES);
    await settle(all);
    const bySeq = (a, b) => a.seq - b.seq;
    assert.deepEqual([...told.nina.items].sort(bySeq), [...told.ann.items].sort(bySeq));
    const seqs = told.ann.items.map((it) => it.seq);
    if (!likeness) assert.deepEqual(seqs, range(2 * MESSAGES, 1), "what npm's adapter can't keep");
    for (const author of [ann, bob]) {
      const numbers = told.nina.items
        .filter((it) => it.from.id === author.id)
        .map((it) => it.body.n);
      assert.deepEqual(numbers, range(MESSAGES), "an author's order");
    }
    const [one] = told.nina.items;
    assert.deepEqual(Object.keys(one).sort(), ["at", "body", "from", "id", "room", "seq"]);
    assert.deepEqual(Object.keys(one.from).sort(), ["id", "name", "user"]);
    assert.deepEqual(all.heard.otto, [], "nobody outside the room");
    assert.ok(otto.connected);
    all.end();
  });

  test("who comes, changes and goes", async () => {
    const all = await people();
    const { room, ann, bob, nina } = all;
    const seen = collect(nina, "presence");
    const changes = (key) => all.of("presence").flatMap((it) => it[key] ?? []);
    const until = (key, n) => eventually(async () => assert.equal(changes(key).length, n, key));
    await until("joined", 2);
    const guests = await Promise.all(range(6).map((n) => fleet.hosts[n % 2].connect(`guest${n}`)));
    await Promise.all(guests.map((it) => ok(it, "join", { room, metadata: { hat: "red" } })));
    await until("joined", 8);
    await seen.until((items) => items.at(-1)?.count === 8);
    await ok(guests[1], "update", { room, metadata: { hat: "blue" } });
    await until("updated", 1);
    await ok(guests[0], "leave", { room });
    await ok(guests[1], "leave", { room });
    guests.slice(2).forEach((it) => it.disconnect());
    await until("left", 6);
    await seen.until((items) => items.at(-1).count === 2);
    await ok(ann, "leave", { room });
    await until("left", 7);
    await ok(bob, "leave", { room });
    await until("left", 8);
    await pause(200); // what would come twice, from another host
    const joined = changes("joined");
    const names = ["ann", "bob", ...guests.map((it) => it.auth.username)].sort();
    assert.deepEqual(joined.map((it) => it.name).sort(), names);
    assert.deepEqual(changes("left").sort(), joined.map((it) => it.id).sort());
    assert.equal(seen.items.at(-1).count, 0);
    const [updated] = changes("updated");
    assert.equal(changes("updated").length, 1);
    assert.deepEqual(updated.metadata, { hat: "blue" });
    for (const event of all.of("presence")) assert.equal(event.room, room);
    const keys = ["id", "joinedAt", "metadata", "name", "sharing", "user"];
    for (const participant of joined) assert.deepEqual(Object.keys(participant).sort(), keys);
    assert.deepEqual(all.heard.otto, []);
    all.end();
  });
  test("who types and who shares the screen", async () => {
    const all = await people();
    const { room, ann, bob, nina } = all;
    const typing = collect(nina, "typing");
    for (const it of [ann, bob]) {
      it.emit("typing", { room, typing: true });
      await typing.until((items) => items.at(-1)?.from.id === it.id);
      it.emit("typing", { room, typing: false });
      await typing.until(
        (items) => items.at(-1).typing === false && items.at(-1).from.id === it.id,
      );
    }
    await settle(all);
    for (const { id } of [ann, bob]) {
      const of = (event) => all.of(event).filter((it) => it.from.id === id);
      const typed = of("typing").map((it) => [it.room, it.typing]);
      const shared = of("screen").map((it) => [it.room, it.sharing]);
      for (const told of [typed, shared])
        assert.deepEqual(told, [
          [room, true],
          [room, false],
        ]);
    }
    assert.deepEqual(all.heard.otto, []);
    all.end();
  });

  for (const room of ["a#b", "*", "42", "ключ 💬", "{x}", "#", "é".repeat(64)]) {
    test(`a room called ${room.slice(0, 20)}`, async () => {
      const all = await people(room);
      const heard = [collect(all.ann, "from node"), collect(all.bob, "from node")];
      await ok(all.ann, "message", { room, body: "out" });
      await node.emit({ rooms: [room] }, "from node", "in");
      await eventually(async () => assert.equal(all.of("message").length, 1));
      assert.equal(all.of("message")[0].body, "out");
      for (const it of heard) await it.until((items) => items.length === 1);
      await settle(all);
      assert.deepEqual(
        heard.map((it) => it.items),
        [["in"], ["in"]],
      );
      assert.equal(all.of("message").length, 1);
      assert.deepEqual(all.heard.otto, []);
      all.end();
    });
  }

  test("what Node emits is heard, and kept nowhere", async () => {
    const all = await people();
    const { room, ann, bob } = all;
    const heard = [ann, bob].map((it) => collect(it, "message"));
    const foreign = { room, from: { name: "nina" }, body: "not numbered", nested: [1.5, null] };
    await node.emit({ rooms: [room] }, "message", foreign);
    for (const it of heard) await it.until((items) => items.length === 1);
    const { seq } = await ok(ann, "message", { room, body: "numbered" });
    assert.equal(seq, 1);
    for (const it of heard) await it.until((items) => items.length === 2);
    for (const { items } of heard) {
      assert.deepEqual(items[0], foreign);
      assert.equal(items[1].body, "numbered");
    }
    const { messages } = await ok(bob, "history", { room });
    assert.deepEqual(
      messages.map((it) => it.body),
      ["numbered"],
    );
    all.end();
  });

  test("binary parts of a message", async () => {
    const all = await people();
    const { room, ann, bob, nina } = all;
    const told = [ann, bob, nina].map((it) => collect(it, "message"));
    const body = { picture: Buffer.from([0, 1, 255]), more: [Buffer.alloc(20_000, 7), "text"] };
    await ok(bob, "message", { room, body });
    for (const it of told) await it.until((items) => items.length === 1);
    for (const { items } of told) assert.deepEqual(items[0].body, body);
    all.end();
  });

  test("Node's members are not participants, Throng's are", async () => {
    const all = await people();
    const { participants, count } = await ok(all.bob, "participants", { room: all.room });
    assert.deepEqual(participants.map((it) => it.name).sort(), ["ann", "bob"]);
    assert.equal(count, 2);
    all.end();
  });

  test("recovery is not upset by what Node emits", { skip: likeness }, async (t) => {
    const all = await people();
    const { room, ann } = all;
    const cy = await traveller(t, fleet.hosts[1], "cy");
    const { id } = cy.socket;
    await ok(cy.socket, "join", { room });
    await ok(ann, "message", { room, body: "before" });
    await node.emit({ rooms: [room] }, "word", "a text at the end");
    await node.emit({ rooms: [room], flags: ["volatile"] }, "hint", "1"); // no offset, but like one
    await eventually(async () => assert.ok(cy.diary.some((it) => it.event === "hint")));
    BREAKS["cut on both sides"](cy);
    await eventually(async () => assert.ok(!cy.socket.connected));
    await ok(ann, "message", { room, body: "meanwhile" });
    await node.emit({ rooms: [room] }, "word", "meanwhile");
    await once(all.bob, "word", 10_000, (it) => it === "meanwhile").catch(() => {});
    const back = await comesBack(cy);
    assert.deepEqual(back, { event: "connect", id, recovered: true });
    const told = cy.diary.filter((it) => ["message", "word"].includes(it.event));
    const words = told.map((it) => it.data.body ?? it.data);
    assert.deepEqual(words, ["before", "a text at the end", "meanwhile", "meanwhile"]);
    all.end();
  });

  test("both ways again after Redis was away", async () => {
    const all = await people();
    const { room, ann, bob } = all;
    await fleet.redis.restart();
    await eventually(async () => {
      await fleet.untilServers(fleet.servers.length);
      const heard = [ann, bob].map((it) => once(it, "back", 2000));
      await node.emit({ rooms: [room] }, "back", 1);
      await Promise.all(heard);
    }, 30_000);
    for (const it of [ann, bob]) {
      await eventually(() => ok(it, "message", { room, body: `${it.id} is back` }), 30_000);
      const found = () => all.of("message").filter((m) => m.body === `${it.id} is back`);
      await eventually(async () => assert.ok(found().length >= 1));
      await pause(200);
      assert.equal(found().length, 1);
    }
    all.end();
  });
}
