// Proves: what the HTTP side answers: health, readiness, metrics in both forms, rooms, JSON errors,
// compression.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { startEngine } from "./engine.mjs";
import { eventually, ok } from "./events.mjs";

let engine;
before(async () => {
  engine = await startEngine({ MAX_WORKERS: 2 });
});
after(() => engine?.stop());

function assertError(answer, status, code) {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers["content-type"], /^application\/json/);
  const { error } = answer.json();
  assert.equal(error.code, code);
  assert.equal(typeof error.message, "string");
}

test("/health says ok and how long it runs", async () => {
  const answer = await engine.http("/health");
  assert.equal(answer.status, 200);
  assert.match(answer.headers["content-type"], /^application\/json/);
  const { status, uptime } = answer.json();
  assert.equal(status, "ok");
  assert.ok(uptime >= 0 && uptime < 600);
});

test("/ready is 200", async () => {
  assert.equal((await engine.http("/ready")).status, 200);
});

test("/metrics is JSON for programs that ask for nothing", async () => {
  for (const accept of [undefined, "*/*", "application/json"]) {
    const answer = await engine.http("/metrics", { headers: accept ? { accept } : {} });
    assert.match(answer.headers["content-type"], /^application\/json/);
    assert.equal(answer.json().shards.length, 2);
  }
});

test("/metrics is Prometheus text for those who ask for it", async () => {
  const asks = [
    ["/metrics?format=prometheus", {}],
    ["/metrics", { accept: "text/plain" }],
    [
      "/metrics",
      {
        accept:
          "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
      },
    ],
  ];
  for (const [path, headers] of asks) {
    const answer = await engine.http(path, { headers });
    assert.match(answer.headers["content-type"], /^(text\/plain|application\/openmetrics-text)/);
    assertExposition(answer.text);
  }
});

// Each sample belongs to a family that has a type, and no series appears twice.
function assertExposition(text) {
  const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (NaN|[+-]Inf|[-+0-9.eE]+)$/;
  const types = new Map();
  const series = new Set();
  for (const line of text.trimEnd().split("\n")) {
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary|info|unknown|untyped)$/.exec(line);
    if (type) types.set(type[1], type[2]);
    if (line.startsWith("#")) continue;
    const match = sample.exec(line);
    assert.ok(match, `not a sample: ${line}`);
    const [, name, labels = ""] = match;
    const family = types.has(name) ? name : name.replace(/_(total|bucket|sum|count|info)$/, "");
    assert.ok(types.has(family), `no TYPE for ${name}`);
    assert.match(name, /^throng_/);
    assert.ok(!series.has(name + labels), `twice: ${name}${labels}`);
    series.add(name + labels);
  }
  assert.ok(series.size > 5);
}

test("rooms, users and events never become labels", async () => {
  const before = (await engine.http("/metrics?format=prometheus")).text.split("\n").length;
  const clients = await engine.connectMany(30, (i) => `label-user-${i}`);
  await Promise.all(clients.map((c, i) => ok(c, "join", `label-room-${i}`)));
  for (const c of clients) c.emit(`label-event-${c.id}`);
  await ok(clients[0], "leave", "label-room-0");
  const { text } = await engine.http("/metrics?format=prometheus");
  assert.doesNotMatch(text, /label-/);
  assert.ok(text.split("\n").length <= before + 10);
  engine.closeClients();
});

test("connections and rooms are counted", async () => {
  await engine.assertEmpty();
  const clients = await engine.connectMany(7);
  for (const [i, c] of clients.entries()) await ok(c, "join", `counted ${i % 3}`);
  await eventually(async () => {
    assert.equal(await engine.metric("rooms"), 3);
    assert.equal(await engine.metric("participants"), 7);
    const connections = await engine.metric("connections");
    assert.ok(connections === 7 || connections === 8, `${connections}`);
  });
  engine.closeClients();
  await engine.assertEmpty();
});

test("/api/rooms pages through the rooms", async () => {
  const ada = await engine.connect("ada");
  const begun = Date.now();
  for (let i = 0; i < 25; i++) await ok(ada, "join", `paged ${i}`);
  await ok(ada, "message", { room: "paged 3", body: 1 });
  const found = [];
  let after;
  do {
    const cursor = after ? `&after=${encodeURIComponent(after)}` : "";
    const page = await engine.json(`/api/rooms?limit=10${cursor}`);
    assert.ok(page.rooms.length <= 10);
    found.push(...page.rooms);
    after = page.next;
  } while (after);
  const own = found.filter((r) => r.id.startsWith("paged "));
  assert.equal(own.length, 25);
  assert.equal(new Set(found.map((r) => r.id)).size, found.length);
  const room = own.find((r) => r.id === "paged 3");
  assert.ok(Math.abs(room.createdAt - begun) < 10_000);
  delete room.createdAt;
  assert.deepEqual(room, { id: "paged 3", participants: 1, sharing: [], lastSeq: 1 });
  engine.closeClients();
  await engine.assertEmpty();
});

test("/api/rooms refuses bad bounds", async () => {
  for (const query of ["limit=x", "limit=-1", "limit=1.5"]) {
    assertError(await engine.http(`/api/rooms?${query}`), 400, "invalid");
  }
});

test("/api/rooms/{id} shows one room, whatever its name", async () => {
  const ada = await engine.connect("ada");
  for (const id of ["plain", "a b", "a/b?c#d", "日本 🎉", "%41"]) {
    await ok(ada, "join", { room: id, metadata: { seat: 1 } });
    await ok(ada, "screen", { room: id, sharing: true });
    const room = await engine.json(`/api/rooms/${encodeURIComponent(id)}`);
    assert.equal(room.id, id);
    assert.equal(room.lastSeq, 0);
    assert.deepEqual(room.sharing, [ada.id]);
    assert.equal(typeof room.createdAt, "number");
    const [me] = room.participants;
    assert.deepEqual([me.id, me.name, me.metadata, me.sharing], [ada.id, "ada", { seat: 1 }, true]);
  }
});

test("what does not exist is a JSON 404", async () => {
  for (const path of [
    "/nope",
    "/api",
    "/api/nope",
    "/api/rooms/nobody",
    "/socket.io",
    "/health/more",
    "/../etc/passwd",
  ]) {
    assertError(await engine.http(path), 404, "not_found");
  }
});

test("another method is a JSON 405", async () => {
  for (const path of ["/health", "/metrics", "/api/rooms"]) {
    const answer = await engine.http(path, { method: "PUT" });
    assert.equal(answer.status, 405);
    assert.equal(typeof answer.json().error.code, "string");
  }
});

test("large answers are compressed for those who ask", async () => {
  const clients = await engine.connectMany(40);
  await Promise.all(
    clients.map((c) => ok(c, "join", { room: "zipped", metadata: "x".repeat(100) })),
  );
  const plain = await engine.http("/api/rooms/zipped");
  assert.equal(plain.headers["content-encoding"], undefined);
  const zipped = await engine.http("/api/rooms/zipped", { headers: { "accept-encoding": "gzip" } });
  assert.equal(zipped.headers["content-encoding"], "gzip");
  assert.deepEqual(JSON.parse(gunzipSync(zipped.bytes)), plain.json());
  const small = await engine.http("/ready", { headers: { "accept-encoding": "gzip" } });
  assert.equal(small.headers["content-encoding"], undefined);
});

test("answers carry the headers that browsers heed", async () => {
  for (const path of ["/health", "/metrics", "/nope"]) {
    const { headers } = await engine.http(path);
    assert.equal(headers["x-content-type-options"], "nosniff", path);
    assert.equal(headers["access-control-allow-origin"], undefined, path);
  }
});

test("a connection that is kept serves request after request", async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < 5; i++) assert.equal((await engine.http("/health", { agent })).status, 200);
  agent.destroy();
});

test("many requests at once are all answered", async () => {
  const answers = await Promise.all(Array.from({ length: 100 }, () => engine.http("/health")));
  for (const { status } of answers) assert.equal(status, 200);
});
