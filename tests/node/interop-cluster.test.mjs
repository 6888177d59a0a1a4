// Proves: the same on a Redis Cluster, where Node servers add up the subscribers of all masters and
// a host that subscribed to each would count as many. (Order is not kept there by anybody.)

import { requests } from "./interop-asking.mjs";

const hosts = [{ MAX_WORKERS: 2 }, { MAX_WORKERS: 1 }];
const settings = { requestsTimeout: 2000 };
requests({
  adapter: "classic",
  cluster: true,
  hosts,
  nodes: [{ settings }, { client: "ioredis", settings }],
  from: [0],
});
requests({ adapter: "sharded", cluster: true, hosts, nodes: [{}, {}], from: [0] });
