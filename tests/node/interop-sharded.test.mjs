// Proves: the same between servers that speak the sharded adapter's protocol (Redis 7's sharded
// channels), which no classic server hears.

import { broadcasts } from "./interop-broadcasts.mjs";
import { requests } from "./interop-asking.mjs";

const plan = {
  adapter: "sharded",
  hosts: [{ MAX_WORKERS: 3 }, { MAX_WORKERS: 1, RECOVERY_WINDOW: "60s" }],
  nodes: [{}, { client: "ioredis" }],
};
broadcasts(plan);
requests(plan);
