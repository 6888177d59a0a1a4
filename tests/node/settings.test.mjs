// Proves: the command line: help, `check`, `config`; and that a wrong setting, one whose feature is
// not there, or a port that is taken ends the start with a message that names it.

import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { freePort, runEngine, startEngine } from "./engine.mjs";

test("--help names the commands and ends with 0", () => {
  const run = runEngine(["--help"]);
  assert.equal(run.code, 0);
  for (const word of ["check", "config", "Usage"]) assert.match(run.stdout, new RegExp(word));
  assert.equal(runEngine(["--version"]).code, 0);
  assert.notEqual(runEngine(["no-such-command"]).code, 0);
});

test("check accepts good settings", async () => {
  const run = runEngine(["check"], { PORT: await freePort(), MAX_WORKERS: 2 });
  assert.equal(run.code, 0, run.stdout + run.stderr);
  assert.notEqual(run.stdout, "");
});

test("config prints what is in effect", () => {
  const run = runEngine(["config"], {
    PORT: 23_456,
    MAX_WORKERS: 3,
    OUTBOX_BYTES: "2MiB",
    PING_INTERVAL: "300ms",
  });
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stdout, /23456/);
  assert.match(run.stdout, /300ms/);
});

const WRONG = [
  ["PORT", "banana"],
  ["PORT", "70000"],
  ["MAX_WORKERS", "0"],
  ["MAX_WORKERS", "-1"],
  ["PING_INTERVAL", "soon"],
  ["MESSAGE_RATE_LIMIT", "5/fortnight"],
  ["OUTBOX_BYTES", "many"],
  ["SLOW_CONSUMER", "ignore"],
];
for (const [name, value] of WRONG) {
  test(`${name}=${value} is refused by name`, () => {
    for (const args of [["check"], []]) {
      const run = runEngine(args, { [name]: value });
      assert.ok(!run.timedOut, "it must not start");
      assert.notEqual(run.code, 0);
      assert.match(run.stderr, new RegExp(name));
      assert.doesNotMatch(run.stderr, /panicked/);
    }
  });
}

const NOT_YET = {
  PROXY_PROTOCOL: "on",
  JWT_SECRET: "x".repeat(32),
  TLS_CERT: "/tmp/cert.pem",
};
for (const [name, value] of Object.entries(NOT_YET)) {
  test(`${name} is refused while its feature is not there`, () => {
    const run = runEngine([], { [name]: value });
    assert.ok(!run.timedOut, "it must not start");
    assert.notEqual(run.code, 0);
    assert.match(run.stderr, new RegExp(name));
    assert.match(run.stderr, /not (yet|there|available|supported|implemented)/i);
  });
}

test("a port that is taken is named", async (t) => {
  const port = await freePort();
  const holder = net.createServer();
  await new Promise((done) => holder.listen(port, done));
  t.after(() => holder.close());
  const run = runEngine([], { PORT: port });
  assert.ok(!run.timedOut, "it must not start");
  assert.notEqual(run.code, 0);
  assert.match(run.stderr, new RegExp(`${port}`));
});

test("the first lines say where to look", async (t) => {
  const engine = await startEngine();
  t.after(() => engine.stop());
  assert.match(engine.output, new RegExp(`${engine.port}`));
  assert.match(engine.output, /\/health/);
});
