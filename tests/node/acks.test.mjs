// Proves: every request is acknowledged, with `unknown_event` for names the engine does not know,
// concurrent ones each with their own answer, and no bad request closes the connection.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ask, ok, range, refused } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

test("names nobody knows are unknown_event", async () => {
  const ada = await engine.connect("ada");
  for (const name of [
    "nope",
    "Join",
    "join ",
    "",
    "toString",
    "__proto__",
    "presence",
    "x".repeat(5000),
    "日本",
  ]) {
    await refused("unknown_event", ada, name, { room: "a" });
  }
  await refused("unknown_event", ada, "nope");
  await refused("unknown_event", ada, "nope", Buffer.from([1]), "more");
});

test("without an acknowledgement asked for, nothing comes back and nothing breaks", async () => {
  const ada = await engine.connect("ada");
  const heard = [];
  ada.onAny((event) => heard.push(event));
  ada.emit("nope", 1);
  ada.emit("join");
  ada.emit("join", { room: "" });
  ada.emit("message", { room: "nowhere", body: 1 });
  await ok(ada, "join", { room: "fence", presence: false });
  assert.deepEqual(heard, []);
});

test("many under way at once are each answered with their own", async () => {
  const ada = await engine.connect("ada");
  const replies = await Promise.all(
    range(300).map((n) =>
      n % 3 === 0
        ? ask(ada, "nope", n)
        : ask(ada, "join", n % 3 === 1 ? `room-${n % 50}` : { room: 5 }),
    ),
  );
  for (const [n, reply] of replies.entries()) {
    if (n % 3 === 0) assert.equal(reply.error.code, "unknown_event");
    else if (n % 3 === 1) assert.equal(reply.room, `room-${n % 50}`);
    else assert.equal(reply.error.code, "invalid");
  }
});

test("more arguments than one are invalid or ignored, never fatal", async () => {
  const ada = await engine.connect("ada");
  await ask(ada, "join", { room: "a" }, { room: "b" }, [1, 2, 3]);
  await ok(ada, "join", "a");
});

test("binary where text is asked for is invalid", async () => {
  const ada = await engine.connect("ada");
  await refused("invalid", ada, "join", Buffer.from("lobby"));
  await refused("invalid", ada, "join", { room: Buffer.from("lobby") });
  await ok(ada, "join", "a");
});
