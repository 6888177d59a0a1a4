// Proves: the same between servers that speak the sharded adapter's protocol (Redis 7's sharded
// channels), which no classic server hears, in each mode of that adapter: which rooms and sockets have
// a channel of their own.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, collect, eventually, once } from "./events.mjs";
import { TARGET, startFleet } from "./fleet.mjs";
import { broadcasts } from "./interop-broadcasts.mjs";
import { requests } from "./interop-asking.mjs";

const plan = {
  adapter: "sharded",
  hosts: [{ MAX_WORKERS: 3 }, { MAX_WORKERS: 1, RECOVERY_WINDOW: "60s" }],
  nodes: [{}, { client: "ioredis" }],
};
broadcasts(plan);
requests(plan);

for (const mode of ["static", "dynamic-private"]) {
  const smaller = { adapter: "sharded", mode, hosts: [{ MAX_WORKERS: 2 }], nodes: [{}, {}] };
  broadcasts(smaller);
  // All modes ask by the same channel; in this one those who are asked have channels, too.
  if (mode === "dynamic-private") requests({ ...smaller, from: [0] });
  describe(`channels, ${mode}`, () => channels(mode));
}

function channels(mode) {
  const app = "servers";
  let fleet;
  let people; // on Node's server, on the host
  before(async () => {
    const hosts = [{ MAX_WORKERS: 2, RECOVERY_WINDOW: "60s" }];
    fleet = await startFleet({ adapter: "sharded", mode, app, hosts, nodes: [{ app }] });
    people = await Promise.all(fleet.servers.map((it) => it.connect("somebody")));
    for (const it of people) await ask(it, "enter", "here");
    await fleet.untilSubscribed("here", people.length);
    await fleet.untilHeardOf(people);
  });
  after(() => fleet?.stop());

  test("what is for one room or one socket alone is heard, both ways", async () => {
    for (const [n, sender] of people.entries()) {
      const other = people[1 - n];
      const heard = people.map((it) => collect(it, `word ${n}`));
      sender.emit("cast", ["here"], [], `word ${n}`, "to all");
      sender.emit("cast", [other.id], [], `word ${n}`, "to one");
      await heard[1 - n].until((items) => items.length === 2);
      assert.deepEqual(heard[1 - n].items.sort(), ["to all", "to one"]);
      await heard[n].until((items) => items.length === 1);
      assert.deepEqual(heard[n].items, ["to all"]);
    }
  });

  test("a socket that comes back is still heard", { skip: TARGET === "node" }, async () => {
    const quick = { reconnection: true, reconnectionDelay: 20 };
    const traveller = await fleet.hosts[0].connect("traveller", quick);
    await fleet.untilHeardOf([traveller]);
    const { id } = traveller;
    const words = collect(traveller, "word");
    for (const count of [1, 2]) {
      const back = once(traveller, "connect");
      traveller.io.engine.close();
      people[0].emit("cast", [id], [], "word", "perhaps missed");
      await back;
      assert.deepEqual([traveller.recovered, traveller.id], [true, id]);
      await words.until((items) => items.length === count);
    }
    traveller.disconnect();
  });

  // By its name each room and socket with a channel of its own, and how many servers hear it.
  async function found() {
    const [redis] = fleet.redis.nodes;
    const all = await redis.sendCommand(["PUBSUB", "SHARDCHANNELS", "socket.io#/#*#"]);
    const counts = await redis.sendCommand(["PUBSUB", "SHARDNUMSUB", ...all]);
    const names = all.map((it) => it.slice("socket.io#/#".length, -1));
    const pairs = names.map((name, n) => [name, Number(counts[2 * n + 1])]);
    return pairs.filter(([name]) => !/^(throng-[0-9a-f]{8}|[0-9a-f]{16})$/.test(name)).sort();
  }

  test("just those rooms and sockets have channels that the mode gives one", async () => {
    const ids = people.map((it) => [it.id, 1]);
    const expected = mode === "static" ? [] : [["here", 2], ...ids].sort();
    await eventually(async () => assert.deepEqual(await found(), expected));
    for (const it of people) it.disconnect();
    await eventually(async () => assert.deepEqual(await found(), []));
  });
}
