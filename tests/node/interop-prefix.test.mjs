// Proves: with REDIS_KEY_PREFIX hosts are of one fleet with Node servers whose adapter has that
// prefix in its `key` (`channelPrefix` of the sharded one), and with those alone.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { TARGET, startFleet } from "./fleet.mjs";
import { broadcasts } from "./interop-broadcasts.mjs";
import { requests } from "./interop-asking.mjs";
import { collect, eventually, ok } from "./events.mjs";

const prefix = "app1:";
const hosts = [{ MAX_WORKERS: 2 }, { MAX_WORKERS: 1 }];
const settings = { requestsTimeout: 2000 };
const PLANS = [
  { adapter: "classic", nodes: [{ settings }, { adapter: "classic-7", settings }] },
  { adapter: "sharded", nodes: [{}, {}] },
];
broadcasts({ ...PLANS[0], emitter: true, hosts, prefix });
for (const plan of PLANS) requests({ ...plan, from: [0], hosts, prefix });
for (const plan of PLANS) describe(`apart, ${plan.adapter}`, () => apart(plan));

function apart({ adapter }) {
  let fleet;
  let stranger; // on the same Redis, without the prefix
  before(async () => {
    fleet = await startFleet({ adapter, hosts, nodes: [{}], prefix });
    const settings = { key: "socket.io", channelPrefix: "socket.io" };
    stranger = await fleet.startNode({ settings });
  });
  after(async () => {
    await stranger?.stop();
    await fleet?.stop();
  });

  test("who has no prefix is another fleet", async () => {
    const people = await Promise.all([...fleet.servers, stranger].map((it) => it.connect("x")));
    for (const it of people) await ok(it, "join", { room: "same" });
    await fleet.untilSubscribed("same", fleet.servers.length);
    assert.equal(await stranger.call("serverCount"), 1);
    assert.equal(await fleet.nodes[0].call("serverCount"), fleet.servers.length);
    const heard = people.map((it) => collect(it, "word"));
    await stranger.emit({ rooms: ["same"] }, "word", "a stranger's");
    await fleet.nodes[0].emit({ rooms: ["same"] }, "word", "ours");
    await Promise.all(heard.map((it) => it.until((items) => items.length >= 1)));
    const found = (await fleet.nodes[0].call("fetch", {})).map((it) => it.id);
    assert.deepEqual(found.sort(), people.slice(0, -1).map((it) => it.id).sort());
    const own = heard.slice(0, -1);
    for (const it of own) assert.deepEqual(it.items, ["ours"]);
    assert.deepEqual(heard.at(-1).items, ["a stranger's"]);
  });

  test("all channels and keys begin with the prefix", { skip: TARGET !== "throng" }, async () => {
    const ann = await fleet.hosts[0].connect("ann");
    await ok(ann, "join", { room: "mine" });
    await ok(ann, "message", { room: "mine", body: 1 });
    await stranger.stop();
    const [client] = fleet.redis.nodes;
    await eventually(async () => {
      const kind = adapter === "sharded" ? "SHARDCHANNELS" : "CHANNELS";
      const channels = await client.sendCommand(["PUBSUB", kind]);
      const plain = await client.sendCommand(["PUBSUB", "CHANNELS"]);
      const keys = await client.sendCommand(["KEYS", "*"]);
      assert.ok(channels.length > 0 && keys.length > 0);
      const foreign = [...channels, ...plain, ...keys].filter((it) => !it.startsWith(prefix));
      assert.deepEqual(foreign, []);
    });
  });
}
