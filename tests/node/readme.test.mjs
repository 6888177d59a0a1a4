// Proves: the README's script runs as printed, and two stock clients chat in one room.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { startEngine } from "./engine.mjs";

test("two clients chat in one room", async (t) => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const script = /```js\n([^]*?)```/.exec(readme)[1];
  const file = new URL(`readme-${process.pid}.mjs`, import.meta.url);
  writeFileSync(file, script);
  t.after(() => rmSync(file));
  const engine = await startEngine();
  t.after(() => engine.stop());
  const env = { ...process.env, URL: `http://localhost:${engine.port}` };
  const { stdout } = await promisify(execFile)(process.execPath, [file.pathname], { env, timeout: 20_000 });
  const expected = [
    "ann is in, with ann", "ann is typing", "ann got #1 ann: hello, bob", "bob got #1 ann: hello, bob",
    "ann got #2 bob: hello, ann", "bob got #2 bob: hello, ann",
  ];
  for (const line of expected) assert.ok(stdout.includes(line), `${line} is missing in:\n${stdout}`);
  // ann joined within the same interval or not: both are told then, or bob alone.
  assert.match(stdout, /ann sees \[ ('ann', )?'bob' \] 2/);
});
