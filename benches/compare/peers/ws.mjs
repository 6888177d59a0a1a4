// The chat's events as plain JSON on npm's ws, in the words of Throng's /ws: the least a Node
// server can do. Rooms are sets; a message is put into words once and handed to every member's
// socket as the same buffer.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

// Node's default backlog of 511 is what a burst of 512 connections overruns.
const BACKLOG = 4096;

const http = createServer();
const server = new WebSocketServer({ server: http, path: "/ws", clientTracking: false });
const rooms = new Map();

function say(socket, id, event, data) {
  socket.send(JSON.stringify({ id, event, data }));
}

function join(socket, name) {
  if (!rooms.has(name)) rooms.set(name, new Set());
  rooms.get(name).add(socket);
  socket.rooms.add(name);
}

function leave(socket) {
  for (const name of socket.rooms) {
    const members = rooms.get(name);
    members.delete(socket);
    if (members.size === 0) rooms.delete(name);
  }
}

function broadcast(data) {
  const text = Buffer.from(JSON.stringify({ event: "message", data }));
  for (const member of rooms.get(data.room) ?? []) member.send(text, { binary: false });
}

function onRequest(socket, { id, event, data }) {
  switch (event) {
    case "connect":
      return say(socket, undefined, "connect", { sid: randomUUID() });
    case "join":
      join(socket, data.room);
      break;
    case "message":
      broadcast(data);
      break;
  }
  if (id !== undefined) say(socket, id, "ack", { ok: true });
}

server.on("connection", (socket) => {
  socket.rooms = new Set();
  socket.on("message", (text) => onRequest(socket, JSON.parse(text)));
  socket.on("close", () => leave(socket));
  socket.on("error", () => {}); // a client that breaks off; `close` follows
});

http.listen({ port: Number(process.env.PORT), host: "0.0.0.0", backlog: BACKLOG });
