// The scripts of the differential suite, each a function of a recording client. `SOCKET` runs on
// socket.io-client, `ENGINE` on engine.io-client alone, `DEATH` while the server ends.

import { pause, range } from "./events.mjs";

const MAX = 1_000_000;
const RECONNECT = {
  reconnection: true,
  reconnectionDelay: 50,
  reconnectionDelayMax: 50,
  randomizationFactor: 0,
};

const bytes = (size, first = 0) => Buffer.from(range(size, first).map((n) => n % 256));
const BINARIES = [
  [bytes(4)],
  [bytes(0)],
  [bytes(1), bytes(2, 9)],
  [{ a: bytes(3), b: [{ c: bytes(4, 7) }, "text", bytes(5)] }],
  ["text", bytes(5000), 1, { deep: { deeper: [bytes(2000, 3)] } }],
  [new Uint8Array([1, 2, 3])],
  [new Uint8Array([1, 2, 3]).buffer],
  range(10).map((n) => bytes(n * 100)),
];

const EVENTS = [
  [],
  [null],
  [undefined],
  [undefined, 1],
  [0, -1, 1.5, 1e21, 1e-7, Number.MAX_SAFE_INTEGER, -0, 0.1 + 0.2],
  [true, false, ""],
  [[], {}, [[]], [{}]],
  [{ a: { b: [{ c: null, d: [1, [2, [3]]] }] }, z: 1, b: undefined }],
  ["é", "日本語", "😀", "\u2028\u2029", "\ud83d", "\0\x01\x1e", '"\\/\b\f\n\r\t', "</script>"],
  [{ é: 1, "😀": 2, "": 3, "a.b": 4, __proto__x: 5 }],
  ["x".repeat(5000), "ü".repeat(5000)],
  [new Date(1_700_000_000_000), NaN, Infinity],
  ["1-/,[", '{"_placeholder":true}', "42[]"],
  [range(1000)],
  range(100),
];

// Everything sent so far has been answered.
async function fence(client, socket, nsp = "/") {
  const reply = await socket.timeout(20_000).emitWithAck("message-with-ack", "fence");
  client.add(nsp, "fence", reply);
}

export const SOCKET = {
  connect: async (client) => {
    const socket = await client.open();
    const { engine } = socket.io;
    client.add("engine", "settings", engine._pingInterval, engine._pingTimeout, engine._maxPayload);
    client.add("/", "ids differ", engine.id !== socket.id);
  },

  "connect with auth": async (client) => {
    const byFunction = (give) => give({ by: "function" });
    const auths = [{}, { token: "x", deep: { list: [1, null, "é"] } }, byFunction];
    for (const [n, auth] of auths.entries()) {
      const socket = client.socket(client.manager(), "/", { auth });
      socket.connect();
      await client.seen("/", "auth", n + 1);
      socket.disconnect();
      await client.seen("/", "disconnect", n + 1);
    }
    // each engine upgrades or is gone before it can: not the same twice
    delete client.lanes.engine;
  },

  "second namespace": async (client) => {
    const socket = await client.open();
    const custom = client.socket(socket.io, "/custom", { auth: { n: 1 } });
    custom.connect();
    await client.seen("/custom", "auth");
    for (const n of range(20)) (n % 2 ? socket : custom).emit("message", n);
    await fence(client, socket);
    await fence(client, custom, "/custom");
    custom.disconnect();
    await fence(client, socket);
    custom.connect();
    await client.seen("/custom", "auth", 2);
    socket.disconnect();
    await fence(client, custom, "/custom");
    custom.disconnect();
    await client.seen("engine", "close");
  },

  "unknown namespace": async (client) => {
    const socket = await client.open();
    const nowhere = client.socket(socket.io, "/nowhere", { auth: { token: 1 } });
    nowhere.connect();
    await client.seen("/nowhere", "connect_error");
    await fence(client, socket);
    nowhere.connect();
    await client.seen("/nowhere", "connect_error", 2);
    await fence(client, socket);
  },

  "nothing but an unknown namespace": async (client) => {
    const manager = client.manager();
    client.socket(manager, "/nowhere").connect();
    await client.seen("/nowhere", "connect_error");
    await client.seen("engine", "close");
    delete client.lanes.engine; // a manager without a socket closes, in the middle of its probe
  },

  "wrong path": async (client) => {
    client.socket(client.manager({ path: "/nothing/" })).connect();
    await client.seen("/", "connect_error");
  },

  events: async (client) => {
    const socket = await client.open();
    for (const args of EVENTS) socket.emit("message", ...args);
    await client.seen("/", "message-back", EVENTS.length);
    socket.emit("nobody", 1);
    socket.emit("日本", { a: 1 });
    socket.emit("");
    socket.emit(1, 2);
    await fence(client, socket);
  },

  "events before connect": async (client) => {
    const socket = client.socket(client.manager());
    for (const n of range(5)) socket.emit("message", n);
    socket.volatile.emit("message", "lost");
    socket.connect();
    await client.seen("/", "message-back", 5);
    await client.settled(socket.io);
    await fence(client, socket);
  },

  binary: async (client) => {
    const socket = await client.open();
    for (const args of BINARIES) {
      socket.emit("message", ...args);
      socket.emit("message", "between");
    }
    await client.seen("/", "message-back", 2 * BINARIES.length);
    const custom = client.socket(socket.io, "/custom");
    custom.connect();
    for (const args of BINARIES) custom.emit("message", ...args);
    await client.seen("/custom", "message-back", BINARIES.length);
  },

  "eleven attachments": async (client) => {
    if (client.transports[0] === "polling" && !client.upgrades) return; // see "malformed"
    const socket = await client.open();
    socket.emit("message", ...range(11).map((n) => bytes(n)));
    await client.seen("/", "disconnect");
  },

  // Not over polling: Node resets the POST and answers the GET, and which of the two the client
  // sees first makes its reason.
  malformed: async (client) => {
    if (client.transports[0] === "polling" && !client.upgrades) return;
    for (const [n, packet] of ["abc", "2{}", '2["disconnect"]', "2/custom,[1]"].entries()) {
      const socket = client.socket(client.manager());
      socket.connect();
      await client.seen("/", "auth", n + 1);
      await client.settled(socket.io, n + 1);
      socket.io.engine.write(packet);
      await client.seen("/", "disconnect", n + 1);
    }
  },

  acks: async (client) => {
    const socket = await client.open();
    for (const args of [...EVENTS, ...BINARIES]) {
      socket.emit("message-with-ack", ...args, (...back) => client.add("/", "ack", ...back));
    }
    await client.seen("/", "ack", EVENTS.length + BINARIES.length);
    const many = range(200).map((n) => socket.emitWithAck("message-with-ack", n));
    client.add("/", "all", await Promise.all(many));
  },

  "acks that never come": async (client) => {
    const socket = await client.open();
    const error = await socket
      .timeout(150)
      .emitWithAck("nobody", 1)
      .catch((e) => e);
    client.add("/", "late", error);
    socket.timeout(150).emit("nobody", "no ack", (e) => client.add("/", "timed out", e));
    await client.seen("/", "timed out");
    await fence(client, socket);
  },

  // not settled first: the upgrade comes in the middle of it
  "many messages": async (client) => {
    const socket = client.socket(client.manager());
    socket.connect();
    for (const n of range(1000)) socket.emit("message", n);
    await client.seen("/", "message-back", 1000);
    await client.settled(socket.io);
  },

  "many messages, binary among them, during the upgrade": async (client) => {
    const socket = client.socket(client.manager());
    socket.connect();
    for (const n of range(60)) {
      socket.emit("message", n);
      socket.emit("message", n, bytes(n));
      if (n % 3 === 0) await pause(2);
    }
    await client.seen("/", "message-back", 120);
    await client.settled(socket.io);
    await fence(client, socket);
  },

  "near maxPayload": async (client) => {
    const socket = await client.open();
    const overhead = '42["message",""]'.length;
    const fitting = "x".repeat(MAX - overhead);
    for (const text of [fitting, "é".repeat(400_000), "after"]) {
      socket.emit("message", text);
    }
    await client.seen("/", "message-back", 3);
    socket.emit("message", bytes(700_000), "with a binary");
    await client.seen("/", "message-back", 4);
  },

  "over maxPayload": async (client) => {
    const socket = await client.open();
    socket.emit("message", "x".repeat(MAX + 100_000));
    await client.seen("/", "disconnect");
  },

  "over maxPayload, binary": async (client) => {
    const socket = await client.open();
    socket.emit("message", bytes(MAX + 100_000));
    await client.seen("/", "disconnect");
  },

  volatile: async (client) => {
    const socket = await client.open();
    socket.volatile.emit("message", "on an idle connection");
    await client.seen("/", "message-back");
    socket.disconnect();
    await client.seen("engine", "close");
    socket.volatile.emit("message", "volatile while away"); // over WebSocket the client keeps it
    socket.emit("message", "while away");
    socket.connect();
    await client.seen("/", "auth", 2);
    await client.settled(socket.io, 2);
    await fence(client, socket);
  },

  "client disconnects": async (client) => {
    const socket = await client.open();
    socket.emit("message", "last words");
    await client.seen("/", "message-back");
    socket.disconnect();
    await client.seen("engine", "close");
    socket.connect();
    await client.seen("/", "auth", 2);
    await client.settled(socket.io, 2);
    await fence(client, socket);
  },

  "manager closes": async (client) => {
    const socket = await client.open();
    const custom = client.socket(socket.io, "/custom");
    custom.connect();
    await client.seen("/custom", "auth");
    socket.io._close();
    await client.seen("/custom", "disconnect");
    await client.seen("engine", "close");
  },

  "engine closes, client reconnects": async (client) => {
    const socket = await client.open(RECONNECT);
    const { id } = socket;
    socket.io.engine.close();
    await client.seen("/", "disconnect");
    socket.emit("message", "meanwhile");
    await client.seen("/", "message-back");
    await client.settled(socket.io, 2);
    client.add("/", "same id", id === socket.id);
    await fence(client, socket);
  },

  "transport is lost, client reconnects": async (client) => {
    const socket = await client.open(RECONNECT);
    const custom = client.socket(socket.io, "/custom");
    custom.connect();
    await client.seen("/custom", "auth");
    client.abort(socket.io.engine);
    await client.seen("/custom", "disconnect");
    socket.emit("message", "meanwhile");
    await client.seen("/", "message-back");
    await client.seen("/custom", "auth", 2);
    await client.settled(socket.io, 2);
    await fence(client, socket);
    await fence(client, custom, "/custom");
  },
};

export const ENGINE = {
  echo: async (client) => {
    const engine = await client.openEngine();
    const texts = ["hello", "", "é日本😀", "\0\x1f\u2028", "4", "b", "x".repeat(5000)];
    for (const text of texts) engine.send(text);
    for (const size of [0, 1, 125, 5000]) engine.send(bytes(size));
    await client.seen("engine", "message", texts.length + 4);
    engine.close();
    await client.seen("engine", "close");
  },

  // not settled first: the upgrade comes in the middle of it
  "many messages": async (client) => {
    const engine = client.engine();
    await client.seen("engine", "open");
    for (const n of range(1000)) engine.send(n % 10 ? `${n}` : bytes(n));
    await client.seen("engine", "message", 1000);
    if (client.upgrades) await client.seen("engine", "upgrade");
    const { engine: lane } = client.lanes;
    client.lanes = {
      messages: lane.filter(([what]) => what === "message"),
      engine: lane.filter(([what]) => what !== "message"),
    };
  },

  "near and over maxPayload": async (client) => {
    const engine = await client.openEngine();
    engine.send("x".repeat(MAX - 1));
    await client.seen("engine", "message");
    engine.send(bytes(740_000));
    await client.seen("engine", "message", 2);
    engine.send("x".repeat(MAX + 100_000));
    await client.seen("engine", "close");
  },

  "closes right after sending": async (client) => {
    const engine = await client.openEngine();
    engine.send("one");
    await client.seen("engine", "message");
    engine.close();
    await client.seen("engine", "close");
  },

  "wrong path": async (client) => {
    client.engine({ path: "/nothing/" });
    await client.seen("engine", "close");
  },

  "transport is lost": async (client) => {
    const engine = await client.openEngine();
    client.abort(engine);
    await client.seen("engine", "close");
  },
};

// `begin` until all is settled, `end` once the server is gone.
export const DEATH = {
  js: {
    begin: async (client) => {
      const socket = await client.open();
      const custom = client.socket(socket.io, "/custom");
      custom.connect();
      await client.seen("/custom", "auth");
    },
    end: async (client) => {
      await client.seen("/", "disconnect");
      await client.seen("/custom", "disconnect");
    },
  },
  engine: {
    begin: (client) => client.openEngine(),
    end: (client) => client.seen("engine", "close"),
  },
};
