// Proves: what a Node server emits through the classic adapter, through its old versions or through
// the emitter reaches exactly the sockets it should on every Throng host and every Node server,
// once and unchanged.

import { broadcasts } from "./interop-broadcasts.mjs";

broadcasts({
  adapter: "classic",
  emitter: true,
  hosts: [{ MAX_WORKERS: 3 }, { MAX_WORKERS: 1, RECOVERY_WINDOW: "60s" }],
  nodes: [{}, { adapter: "classic-7", client: "ioredis" }, { adapter: "classic-6" }],
});
