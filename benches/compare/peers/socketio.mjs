// The chat's events on npm's socket.io, as its documentation's page on performance sets it up:
// ws with its native add-on (bufferutil), and no connection keeps its handshake's request.
// `--defaults` leaves both out. Polling stays on; nobody here uses it.

import { createServer } from "node:http";

const defaults = process.argv.includes("--defaults");
if (defaults) process.env.WS_NO_BUFFER_UTIL = "1"; // ws reads it once, when it is loaded
const { Server } = await import("socket.io");

// Node's default backlog of 511 is what a burst of 512 connections overruns.
const BACKLOG = 4096;

const http = createServer();
const io = new Server(http);

if (!defaults) {
  io.engine.on("connection", (socket) => {
    socket.request = null;
  });
}

io.on("connection", (socket) => {
  socket.on("join", ({ room }, answer) => {
    socket.join(room);
    answer?.({ ok: true, room });
  });
  socket.on("message", (message, answer) => {
    io.to(message.room).emit("message", message);
    answer?.({ ok: true });
  });
});

http.listen({ port: Number(process.env.PORT), host: "0.0.0.0", backlog: BACKLOG });
