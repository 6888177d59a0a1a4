// A likeness of Throng's chat for npm's server, enough to prove the suites' expectations right:
// numbers and rosters in Redis, events in Throng's shapes. Nothing that a fault would not break.

import { randomUUID } from "node:crypto";

export function chat(socket, io, redis) {
  const name = socket.data.name;
  const me = { id: socket.id, user: name, name };
  const members = (room) => `likeness:members:${room}`;
  const participants = async (room) => {
    const all = Object.values(await redis.hGetAll(members(room))).map((it) => JSON.parse(it));
    return all.sort((a, b) => a.joinedAt - b.joinedAt);
  };
  const enter = async (room, change, what) => {
    const before = JSON.parse((await redis.hGet(members(room), me.id)) ?? "{}");
    const participant = { ...me, metadata: {}, sharing: false, joinedAt: Date.now() };
    Object.assign(participant, before, change);
    await redis.hSet(members(room), me.id, JSON.stringify(participant));
    const all = await participants(room);
    if (what) socket.to(room).emit("presence", { room, [what]: [participant], count: all.length });
    return { participants: all, count: all.length };
  };
  const leave = async (room) => {
    await redis.hDel(members(room), me.id);
    const count = await redis.hLen(members(room));
    io.to(room)
      .except(me.id)
      .emit("presence", { room, left: [me.id], count });
  };

  const requests = {
    join: async ({ room, metadata = {}, since = 0 }) => {
      socket.join(room);
      const roster = await enter(room, { metadata }, "joined");
      const told = (await redis.lRange(`likeness:told:${room}`, 0, -1)).map((it) => JSON.parse(it));
      const lastSeq = told.length;
      const messages = told.filter((it) => it.seq > since);
      return { room, ...roster, state: {}, lastSeq, messages, complete: true };
    },
    leave: async ({ room }) => {
      socket.leave(room);
      await leave(room);
    },
    message: async ({ room, body }) => {
      const seq = await redis.incr(`likeness:seq:${room}`);
      const message = { room, id: randomUUID(), seq, from: me, body, at: Date.now() };
      await redis.rPush(`likeness:told:${room}`, JSON.stringify(message));
      io.to(room).emit("message", message);
      return { id: message.id, seq, at: message.at };
    },
    typing: async ({ room, typing }) => {
      socket.to(room).emit("typing", { room, from: me, typing });
    },
    screen: async ({ room, sharing }) => {
      await enter(room, { sharing }, null);
      socket.to(room).emit("screen", { room, from: me, sharing });
    },
    signal: async ({ to, data }) => {
      const found = await io.in(to).fetchSockets();
      if (found.length === 0) throw Object.assign(new Error("nobody"), { code: "not_found" });
      io.to(to).emit("signal", { from: me, data });
    },
    update: ({ room, metadata }) => enter(room, { metadata }, "updated"),
    participants: async ({ room }) => {
      const all = await participants(room);
      return { participants: all, count: all.length };
    },
    history: async ({ room }) => {
      const told = await redis.lRange(`likeness:told:${room}`, 0, -1);
      return { messages: told.map((it) => JSON.parse(it)), more: false };
    },
  };
  for (const [event, answer] of Object.entries(requests)) {
    socket.on(event, async (request, ack) => {
      const asked = typeof request === "string" ? { room: request } : request;
      const reply = await answer(asked).then(
        (value) => ({ ok: true, ...value }),
        ({ code = "invalid", message }) => ({ ok: false, error: { code, message } }),
      );
      if (typeof ack === "function") ack(reply);
    });
  }
  socket.on("disconnecting", () => {
    for (const room of socket.rooms) if (room !== socket.id) leave(room);
  });
}
