// Whom an emit reaches, as plain data: `{nsp, rooms, except, flags}`. For npm's server and for
// `@socket.io/redis-emitter`, whose operators look the same.

export function reach(io, { nsp, rooms = [], except = [], flags = [] } = {}) {
  let operator = nsp ? io.of(nsp) : io;
  for (const room of rooms) operator = operator.to(room);
  for (const room of except) operator = operator.except(room);
  for (const flag of flags) operator = operator[flag];
  return operator;
}
