// Where Throng deliberately differs from npm's server, and why. Everything that is not in one of
// these two tables must be equal.

import { KIND } from "./target.mjs";

// For the wire suites: what each server does.
const WIRE = {
  recordsPerGet: {
    node: Infinity,
    throng: 16,
    why: "python-engineio aborts when one body has more than 16 records; others just poll again",
  },
  closePacketOnWebSocket: {
    node: "ignored until the ping timeout",
    throng: "closes",
    why: "the Swift client says `1` before it leaves; why keep its session for 45 s",
  },
  sidCharacters: {
    node: 20,
    throng: 35,
    why: "it also says which shard the session is on, and still has 128 bits nobody can guess",
  },
  foreignOrigin: {
    node: 200,
    throng: 403,
    why: "a page that may not read answers may not make sessions either",
  },
  webSocketOfRevision3: {
    node: 101,
    throng: 400,
    why: "Node switches protocols and then writes an HTTP error into the WebSocket",
  },
  webSocketWithTransportPolling: {
    node: 101,
    throng: 400,
    why: "Node switches protocols only to close; a refusal is cheaper and says why",
  },
};

export function differs(name) {
  return WIRE[name][KIND];
}

// For the differential suite: scripts whose log is not Node's. `throng` makes of Node's log the one
// that Throng must give; the suite fails when the two have become equal.
export const CLIENT = [
  {
    script: "many messages",
    client: "py polling",
    why: "Node answers a poll with all it has, and python-engineio aborts at 17 records",
    throng: (log, others) => others["py websocket"],
  },
];
