// Proves: stock clients cannot tell Throng from npm's Socket.IO server. The same scripts run
// against both, and what the clients lived through must be equal, but for what differences.mjs
// lists with its reason.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { Client } from "./differential-clients.mjs";
import { DEATH, ENGINE, SOCKET } from "./differential-scripts.mjs";
import { CLIENT as DIFFERENCES } from "./differences.mjs";
import { within } from "./events.mjs";
import { KIND, startTarget } from "./target.mjs";

const TRANSPORTS = {
  websocket: ["websocket"],
  polling: ["polling"],
  "polling, then websocket": ["polling", "websocket"],
};
const FAMILIES = { js: SOCKET, engine: ENGINE };
// heartbeats do happen, and a machine that is held up for a second is not taken for a loss
const SETTINGS = { pingInterval: 1000, pingTimeout: 4000, maxPayload: 1e6, connectTimeout: 5000 };
const DYING = { ...SETTINGS, pingTimeout: 1000 };
// whether a heartbeat is on its way when the server ends is chance, with either server
const NO_HEARTBEAT = { ...SETTINGS, pingInterval: 60_000 };
const PYTHON_MS_MAX = 60_000;
const PYTHON = resolve(process.env.PYTHON ?? join(import.meta.dirname, "../../.venv/bin/python"));
const SCRIPT_PY = join(import.meta.dirname, "differential-client.py");

// Node's own server first: what it makes of a script is what the other is measured by.
async function startBoth(settings) {
  const workers = KIND === "node" ? undefined : 2;
  const starts = [startTarget(settings, "node"), startTarget({ ...settings, workers }, KIND)];
  const results = await Promise.allSettled(starts);
  const failed = results.find(({ status }) => status === "rejected");
  if (!failed) return results.map(({ value }) => value);
  for (const { value } of results) value?.kill();
  throw failed.reason;
}

const nodeLogs = {};

// LOGS=FILE keeps Node's logs, which are what is expected.
after(() => process.env.LOGS && writeFileSync(process.env.LOGS, JSON.stringify(nodeLogs)));

function compare(client, script, [node, other]) {
  (nodeLogs[script] ??= {})[client] = node;
  const listed = DIFFERENCES.find((d) => d.client === client && d.script === script);
  if (!listed) return assert.deepEqual(other, node);
  const wanted = listed.throng(node, nodeLogs[script]);
  assert.notDeepEqual(node, wanted, `no longer a difference, take it off the list: ${listed.why}`);
  if (KIND === "throng") assert.deepEqual(other, wanted, listed.why);
}

async function runScript(target, transports, script) {
  const client = new Client(target.url, transports);
  try {
    await script(client);
    return structuredClone(client.lanes);
  } finally {
    client.end();
  }
}

describe("scripts", () => {
  let targets;
  const python = {};
  before(async () => {
    targets = await startBoth(SETTINGS);
  });
  after(async () => {
    for (const target of targets ?? []) await target.stop();
  });

  for (const [family, scripts] of Object.entries(FAMILIES)) {
    for (const [name, transports] of Object.entries(TRANSPORTS)) {
      describe(`${family} ${name}`, () => {
        for (const [script, run] of Object.entries(scripts)) {
          test(script, async () => {
            const logs = await Promise.all(targets.map((t) => runScript(t, transports, run)));
            compare(`${family} ${name}`, script, logs);
          });
        }
      });
    }
  }

  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    test(`py ${name}`, async (t) => {
      const runs = targets.map((target) => startPython(target, transports).log);
      const [node, other] = await Promise.all(runs);
      assert.deepEqual(Object.keys(other), Object.keys(node));
      for (const script of Object.keys(node)) {
        await t.test(script, () => compare(`py ${name}`, script, [node[script], other[script]]));
      }
    });
  }
});

function startPython(target, transports, ...flags) {
  assert.ok(existsSync(PYTHON), `no Python at ${PYTHON}: make setup-python, or set PYTHON`);
  const args = [SCRIPT_PY, target.url, transports.join(), ...flags];
  const child = spawn(PYTHON, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [output, errors] = ["", ""];
  const timer = setTimeout(() => child.kill("SIGKILL"), PYTHON_MS_MAX);
  child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
  const ready = new Promise((done) => {
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output += text;
      if (output.includes("ready\n")) done();
    });
    child.once("close", done);
  });
  const log = new Promise((done, fail) => {
    child.once("error", fail);
    child.once("close", (code) => {
      clearTimeout(timer);
      if (code === 0) done(JSON.parse(output.replace("ready\n", "")));
      else fail(new Error(`${args.join(" ")} ended with ${code}\n${output}\n${errors}`));
    });
  });
  log.catch(() => {}); // whoever waits for it is told
  return { ready, log };
}

// Every kind of client is connected to one server when that ends: `{client: log}`.
async function witness(target, end) {
  const clients = [];
  const pythons = {};
  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    pythons[`py ${name}`] = startPython(target, transports, "--death");
    for (const family of Object.keys(DEATH)) {
      const client = new Client(target.url, transports);
      clients.push({ name: `${family} ${name}`, family, client });
    }
  }
  try {
    await Promise.all(clients.map(({ family, client }) => DEATH[family].begin(client)));
    await Promise.all(Object.values(pythons).map(({ ready }) => ready));
    end(target);
    await Promise.all(clients.map(({ family, client }) => DEATH[family].end(client)));
    const logs = clients.map(({ name, client }) => [name, structuredClone(client.lanes)]);
    for (const [name, { log }] of Object.entries(pythons)) logs.push([name, await log]);
    return Object.fromEntries(logs);
  } finally {
    for (const { client } of clients) client.end();
  }
}

describe("the server ends", () => {
  const ways = {
    "by SIGTERM": ["SIGTERM", NO_HEARTBEAT],
    "by SIGKILL": ["SIGKILL", NO_HEARTBEAT],
    "by SIGSTOP, which leaves the ping timeout": ["SIGSTOP", DYING],
  };
  for (const [name, [signal, settings]] of Object.entries(ways)) {
    const end = (target) => target.signal(signal);
    test(name, async (t) => {
      const targets = await startBoth(settings);
      t.after(() => targets.forEach((target) => target.kill()));
      const [node, other] = await Promise.all(targets.map((target) => witness(target, end)));
      assert.deepEqual(Object.keys(other), Object.keys(node));
      for (const client of Object.keys(node)) {
        await t.test(client, () => compare(client, name, [node[client], other[client]]));
      }
      if (name === "by SIGTERM") {
        for (const target of targets) assert.notEqual(await within(target.exited, 10_000), null);
      }
    });
  }
});

test("every listed difference belongs to a script that exists", () => {
  for (const { client, script } of DIFFERENCES) {
    assert.ok(nodeLogs[script]?.[client], `${client}: ${script}`);
  }
});
