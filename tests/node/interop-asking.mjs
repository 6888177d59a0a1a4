// The cases of what servers ask of each other, for whichever adapter they speak: who is there, in
// which rooms, to move, to disconnect and to answer. A server that is silent or miscounts makes
// all others wait until they give up; one that is killed must be counted out.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { TARGET, killed, startFleet } from "./fleet.mjs";
import { collect, connected, cut, eventually, ok, once, pause, range } from "./events.mjs";

const HANDSHAKE = {
  headers: "object",
  time: "string",
  address: "string",
  xdomain: "boolean",
  secure: "boolean",
  issued: "number",
  url: "string",
  query: "object",
  auth: "object",
};

// `plan` is `startFleet`'s, and `from`: the Node servers that ask, if not all.
export function requests(plan) {
  const { adapter, mode } = plan;
  describe(`requests, ${mode ? `${adapter} ${mode}` : adapter}`, () => cases(plan));
}

function cases(plan) {
  let fleet;
  let clients; // two on every server: in `even` and in `odd`
  const ids = (some = clients) => some.map((it) => it.socket.id).sort();
  const inRoom = (room) => clients.filter((it) => it.room === room);

  before(async () => {
    fleet = await startFleet(plan);
    clients = (await Promise.all(fleet.servers.map(openOn))).flat();
    for (const room of ["even", "odd"]) await fleet.untilSubscribed(room, fleet.servers.length);
  });
  after(() => fleet?.stop());

  // The version of Node's adapter that knows no questions, to clients or to servers, never answers.
  const asks = { skip: plan.nodes.some(({ adapter }) => adapter === "classic-6") };
  const from = plan.from ?? plan.nodes.keys();
  for (const n of from) describe(`from node ${n}`, () => asking(() => fleet.nodes[n]));

  function asking(node) {
    test("all servers are counted once", async () => {
      assert.equal(await node().call("serverCount"), fleet.servers.length);
    });

    test("all sockets are found, and what is known of them", async () => {
      const found = await node().call("fetch", {});
      assert.deepEqual(found.map((it) => it.id).sort(), ids());
      for (const { socket, room, name } of clients) {
        const { handshake, rooms, data } = found.find((it) => it.id === socket.id);
        assert.deepEqual(rooms.sort(), [socket.id, room].sort(), name);
        for (const [key, type] of Object.entries(HANDSHAKE)) {
          assert.equal(typeof handshake[key], type, `${name}: handshake.${key}`);
        }
        assert.equal(typeof data, "object", name);
      }
    });

    test("what is known of a socket's handshake", async () => {
      const found = await node().call("fetch", {});
      for (const { socket, server, name } of clients) {
        const { handshake } = found.find((it) => it.id === socket.id);
        assert.match(handshake.address, /^(::ffff:)?127\.0\.0\.1$/, name);
        // Throng keeps no more of it: of its sockets the other keys are there, with nothing in them
        if (server.options === undefined) continue;
        assert.equal(handshake.query.EIO, "4", name);
        assert.match(handshake.url, /^\/socket.io\//, name);
        assert.equal(handshake.headers.host, `127.0.0.1:${server.port}`, name);
        assert.ok(Math.abs(Date.now() - handshake.issued) < 300_000, name);
        assert.ok(Math.abs(Date.parse(handshake.time) - handshake.issued) < 2000, name);
      }
    });

    test("sockets are found by room, by id, and left out", async () => {
      const fetched = async (to) => (await node().call("fetch", to)).map((it) => it.id).sort();
      const one = clients.at(-1).socket.id;
      assert.deepEqual(await fetched({ rooms: ["even"] }), ids(inRoom("even")));
      assert.deepEqual(await fetched({ except: ["even"] }), ids(inRoom("odd")));
      assert.deepEqual(await fetched({ rooms: ["even", "odd"] }), ids());
      assert.deepEqual(await fetched({ rooms: [one] }), [one]);
      assert.deepEqual(await fetched({ rooms: ["even", "odd"], except: ["odd", "even"] }), []);
      assert.deepEqual(await fetched({ rooms: ["nobody's"] }), []);
      assert.deepEqual(await fetched({ nsp: "/other" }), []);
    });

    test("many ask at once", async () => {
      const found = await Promise.all(range(50).map(() => node().call("fetch", {})));
      for (const sockets of found) assert.deepEqual(sockets.map((it) => it.id).sort(), ids());
    });

    test("sockets are made to join and to leave", async () => {
      const moved = async (to, some) => {
        await node().call("join", to, ["moved", "too"]);
        await untilIn("moved", ids(some));
        await fleet.untilSubscribed("too", 1);
        const heard = some.map(({ socket }) => once(socket, "hello"));
        await eventually(async () => {
          await node().emit({ rooms: ["too"] }, "hello", 1);
          assert.ok(await Promise.race([Promise.all(heard), pause(100)]));
        });
        await node().call("leave", { rooms: ["moved"] }, ["moved", "too", "never in"]);
        await untilIn("moved", []);
        await untilIn("too", []);
      };
      await moved({ rooms: ["even"] }, inRoom("even"));
      await moved({ except: ["even"] }, inRoom("odd"));
      for (const client of [clients[0], clients.at(-1)]) {
        await moved({ rooms: [client.socket.id] }, [client]);
      }
    });

    const inOrder = { skip: plan.cluster }; // it has several connections
    test(
      "what is said to a room after sockets were made to join it reaches them",
      inOrder,
      async () => {
        const others = clients.filter((it) => it.server !== node()); // itself Node lets miss it
        for (const n of range(10)) {
          const room = `followed ${n}`;
          const heard = others.map(({ socket }) => collect(socket, room));
          const calls = [
            node().call("join", {}, [room]),
            node().emit({ rooms: [room, "none"] }, room, "in"),
            node().call("leave", {}, [room]),
            node().emit({ rooms: [room, "none"] }, room, "out"),
          ];
          await Promise.all([...calls, node().emit({}, room, "end")]);
          const ended = heard.map((it) => it.until((items) => items.includes("end")));
          for (const items of await Promise.all(ended)) assert.deepEqual(items, ["in", "end"]);
        }
      },
    );

    async function untilIn(room, expected) {
      await eventually(async () => {
        const found = await node().call("fetch", { rooms: [room] });
        assert.deepEqual(found.map((it) => it.id).sort(), expected);
      });
    }

    test("sockets are disconnected", async () => {
      for (const close of [false, true]) {
        const doomed = await Promise.all(fleet.servers.map((it) => it.connect("doomed")));
        for (const socket of doomed) await ok(socket, "join", { room: "doomed" });
        const reasons = doomed.map((it) => new Promise((done) => it.once("disconnect", done)));
        await node().call("disconnect", { rooms: ["doomed"] }, close);
        for (const reason of await Promise.all(reasons)) {
          assert.equal(reason, "io server disconnect");
        }
        await untilIn("doomed", []);
      }
      assert.ok(clients.every((it) => it.socket.connected));
    });

    test("clients everywhere answer a broadcast", asks, async () => {
      const everybody = await node().call("ask", {}, 10_000, ["question", "q"]);
      assert.equal(everybody.error, null);
      assert.deepEqual(names(everybody), clients.map((it) => it.name).sort());
      const some = await node().call("ask", { rooms: ["even"] }, 10_000, ["question", "q"]);
      assert.equal(some.error, null);
      assert.deepEqual(
        names(some),
        inRoom("even")
          .map((it) => it.name)
          .sort(),
      );
      const nobody = await node().call("ask", { rooms: ["nobody's"] }, 10_000, ["question", "q"]);
      assert.deepEqual(nobody, { error: null, responses: [] });
    });
    const names = (reply) => reply.responses.map((it) => it.name).sort();

    test("answers of every kind come back", asks, async () => {
      const answers = [null, undefined, 0, -1.5, "text", "", [], { a: [1, { b: null, é: "💬" }] }];
      for (const answer of answers) await echoed(answer);
    });

    test("binary answers come back", asks, async () => {
      for (const answer of [Buffer.from("bin"), { in: [Buffer.from("depth")] }])
        await echoed(answer);
    });

    async function echoed(answer) {
      const reply = await node().call("ask", { rooms: ["odd"] }, 10_000, ["echo", answer]);
      assert.equal(reply.error, null);
      assert.equal(reply.responses.length, inRoom("odd").length);
      for (const got of reply.responses) assert.deepEqual(got ?? null, answer ?? null);
    }

    test("who has gone without a word is neither found nor asked", asks, async () => {
      for (const host of fleet.hosts) {
        const gone = await host.connect("gone");
        const { id } = gone;
        await ok(gone, "join", { room: "even" });
        cut(gone);
        await eventually(async () => {
          assert.deepEqual(await node().call("fetch", { rooms: [id] }), []);
        });
        const reply = await node().call("ask", { rooms: ["even"] }, 10_000, ["question", "q"]);
        assert.equal(reply.error, null);
        assert.deepEqual(
          names(reply),
          inRoom("even")
            .map((it) => it.name)
            .sort(),
        );
      }
    });

    test("a client that is slow is waited for, one that is silent is not", asks, async () => {
      const host = fleet.hosts[0];
      const slow = await host.connect("slow");
      slow.on("question", (q, answer) => setTimeout(answer, 500, { name: "slow" }));
      const expected = ["slow", ...clients.map((it) => it.name)].sort();
      assert.deepEqual(names(await node().call("ask", {}, 10_000, ["question", "q"])), expected);

      let late;
      const silent = await host.connect("silent");
      silent.on("question", (q, answer) => (late = answer));
      const reply = await node().call("ask", {}, 1500, ["question", "q"]);
      assert.match(reply.error, /timed out/);
      assert.deepEqual(names(reply), expected, "the others' answers are there");
      late({ name: "late" });
      silent.disconnect();
      slow.disconnect();
      await eventually(async () => {
        const found = await node().call("fetch", {});
        assert.equal(found.length, clients.length);
      });
      const again = await node().call("ask", {}, 10_000, ["question", "q"]);
      assert.equal(again.error, null);
      assert.deepEqual(names(again), clients.map((it) => it.name).sort());
    });

    test("servers are told and asked", asks, async () => {
      const others = fleet.nodes.filter((it) => it !== node());
      const word = { n: Math.random() };
      await node().call("tell", [word, "and more"]);
      await eventually(async () => {
        for (const { heard } of others) assert.deepEqual(heard.at(-1), [word, "and more"]);
      });
      assert.ok(
        node().heard.every(([first]) => first.n !== word.n),
        "not itself",
      );
      // as between Node servers: who has no listener never answers, and is waited for
      const { error, responses } = await node().call("askServers", ["why"]);
      const expected = fleet.servers.length - 1;
      assert.match(
        error,
        new RegExp(`only ${others.length} responses received out of ${expected}`),
      );
      const pids = others.map((it) => it.child.pid);
      assert.deepEqual(responses.map((it) => it.pid).sort(), pids.sort());
      for (const response of responses) assert.equal(response.question, "why");
    });

    test("all rooms are named", { skip: plan.adapter === "sharded" }, async () => {
      const rooms = await node().call("allRooms");
      assert.deepEqual(rooms.sort(), [...ids(), "even", "odd"].sort());
    });
  }

  const old = plan.nodes.findIndex(({ adapter }) => /classic-[67]/.test(adapter));
  describe("in the old adapter's own way", { skip: old < 0 }, () => {
    test("all sockets are listed", async () => {
      assert.deepEqual((await fleet.nodes[old].call("allSockets")).sort(), ids());
    });

    test("one socket joins, leaves and is disconnected", async () => {
      for (const server of fleet.servers) {
        const socket = await server.connect("moved by hand");
        const rooms = async () => {
          const [found] = await fleet.nodes[old].call("fetch", { rooms: [socket.id] });
          return found.rooms.filter((it) => it !== socket.id);
        };
        await fleet.nodes[old].call("remote", "remoteJoin", socket.id, "by hand");
        assert.deepEqual(await rooms(), ["by hand"]);
        await fleet.nodes[old].call("remote", "remoteLeave", socket.id, "by hand");
        assert.deepEqual(await rooms(), []);
        const reason = new Promise((done) => socket.once("disconnect", done));
        await fleet.nodes[old].call("remote", "remoteDisconnect", socket.id, true);
        assert.equal(await reason, "io server disconnect");
      }
    });
  });

  test("a host that is killed is counted out, and its place can be taken", async () => {
    const [node] = fleet.nodes;
    const [victim] = fleet.hosts;
    let asking = true;
    const outcomes = [];
    const busy = range(4).map(async () => {
      while (asking) outcomes.push(await node.call("fetch", {}).catch((error) => error.message));
    });
    await pause(100);
    await killed(victim);
    const left = clients.filter((it) => it.server !== victim);
    await fleet.untilServers(fleet.servers.length - 1);
    await eventually(async () => {
      const found = await node.call("fetch", {});
      assert.deepEqual(found.map((it) => it.id).sort(), ids(left));
    });
    // whoever asks from now on need not wait for the dead: nothing times out
    for (const at of fleet.nodes.keys()) {
      const found = await Promise.all(range(5).map(() => fleet.nodes[at].call("fetch", {})));
      for (const sockets of found) assert.deepEqual(sockets.map((it) => it.id).sort(), ids(left));
      if (plan.adapter === "sharded") continue;
      const rooms = await fleet.nodes[at].call("allRooms");
      assert.deepEqual(rooms.sort(), [...ids(left), "even", "odd"].sort());
    }
    asking = false;
    await Promise.all(busy);
    const failed = outcomes.filter((it) => typeof it === "string");
    for (const message of failed) assert.match(message, /timeout/);
    assert.ok(outcomes.length > failed.length);
    if (!asks.skip) {
      const reply = await node.call("ask", {}, 5000, ["question", "q"]);
      assert.equal(reply.error, null);
      assert.equal(reply.responses.length, left.length);
    }

    fleet.hosts[0] = await fleet.startHost(plan.hosts[0]);
    await fleet.untilServers(fleet.servers.length);
    const fresh = await fleet.hosts[0].connect("fresh");
    const heard = collect(fresh, "hello");
    await node.emit({}, "hello", "again");
    await heard.until((items) => items.length === 1);
    const found = await node.call("fetch", {});
    assert.deepEqual(found.map((it) => it.id).sort(), [fresh.id, ...ids(left)].sort());
    if (TARGET !== "node") assert.equal(victim.exit.signal, "SIGKILL");
  });
}

function openOn(server, index) {
  const opening = ["even", "odd"].map(async (room) => {
    const name = `${index} ${room}`;
    const socket = server.client({ username: "asked" });
    socket.on("question", (question, answer) => answer({ name, question }));
    socket.on("echo", (value, answer) => answer(value));
    await connected(socket);
    await ok(socket, "join", { room });
    return { name, server, socket, room };
  });
  return Promise.all(opening);
}
