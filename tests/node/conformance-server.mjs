// The conformance application on npm's own `socket.io` and `engine.io`: what Throng's example
// `conformance` must be indistinguishable from. Takes the same flags; SIGTERM ends it.
//
//   node conformance-server.mjs --port N [--ping-interval MS] [--ping-timeout MS]
//     [--max-payload BYTES] [--connect-timeout MS] [--recovery MS] [--cors ORIGIN] [--workers N]

import http from "node:http";
import { parseArgs } from "node:util";
import { Server as EngineServer } from "engine.io";
import { Server } from "socket.io";

const EXIT_MS = 200; // what SIGTERM leaves to the last packets

const names = ["port", "ping-interval", "ping-timeout", "max-payload", "connect-timeout"];
names.push("recovery", "cors", "workers");
const { values } = parseArgs({
  options: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
});
const number = (name, otherwise) => Number(values[name] ?? otherwise);

const shared = {
  pingInterval: number("ping-interval", 25_000),
  pingTimeout: number("ping-timeout", 20_000),
  maxHttpBufferSize: number("max-payload", 1e6),
  ...(values.cors ? { cors: { origin: values.cors } } : {}),
};
const recovery = number("recovery", 0);

const server = http.createServer((request, response) => {
  response.writeHead(404).end();
});

const io = new Server(server, {
  ...shared,
  connectTimeout: number("connect-timeout", 45_000),
  serveClient: false,
  ...(recovery ? { connectionStateRecovery: { maxDisconnectionDuration: recovery } } : {}),
});

function serve(socket) {
  socket.emit("auth", socket.handshake.auth);
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => {
    const ack = args.pop();
    if (typeof ack === "function") ack(...args);
  });
}

io.on("connection", serve);
io.of("/custom").on("connection", serve);

const raw = new EngineServer(shared);
raw.attach(server, { path: "/engine.io/" });
raw.on("connection", (socket) => socket.on("data", (data) => socket.send(data)));

process.on("SIGTERM", () => {
  io.close();
  raw.close();
  setTimeout(() => process.exit(0), EXIT_MS);
});

server.listen(number("port", 3000), "::");
