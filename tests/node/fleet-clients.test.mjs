// Proves: stock clients need not know that there are several hosts. What is said, who is there and
// what is signalled crosses hosts as on one; whoever loses its host, or is sent to another by the
// load balancer, goes on there as who it was, under a new id, and misses nothing.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startBalancer } from "./balancer.mjs";
import { TARGET, killed, startFleet } from "./fleet.mjs";
import { collect, connected, eventually, followRoster, ok, once } from "./events.mjs";
import { pause, range, refused } from "./events.mjs";
import { BREAKS, TRANSPORTS, comesBack, keepDiary, settled, story } from "./recovery.mjs";

const likeness = TARGET === "node"; // npm's adapter for Redis neither recovers nor keeps order
const alone = TARGET !== "throng"; // what only several Throng hosts have
const HOST = {
  MAX_WORKERS: 2,
  HISTORY_SIZE: 1000,
  RECOVERY_WINDOW: "30s",
  PING_INTERVAL: "1s",
  PING_TIMEOUT: "2s",
};
const QUICK = {
  reconnection: true,
  reconnectionDelay: 20,
  reconnectionDelayMax: 100,
  randomizationFactor: 0.5,
};
const MISSED = 100;

describe("on several hosts as on one", () => {
  let fleet;
  let ann;
  let bob;
  let count = 0;
  before(async () => {
    fleet = await startFleet({ hosts: [HOST, HOST], adapter: likeness ? "classic" : null });
    [ann, bob] = await Promise.all(fleet.hosts.map((it, n) => it.connect(["ann", "bob"][n])));
  });
  after(() => fleet?.stop());

  async function together() {
    const room = `room ${++count}`;
    await ok(ann, "join", { room });
    await ok(bob, "join", { room });
    return room;
  }

  test("messages: the same for all, in one order, once", async () => {
    const room = await together();
    const told = [ann, bob].map((it) => collect(it, "message"));
    const say = (it, n) => ok(it, "message", { room, body: [it.id, n] });
    const replies = await Promise.all(range(200).flatMap((n) => [say(ann, n), say(bob, n)]));
    for (const it of told) await it.until((items) => items.length === 400);
    await ok(ann, "message", { room, body: "last" });
    for (const it of told) await it.until((items) => items.at(-1).body === "last");
    if (likeness) return;
    const [mine, others] = told.map((it) => it.items.filter((m) => m.room === room));
    assert.deepEqual(mine, others);
    assert.deepEqual(
      mine.map((it) => it.seq),
      range(401, 1),
    );
    for (const { id, seq } of replies) assert.equal(mine[seq - 1].id, id, "as acknowledged");
    for (const { id } of [ann, bob]) {
      const numbers = mine.filter((it) => it.body[0] === id).map((it) => it.body[1]);
      assert.deepEqual(numbers, range(200), "an author's order");
    }
  });

  test("history and what a late comer is told", async () => {
    const room = await together();
    for (const n of range(5)) await ok(n % 2 ? ann : bob, "message", { room, body: n });
    const bodies = ({ messages }) => messages.map((it) => it.body);
    for (const host of fleet.hosts) {
      const late = await host.connect("late");
      const reply = await ok(late, "join", { room, since: 2 });
      assert.deepEqual(bodies(reply), [2, 3, 4]);
      assert.equal(reply.lastSeq, 5);
      assert.deepEqual(bodies(await ok(late, "history", { room })), [0, 1, 2, 3, 4]);
      late.disconnect();
    }
  });

  test("a message sent twice through two hosts is one", { skip: likeness }, async () => {
    const room = await together();
    const told = collect(bob, "message");
    const request = { room, body: "once", clientId: "one-and-only" };
    const first = await ok(ann, "message", request);
    const again = await fleet.hosts[1].connect("ann");
    await ok(again, "join", { room });
    const second = await ok(again, "message", request);
    assert.deepEqual([second.id, second.seq], [first.id, first.seq]);
    await ok(ann, "message", { room, body: "after" });
    await told.until((items) => items.at(-1)?.body === "after");
    assert.deepEqual(
      told.items.map((it) => it.body),
      ["once", "after"],
    );
    again.disconnect();
  });

  test("presence: rosters become the same", async () => {
    const room = `room ${++count}`;
    const rosters = [ann, bob].map((it) => followRoster(it, room));
    const replies = [await ok(ann, "join", { room }), await ok(bob, "join", { room })];
    replies.forEach((it, n) => rosters[n].begin(it.participants));
    assert.equal(replies[1].count, 2, "the count of both hosts");
    const guests = await Promise.all(range(20).map((n) => fleet.hosts[n % 2].connect(`guest${n}`)));
    await Promise.all(guests.map((it) => ok(it, "join", { room, metadata: { hat: "red" } })));
    const same = async (clients) => {
      const ids = clients.map((it) => it.id).sort();
      await eventually(async () => {
        for (const roster of rosters) assert.deepEqual(roster.ids(), ids);
        for (const it of [ann, bob]) {
          const reply = await ok(it, "participants", { room });
          assert.deepEqual(reply.participants.map((p) => p.id).sort(), ids);
          assert.equal(reply.count, ids.length);
        }
        for (const { counts } of rosters) assert.equal(counts.at(-1), ids.length);
      });
    };
    await same([ann, bob, ...guests]);
    await ok(guests[0], "update", { room, metadata: { hat: "blue" } });
    await eventually(async () => {
      for (const it of rosters) assert.deepEqual(it.of(guests[0].id).metadata, { hat: "blue" });
    });
    for (const it of guests.slice(0, 10)) await ok(it, "leave", { room });
    await same([ann, bob, ...guests.slice(10)]);
    guests.forEach((it) => it.disconnect());
    await same([ann, bob]);
  });

  test("typing and screen sharing", async () => {
    const room = await together();
    for (const [from, to] of [
      [ann, bob],
      [bob, ann],
    ]) {
      const typing = once(to, "typing");
      from.emit("typing", { room, typing: true });
      assert.deepEqual([(await typing).from.id, (await typing).room], [from.id, room]);
      const screen = once(to, "screen");
      await ok(from, "screen", { room, sharing: true });
      assert.deepEqual([(await screen).from.id, (await screen).sharing], [from.id, true]);
    }
    const late = await fleet.hosts[0].connect("late");
    const { participants } = await ok(late, "join", { room });
    const sharing = participants.filter((it) => it.sharing).map((it) => it.id);
    assert.deepEqual(sharing.sort(), [ann.id, bob.id].sort());
    late.disconnect();
  });

  test("signals find their socket on any host, and only it", async () => {
    const strays = [ann, bob].map((it) => collect(it, "signal"));
    const guests = await Promise.all(fleet.hosts.map((it, n) => it.connect(`peer${n}`)));
    for (const [from, to] of [guests, [...guests].reverse()]) {
      for (const data of [{ sdp: "x".repeat(5000) }, "ice", null, [1, { a: "é" }]]) {
        const heard = once(to, "signal");
        await ok(from, "signal", { to: to.id, data });
        const signal = await heard;
        assert.deepEqual([signal.from.id, signal.data], [from.id, data]);
      }
    }
    const { id } = guests[1];
    guests[1].disconnect();
    await eventually(() => refused("not_found", guests[0], "signal", { to: id, data: 1 }));
    assert.deepEqual(
      strays.flatMap((it) => it.items),
      [],
    );
    guests[0].disconnect();
  });

  test("HTTP answers for all hosts", { skip: likeness }, async () => {
    const room = await together();
    await ok(ann, "message", { room, body: "over HTTP" });
    await ok(bob, "screen", { room, sharing: true });
    const answers = async (path) => Promise.all(fleet.hosts.map((host) => host.json(path)));
    await eventually(async () => {
      for (const { rooms } of await answers("/api/rooms?limit=1000")) {
        const { participants, sharing, lastSeq } = rooms.find((it) => it.id === room) ?? {};
        assert.deepEqual([participants, sharing, lastSeq], [2, [bob.id], 1]);
      }
      for (const found of await answers(`/api/rooms/${encodeURIComponent(room)}`)) {
        const ids = found.participants.map((it) => it.id).sort();
        assert.deepEqual(ids, [ann.id, bob.id].sort());
      }
      for (const { messages } of await answers(`/api/rooms/${encodeURIComponent(room)}/messages`)) {
        assert.deepEqual(
          messages.map((it) => it.body),
          ["over HTTP"],
        );
      }
    });
  });

  test("a room can be looked at in Redis, while there is anybody", { skip: alone }, async () => {
    const room = await together();
    await ok(ann, "update", { room, metadata: { hat: "red" } });
    await ok(bob, "screen", { room, sharing: true });
    await ok(ann, "message", { room, body: "one" });
    const shown = async () => JSON.parse(await fleet.redis.client.get(`room:${room}`));
    await eventually(async () => {
      const { participants, count, lastSeq } = await shown();
      assert.deepEqual(participants.map((it) => it.id).sort(), [ann.id, bob.id].sort());
      const of = (it) => participants.find(({ id }) => id === it.id);
      assert.deepEqual(of(ann).metadata, { hat: "red" });
      assert.equal(of(bob).sharing, true);
      assert.deepEqual([count, lastSeq], [2, 1]);
    });
    for (const it of [ann, bob]) await ok(it, "leave", { room });
    await eventually(async () => assert.equal(await shown(), null), 30_000);
  });

  test("without SOCKETIO_ADAPTER nothing of it is in Redis", { skip: likeness }, async () => {
    const channels = await fleet.redis.client.sendCommand(["PUBSUB", "CHANNELS", "socket.io*"]);
    assert.deepEqual(channels, []);
  });
});

describe("whoever loses its host", { skip: likeness }, () => {
  // The hosts die in these tests, so each has its own.
  async function begin(t, settings = {}, hosts = 2) {
    const fleet = await startFleet({
      hosts: Array(hosts).fill({ ...HOST, ...settings }),
      adapter: null,
    });
    t.after(() => fleet.kill());
    return fleet;
  }

  // A client behind a balancer of its own that sends it to the first host that lives.
  async function behind(t, fleet, name, transports = ["websocket"], ports) {
    const balancer = await startBalancer(ports ?? fleet.hosts.map((it) => it.port));
    t.after(() => balancer.stop());
    const auth = { username: name };
    const options = { transports, ...QUICK, url: balancer.url, auth };
    const socket = fleet.hosts[0].client(auth, options);
    fleet.hosts[0].clients.delete(socket); // outlives that host
    t.after(() => socket.disconnect());
    const diary = keepDiary(socket);
    await connected(socket);
    await settled(socket, transports);
    return { socket, proxy: balancer, diary, transports };
  }

  function say(client, room, bodies) {
    return Promise.all(bodies.map((body) => ok(client, "message", { room, body })));
  }

  for (const [transport, transports] of Object.entries(TRANSPORTS)) {
    describe(`over ${transport}`, () => {
      for (const way of Object.keys(BREAKS)) {
        test(`${way}: goes on on another host`, async (t) => {
          const fleet = await sharedFleet();
          const room = `${transport} ${way}`;
          const ann = await fleet.hosts[1].connect("ann");
          await ok(ann, "join", { room });
          const bob = await behind(t, fleet, "bob", transports);
          await ok(bob.socket, "join", { room });
          await say(ann, room, range(3));
          BREAKS[way](bob);
          await eventually(async () => assert.ok(!bob.socket.connected), 20_000);
          await say(ann, room, range(MISSED, 3));
          bob.proxy.ports = [fleet.hosts[1].port];
          const back = await comesBack(bob, 20_000);
          assert.equal(back.recovered, true);
          await say(bob.socket, room, ["of bob"]);
          const expected = ["connect", ...range(3 + MISSED), "connect", "of bob"];
          await eventually(async () => assert.equal(story(bob.diary).at(-1), "of bob"));
          assert.deepEqual(story(bob.diary), expected);
          await eventually(async () => {
            const { participants } = await ok(ann, "participants", { room });
            assert.deepEqual(participants.map((it) => it.id).sort(), [ann.id, back.id].sort());
          }, 20_000);
          const signal = once(bob.socket, "signal");
          await ok(ann, "signal", { to: back.id, data: "found" });
          assert.equal((await signal).data, "found");
          ann.disconnect();
        });
      }
    });
  }
  let shared;
  const sharedFleet = () => (shared ??= startFleet({ hosts: [HOST, HOST], adapter: null }));
  after(async () => (await shared)?.stop());

  test("back and forth, ten times", async (t) => {
    const fleet = await sharedFleet();
    const room = "ten times";
    const ports = fleet.hosts.map((it) => it.port);
    const anns = await Promise.all(fleet.hosts.map((it) => it.connect("ann")));
    for (const it of anns) await ok(it, "join", { room });
    const bob = await behind(t, fleet, "bob");
    await ok(bob.socket, "join", { room });
    for (const n of range(10)) {
      BREAKS["cut on both sides"](bob);
      await say(anns[n % 2], room, [n]);
      await eventually(async () => assert.ok(!bob.socket.connected));
      bob.proxy.ports = [ports[(n + 1) % 2]];
      assert.equal((await comesBack(bob)).recovered, true, `${n}`);
    }
    const expected = ["connect", ...range(10).flatMap((n) => [n, "connect"])];
    assert.deepEqual(story(bob.diary), expected);
    anns.forEach((it) => it.disconnect());
  });

  test("before its old host has noticed", async (t) => {
    const fleet = await sharedFleet();
    const room = "half open";
    const ann = await fleet.hosts[0].connect("ann");
    const left = collect(ann, "presence");
    await ok(ann, "join", { room });
    const bob = await behind(t, fleet, "bob");
    await ok(bob.socket, "join", { room });
    bob.proxy.freeze();
    bob.proxy.ports = [fleet.hosts[1].port];
    bob.socket.io.engine.close(); // which the host does not hear of
    const connects = () => bob.diary.filter((it) => it.event === "connect");
    await eventually(async () => assert.equal(connects().length, 2), 20_000);
    assert.equal(connects()[1].recovered, true);
    const { id } = bob.socket;
    await pause(4000); // the old connection's ping timeout is over
    for (const host of fleet.hosts) {
      const witness = await host.connect("witness");
      const { participants } = await ok(witness, "join", { room });
      const there = participants.map((it) => it.id).filter((it) => it !== witness.id);
      assert.deepEqual(there.sort(), [ann.id, id].sort());
      witness.disconnect();
    }
    await say(ann, room, range(3));
    await eventually(async () => assert.equal(story(bob.diary).at(-1), 2));
    assert.deepEqual(story(bob.diary), ["connect", "connect", 0, 1, 2]);
    const signal = once(bob.socket, "signal");
    await ok(ann, "signal", { to: id, data: "still" });
    assert.equal((await signal).data, "still");
    assert.ok(left.items.every((it) => it.count > 0));
    ann.disconnect();
  });

  test("a room left before is not joined again there", async (t) => {
    const fleet = await sharedFleet();
    const ann = await fleet.hosts[1].connect("ann");
    for (const room of ["stays", "goes"]) await ok(ann, "join", room);
    const bob = await behind(t, fleet, "bob");
    for (const room of ["stays", "goes"]) await ok(bob.socket, "join", room);
    await ok(bob.socket, "leave", "goes");
    BREAKS["cut on both sides"](bob);
    await say(ann, "goes", ["not for bob"]);
    await say(ann, "stays", ["for bob"]);
    await eventually(async () => assert.ok(!bob.socket.connected));
    bob.proxy.ports = [fleet.hosts[1].port];
    assert.equal((await comesBack(bob)).recovered, true);
    assert.deepEqual(story(bob.diary), ["connect", "for bob", "connect"]);
    const { participants } = await ok(ann, "participants", { room: "goes" });
    assert.deepEqual(
      participants.map((it) => it.name),
      ["ann"],
    );
    ann.disconnect();
  });

  test("after the window it is told that it is new, and who is away is gone", async (t) => {
    const fleet = await begin(t, { RECOVERY_WINDOW: "1s" });
    const ann = await fleet.hosts[1].connect("ann");
    await ok(ann, "join", "late");
    const bob = await behind(t, fleet, "bob");
    const { id } = bob.socket;
    await ok(bob.socket, "join", "late");
    BREAKS["cut on both sides"](bob);
    await eventually(async () => {
      const { participants } = await ok(ann, "participants", { room: "late" });
      assert.deepEqual(
        participants.map((it) => it.id),
        [ann.id],
      );
    });
    await pause(3000);
    bob.proxy.ports = [fleet.hosts[1].port];
    const back = await comesBack(bob);
    assert.equal(back.recovered, false);
    assert.notEqual(back.id, id);
  });

  test("what was never known is not made up", async (t) => {
    const fleet = await sharedFleet();
    const bob = await behind(t, fleet, "bob");
    const { id } = bob.socket;
    bob.socket._pid = "x".repeat(20);
    BREAKS["cut on both sides"](bob);
    await eventually(async () => assert.ok(!bob.socket.connected));
    bob.proxy.ports = [fleet.hosts[1].port];
    const back = await comesBack(bob);
    assert.equal(back.recovered, false);
    assert.notEqual(back.id, id);
  });

  test("SIGKILL of the host: its clients go on, who does not come back is gone", async (t) => {
    const fleet = await begin(t);
    const room = "killed";
    const ann = await fleet.hosts[1].connect("ann");
    const roster = followRoster(ann, room);
    const seen = collect(ann, "message");
    roster.begin((await ok(ann, "join", { room })).participants);
    const movers = await Promise.all(range(10).map((n) => behind(t, fleet, `mover${n}`)));
    const lost = await Promise.all(range(5).map((n) => fleet.hosts[0].connect(`lost${n}`)));
    for (const it of [...movers.map((m) => m.socket), ...lost]) await ok(it, "join", { room });
    await eventually(async () => assert.equal(roster.ids().length, 16));
    await say(ann, room, range(20));
    const asked = movers.map((it, n) => say(it.socket, room, [`acked ${n}`]));
    await Promise.all(asked);
    await pause(500); // Redis must have heard what has been passed on
    const before = seen.items.length;
    for (const it of movers) it.proxy.refuses = true;
    await killed(fleet.hosts[0]);
    await eventually(async () => assert.ok(movers.every((it) => !it.socket.connected)));
    await say(ann, room, range(MISSED, 20));
    for (const [n, mover] of movers.entries()) {
      const back = await comesBack(mover, 20_000);
      assert.equal(back.recovered, true, `mover ${n}`);
    }
    const there = [ann.id, ...movers.map((it) => it.socket.id)].sort();
    await say(ann, room, ["end"]);
    for (const mover of movers) {
      await eventually(async () => assert.equal(story(mover.diary).at(-1), "end"));
      const told = story(mover.diary).filter((it) => it !== "connect");
      assert.deepEqual(
        told,
        seen.items.map((it) => it.body),
      );
    }
    assert.ok(
      before <= 30 && seen.items.length === 20 + 10 + MISSED + 1,
      "all that was acknowledged",
    );
    await eventually(async () => {
      assert.deepEqual(roster.ids(), there);
      const { participants, count } = await ok(ann, "participants", { room });
      assert.deepEqual(participants.map((it) => it.id).sort(), there);
      assert.equal(count, 11);
    }, 60_000);
  });

  test("SIGTERM of the host: its clients go on elsewhere by themselves", async (t) => {
    const fleet = await begin(t);
    const room = "drained";
    const ann = await fleet.hosts[1].connect("ann");
    await ok(ann, "join", { room });
    const movers = await Promise.all(range(10).map((n) => behind(t, fleet, `mover${n}`)));
    for (const it of movers) await ok(it.socket, "join", { room });
    let talking = true;
    let said = 0;
    const talk = (async () => {
      for (; talking; await pause(5)) await ok(ann, "message", { room, body: said++ });
    })();
    await pause(200);
    fleet.hosts[0].child.kill("SIGTERM");
    await fleet.hosts[0].assertExits();
    for (const [n, mover] of movers.entries()) {
      await eventually(async () => assert.ok(mover.socket.connected), 20_000);
      const back = mover.diary.filter((it) => it.event === "connect").at(-1);
      assert.equal(back.recovered, true, `mover ${n}`);
    }
    await pause(200);
    talking = false;
    await talk;
    for (const mover of movers) {
      const told = () => story(mover.diary).filter((it) => it !== "connect");
      await eventually(async () => assert.equal(told().at(-1), said - 1));
      assert.deepEqual(told(), range(said));
    }
  });
});
