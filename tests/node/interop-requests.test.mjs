// Proves: whatever a Node server with the classic adapter asks of the fleet, Throng hosts answer as
// Node servers do, in its old version's words too, on the answer channel it listens to.

import { requests } from "./interop-asking.mjs";

const settings = { requestsTimeout: 2000 };
requests({
  adapter: "classic",
  hosts: [{ MAX_WORKERS: 3 }, { MAX_WORKERS: 1, RECOVERY_WINDOW: "60s" }],
  nodes: [
    { settings },
    { adapter: "classic-7", client: "ioredis", settings },
    { settings: { ...settings, publishOnSpecificResponseChannel: true } },
  ],
});
