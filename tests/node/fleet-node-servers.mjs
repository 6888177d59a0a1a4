// A likeness of Throng's example `servers` for npm's server: an application that does to the sockets
// of all servers what its clients say. Proves that what is expected of the example is Node's way.

export function servers(socket, io) {
  const to = (rooms, except = []) =>
    except.reduce(
      (it, room) => it.except(room),
      rooms.reduce((it, room) => it.to(room), io),
    );
  const told = (responses) => ({ asked: responses.length, answers: responses });
  const answered = (ack) => (error, responses) => ack(told(responses));

  socket.on("enter", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("cast", (rooms, except, event, value) => to(rooms, except).emit(event, value));
  socket.on("hint", (rooms, event, value) => to(rooms).volatile.emit(event, value));
  socket.on("ask", (rooms, event, ms, ack) => {
    to(rooms).timeout(ms).emit(event, answered(ack));
  });
  socket.on("fetch", async (rooms, ack) => {
    const sockets = await to(rooms).fetchSockets();
    ack(told(sockets.map((it) => ({ id: it.id, rooms: [...it.rooms] }))));
  });
  socket.on("rooms", async (ack) => ack(told([...(await io.adapter.allRooms())])));
  socket.on("tellServers", (event, value) => io.serverSideEmit(event, value));
  socket.on("askServers", (event, value, ms, ack) => {
    io.serverSideEmit(event, value, answered(ack));
  });
  socket.on("joinAll", (rooms, room) => to(rooms).socketsJoin(room));
  socket.on("leaveAll", (rooms, room) => to(rooms).socketsLeave(room));
  socket.on("disconnectAll", (rooms, close) => to(rooms).disconnectSockets(close));
}
