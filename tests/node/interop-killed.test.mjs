// Proves: clients on Node servers are told once which members of a room went with a host that was
// killed, whoever else has the room open, and that such a member shares its screen no more. And
// that the members of a host that was only thought dead are back when it is.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { TARGET, killed, startFleet } from "./fleet.mjs";
import { collect, eventually, followRoster, ok, pause, range } from "./events.mjs";

const DEAD_MS_MAX = 60_000; // a host is dead after 9 s without a word
const AWAY_MS_MAX = 60_000;

// npm's adapter has no such word: a Node server that is killed takes its members with it in silence.
for (const adapter of TARGET === "throng" ? ["classic", "sharded"] : []) {
  describe(`hosts that die, ${adapter}`, () => cases(adapter));
}

function cases(adapter) {
  let fleet;
  let node;
  before(async () => {
    const hosts = [{ MAX_WORKERS: 2 }, { MAX_WORKERS: 3 }, { MAX_WORKERS: 1 }];
    fleet = await startFleet({ adapter, hosts, nodes: [{}] });
    [node] = fleet.nodes;
  });
  after(() => fleet?.stop());

  // A room with a client of the Node server and `count` of `host`; the first shares its screen.
  async function roomOn(host, room, count) {
    const nina = await node.connect("nina");
    await ok(nina, "join", { room });
    const clients = await Promise.all(range(count).map((n) => host.connect(`${room} ${n}`)));
    const roster = followRoster(nina, room);
    const [presence, screen] = ["presence", "screen"].map((event) => collect(nina, event));
    for (const it of clients) await ok(it, "join", { room });
    await fleet.untilSubscribed(room, 2);
    const [sharer, ...others] = clients.map((it) => it.id); // lost with their connections
    const ids = [sharer, ...others].sort();
    await ok(clients[0], "screen", { room, sharing: true });
    await eventually(async () => {
      // What comes before the sharded adapter has subscribed is lost: metadata tells of all again.
      for (const it of clients) await ok(it, "update", { room, metadata: { at: Date.now() } });
      assert.deepEqual(roster.ids(), ids);
    });
    const screens = () => screen.items.filter((it) => it.from.id === sharer);
    const about = (key, before) =>
      presence.items.slice(before).filter((it) => it.room === room && it[key]?.length > 0);
    return { room, nina, ids, roster, presence, screens, about };
  }

  test("who was on a killed host has left, once", async (t) => {
    const victim = await fleet.startHost({ MAX_WORKERS: 2 });
    t.after(() => victim.kill());
    const shared = await roomOn(victim, "shared with the living", 3);
    const alone = await roomOn(victim, "of the killed host alone", 2);
    const other = await node.connect("otto");
    await ok(other, "join", { room: "another room" });
    const overheard = collect(other, "presence");
    const ann = await fleet.hosts[1].connect("ann");
    await ok(ann, "join", { room: shared.room });
    const told = collect(ann, "presence");
    await shared.presence.until((items) => items.some((it) => it.joined?.[0].id === ann.id));
    await pause(1000); // what changed last has been told
    const before = new Map([shared, alone].map((it) => [it, it.presence.items.length]));
    await killed(victim);

    for (const it of [shared, alone]) {
      await it.presence.until(() => it.about("left", 0).length > 0, DEAD_MS_MAX);
    }
    const living = fleet.hosts.length;
    const hosts = () => fleet.redis.client.zCard("throng:hosts");
    await eventually(async () => assert.equal(await hosts(), living), DEAD_MS_MAX);
    await ok(ann, "update", { room: shared.room, metadata: { last: true } });
    await shared.presence.until((items) => items.some((it) => it.updated?.[0].id === ann.id));
    await pause(1000); // what would come twice, from another host

    for (const [it, count] of [
      [shared, 1],
      [alone, 0],
    ]) {
      const left = it.about("left", before.get(it));
      assert.equal(left.length, 1, `once: ${JSON.stringify(left)}`);
      assert.deepEqual(Object.keys(left[0]).sort(), ["count", "left", "room"]);
      assert.deepEqual([...left[0].left].sort(), it.ids);
      assert.equal(left[0].count, count);
      assert.deepEqual(it.about("joined", before.get(it)), []);
      const ends = it.screens().filter((screen) => !screen.sharing);
      assert.equal(ends.length, 1, `once: ${JSON.stringify(ends)}`);
      assert.equal(ends[0].room, it.room);
      assert.deepEqual(Object.keys(ends[0].from).sort(), ["id", "name", "user"]);
    }
    assert.deepEqual(shared.roster.ids(), [ann.id]);
    assert.deepEqual(alone.roster.ids(), []);
    const left = told.items.flatMap((it) => it.left ?? []);
    assert.deepEqual(left.sort(), shared.ids, "Throng's own clients as before");
    assert.deepEqual(overheard.items, []);
    [shared.nina, alone.nina, other, ann].forEach((it) => it.disconnect());
  });

  test("who was on a host that was only thought dead is there again", async () => {
    const sleeper = fleet.hosts[2];
    const all = await roomOn(sleeper, "asleep", 2);
    sleeper.child.kill("SIGSTOP");
    try {
      await eventually(async () => assert.deepEqual(all.roster.ids(), []), DEAD_MS_MAX);
      assert.equal(all.roster.counts.at(-1), 0);
    } finally {
      sleeper.child.kill("SIGCONT");
    }
    await eventually(async () => assert.deepEqual(all.roster.ids(), all.ids), AWAY_MS_MAX);
    assert.equal(all.roster.counts.at(-1), all.ids.length);
    await eventually(async () => assert.ok(all.screens().at(-1).sharing, "it shares still"));
    const shown = all.roster.of(all.screens().at(-1).from.id);
    assert.ok(shown.sharing && shown.metadata.at > 0, JSON.stringify(shown));
    all.nina.disconnect();
  });
}
