// Proves: who may connect under which name, what a refusal says, that a guest gets a name, and that
// one user may be connected several times.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEngine } from "./engine.mjs";
import { ok, once } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine();
});
after(() => engine?.stop());

async function self(auth) {
  const client = await engine.connect(auth);
  const { participants } = await ok(client, "join", `own-${client.id}`);
  return participants[0];
}

async function refusal(auth) {
  const client = engine.client(auth);
  client.once("connect", () => client.emit("unexpected"));
  const error = await once(client, "connect_error");
  assert.equal(typeof error.message, "string");
  assert.notEqual(error.message, "");
  assert.equal(client.connected, false);
  return error.data?.code;
}

test("names within the rules are kept as given", async () => {
  for (const name of [
    "a",
    "Ada",
    "ada_lovelace",
    "a-b.c",
    "Ada King 2",
    "x".repeat(32),
    "Zoë",
    "李雷",
    "007",
  ]) {
    const me = await self({ username: name });
    assert.equal(me.name, name);
  }
});

test("names against the rules are refused as invalid", async () => {
  const names = [
    "",
    " ",
    "x".repeat(33),
    " ada",
    "ada ",
    "a\tb",
    "a\nb",
    "a\u0000b",
    "<ada>",
    "a/b",
    "a@b",
    "a\u202eb",
    "🎉",
  ];
  for (const name of names)
    assert.equal(await refusal({ username: name }), "invalid", JSON.stringify(name));
  for (const name of [5, true, [], ["ada"], { $ne: null }]) {
    assert.equal(await refusal({ username: name }), "invalid", JSON.stringify(name));
  }
});

test("reserved names are refused, in any case", async () => {
  for (const name of ["admin", "Admin", "SYSTEM", "server"]) {
    assert.equal(await refusal({ username: name }), "forbidden", name);
  }
});

test("without a name one is a guest, each another", async () => {
  const [first, second, third] = [
    await self(undefined),
    await self({}),
    await self({ username: null }),
  ];
  for (const guest of [first, second, third]) assert.match(guest.name, /^.{1,32}$/);
  assert.equal(new Set([first.user, second.user, third.user]).size, 3);
});

test("one user in any spelling of the name, on several connections", async () => {
  const [one, two] = [await self({ username: "Grace" }), await self({ username: "gRACE" })];
  assert.equal(one.user, two.user);
  assert.notEqual(one.id, two.id);
  assert.deepEqual([one.name, two.name], ["Grace", "gRACE"]);
});

test("socket ids have the shape that fleets expect", async () => {
  const client = await engine.connect("shape");
  assert.match(client.id, /^[A-Za-z0-9_-]{20}$/);
});

test("a namespace that does not exist is refused and the connection stays usable", async () => {
  const client = await engine.connect("spaces");
  const other = client.io.socket("/admin");
  const error = await once(other, "connect_error");
  assert.equal(error.message, "Invalid namespace");
  await ok(client, "join", "still here");
});
