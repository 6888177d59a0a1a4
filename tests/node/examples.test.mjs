// Proves: the examples `chat` and `acks` do what their first lines promise, with stock clients.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { freePort } from "./engine.mjs";
import { ask, collect, connected, eventually, once, pause, range, within } from "./events.mjs";
import { blink, comesBack, traveller } from "./recovery.mjs";

const FOLDER = resolve(
  process.env.THRONG_EXAMPLES ?? join(import.meta.dirname, "../../target/release/examples"),
);

class Example {
  clients = [];
  output = "";

  async start(name, args = []) {
    const program = join(FOLDER, name);
    assert.ok(existsSync(program), `no ${program}: build the examples or set THRONG_EXAMPLES`);
    this.port = await freePort();
    const line = [program, "--port", `${this.port}`, ...args];
    const command = existsSync("/usr/bin/setpriv")
      ? ["setpriv", "--pdeathsig", "KILL", "--", ...line]
      : line;
    this.child = spawn(command[0], command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    process.on("exit", () => this.child.kill("SIGKILL"));
    this.exited = new Promise((done) => this.child.once("exit", (code) => done({ code })));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.output += text));
    }
    await eventually(async () => assert.match(this.output, /http:\/\/localhost:/));
    return this;
  }

  // By WebSocket, since the examples take 50 connections from one address.
  client(auth, { url = `http://127.0.0.1:${this.port}`, ...options } = {}) {
    const transports = ["websocket"];
    const socket = io(url, { forceNew: true, reconnection: false, transports, auth, ...options });
    this.clients.push(socket);
    return socket;
  }

  async connect(auth, options) {
    const socket = this.client(auth, options);
    await connected(socket);
    return socket;
  }

  async stop() {
    for (const socket of this.clients) socket.disconnect();
    this.child.kill("SIGTERM");
    const how = await within(this.exited, 10_000);
    this.child.kill("SIGKILL");
    assert.deepEqual(how, { code: 0 }, this.output);
    assert.doesNotMatch(this.output, /panicked/);
  }
}

describe("chat", () => {
  let chat;
  before(async () => {
    chat = await new Example().start("chat");
  });
  after(() => chat?.stop());

  // What is said arrives as `said` with the name and the words.
  const listen = (socket) => {
    const said = [];
    socket.on("said", (...args) => said.push(args));
    return said;
  };

  test("everybody in a room hears what anybody says", async () => {
    const [ann, bob, cy] = await Promise.all(
      ["ann", "bob", "cy"].map((name) => chat.connect({ name })),
    );
    const heard = [ann, bob, cy].map(listen);
    for (const it of [ann, bob]) await ask(it, "enter", "lobby");
    await ask(cy, "enter", "other");
    ann.emit("say", "lobby", "hello");
    bob.emit("say", "lobby", 'so "what"');
    await eventually(async () => assert.equal(heard[0].length + heard[1].length, 4));
    for (const it of heard.slice(0, 2)) {
      assert.deepEqual(it.sort(), [
        ["ann", "hello"],
        ["bob", 'so "what"'],
      ]);
    }
    assert.deepEqual(heard[2], []);
  });

  test("who left or never came neither says nor hears", async () => {
    const [ann, bob] = await Promise.all(["ann", "bob"].map((name) => chat.connect({ name })));
    const heard = [ann, bob].map(listen);
    for (const it of [ann, bob]) await ask(it, "enter", "hall");
    await ask(bob, "leave", "hall");
    bob.emit("say", "hall", "nobody hears this");
    bob.emit("say", "nowhere", "nor this");
    await ask(bob, "enter", "elsewhere");
    ann.emit("say", "hall", "alone");
    await eventually(async () => assert.equal(heard[0].length, 1));
    assert.deepEqual(heard, [[["ann", "alone"]], []]);
  });

  test("a client that begins with polling can do all that", async () => {
    const transports = ["polling", "websocket"];
    const ann = await chat.connect({ name: "ann" }, { transports });
    const heard = listen(ann);
    await ask(ann, "enter", "polling");
    ann.emit("say", "polling", "hello");
    await eventually(async () => assert.deepEqual(heard, [["ann", "hello"]]));
  });

  test("a name is asked for", async () => {
    for (const auth of [undefined, {}, { name: 5 }]) {
      await assert.rejects(chat.connect(auth), (error) => {
        assert.equal(error.message, "say your name");
        assert.deepEqual(error.data, { code: "invalid" });
        return true;
      });
    }
  });

  test("wrong arguments are answered, other events are named", async () => {
    const ann = await chat.connect({ name: "ann" });
    assert.deepEqual(await ask(ann, "enter", 5), { error: "invalid arguments" });
    assert.deepEqual(await ask(ann, "enter"), { error: "invalid arguments" });
    const unknown = once(ann, "unknown");
    ann.emit("dance", 1, 2);
    assert.equal(await unknown, "dance");
  });

  test("it tells who comes and goes", async () => {
    const eve = await chat.connect({ name: "eve" });
    eve.disconnect();
    await eventually(async () => assert.match(chat.output, /eve is here[^]*eve is gone: /));
  });
});

for (const workers of [1, 3]) {
  describe(`acks, ${workers} shards`, { concurrency: 8 }, () => {
    let acks;
    before(async () => {
      acks = await new Example().start("acks", ["--workers", `${workers}`]);
    });
    after(() => acks?.stop());

    const voters = async (count, room) => {
      const all = await Promise.all(range(count).map(() => acks.connect()));
      for (const it of all) await ask(it, "enter", room);
      return all;
    };

    test("a vote in which everybody answers", async () => {
      const all = await voters(12, "all");
      const outside = await acks.connect();
      outside.on("vote", () => assert.fail("it is in no room"));
      for (const [n, it] of all.entries()) it.on("vote", (q, answer) => answer(`${q} ${n % 2}`));
      const begun = performance.now();
      const { asked, answers } = await ask(all[0], "ask", "all", "Pizza?");
      assert.ok(performance.now() - begun < 3000, "does not wait for its timeout");
      assert.equal(asked, 12);
      const expected = range(12).map((n) => `Pizza? ${n % 2}`);
      assert.deepEqual(answers.sort(), expected.sort());
    });

    test("a vote in which one is silent ends after five seconds", async () => {
      const all = await voters(4, "silent");
      for (const it of all.slice(1)) it.on("vote", (question, answer) => answer({ yes: true }, 2));
      let late;
      all[0].on("vote", (question, answer) => (late = answer));
      const begun = performance.now();
      const { asked, answers } = await ask(all[1], "ask", "silent", "Well?");
      const took = performance.now() - begun;
      assert.ok(took > 4500 && took < 7000, `${took} ms`);
      assert.deepEqual([asked, answers], [4, range(3).map(() => ({ yes: true }))]);
      late("too late");
      assert.deepEqual(await ask(all[0], "enter", "after"), undefined, "nothing is broken");
    });

    test("votes at once do not mix, and nobody to ask is an answer", async () => {
      const all = await voters(6, "many");
      for (const it of all) it.on("vote", (question, answer) => answer(question));
      const votes = range(20).map((n) => ask(all[n % 6], "ask", "many", `q${n}`));
      for (const [n, vote] of votes.entries()) {
        assert.deepEqual(await vote, { asked: 6, answers: range(6).map(() => `q${n}`) });
      }
      assert.deepEqual(await ask(all[0], "ask", "empty", "?"), { asked: 0, answers: [] });
    });

    test("others are told who came in", async () => {
      const [ann] = await voters(1, "door");
      const news = new Promise((done) => ann.on("news", (...args) => done(args)));
      const [bob] = await voters(1, "door");
      const told = await within(news, 5000);
      assert.deepEqual(told.slice(0, 2), [bob.id, "came in"]);
    });

    test("typing reaches others", async () => {
      const [ann, bob] = await voters(2, "typing");
      await pause(50);
      const heard = collect(bob, "typing");
      ann.on("typing", () => assert.fail("only others are told"));
      ann.emit("typing", "typing");
      await heard.until((items) => items.length === 1);
    });

    test("who comes back is welcomed, and has missed nothing", async (t) => {
      const bob = await traveller(t, acks, undefined, ["polling", "websocket"]);
      const { socket } = bob;
      const { id } = socket;
      const news = [];
      socket.on("news", (who, what) => news.push([who, what]));
      await ask(socket, "enter", "back");
      assert.deepEqual(await blink(bob), { event: "connect", id, recovered: true });
      bob.proxy.refuses = true;
      socket.io.engine.close();
      const came = await voters(3, "back");
      await eventually(async () => assert.ok(!socket.connected));
      assert.deepEqual(await comesBack(bob), { event: "connect", id, recovered: true });
      const welcomes = () => bob.diary.filter((it) => it.event === "welcome back");
      await eventually(async () => assert.deepEqual(welcomes().map((it) => it.data), [1, 2]));
      assert.deepEqual(
        news,
        came.map((it) => [it.id, "came in"]),
      );
    });

    test("who is away is not asked", async (t) => {
      const bob = await traveller(t, acks, undefined);
      await ask(bob.socket, "enter", "away");
      const [ann] = await voters(1, "away");
      ann.on("vote", (question, answer) => answer(1));
      bob.proxy.refuses = true;
      bob.proxy.kill();
      await pause(300); // until the server knows
      assert.deepEqual(await ask(ann, "ask", "away", "?"), { asked: 1, answers: [1] });
    });
  });
}
