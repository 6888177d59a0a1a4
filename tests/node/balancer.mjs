// A TCP load balancer: passes each new connection on to the backend that `choose` names, and to
// another one if that does not answer. Its connections can be cut, refused or left silent as by
// `proxy.mjs`. Knows bytes, nothing of what they mean.

import net from "node:net";

import { Pairs } from "./pairs.mjs";

// Policies: each names the backends' ports in the order to be tried.
export const roundRobin = () => {
  let turn = 0;
  return (ports) => {
    const first = turn++ % ports.length;
    return [...ports.slice(first), ...ports.slice(0, first)];
  };
};
export const firstAlive = () => (ports) => ports;

export function startBalancer(ports, choose = firstAlive()) {
  const balancer = new Balancer(ports, choose);
  return balancer.listen((near) => balancer.accept(near));
}

class Balancer extends Pairs {
  passed = new Map(); // connections so far, by backend

  constructor(ports, choose) {
    super();
    this.ports = ports;
    this.choose = choose;
  }

  accept(near) {
    near.on("error", () => {});
    near.setNoDelay(true);
    if (this.refuses) return void near.destroy();
    near.pause();
    this.reach(near, [...this.choose(this.ports)]);
  }

  reach(near, [port, ...others]) {
    if (port === undefined || near.destroyed) return void near.destroy();
    const far = net.connect(port, "127.0.0.1");
    const next = () => this.reach(near, others);
    far.once("error", next);
    far.once("connect", () => {
      far.off("error", next);
      far.on("error", () => {});
      far.setNoDelay(true);
      this.passed.set(port, (this.passed.get(port) ?? 0) + 1);
      this.join({ near, far, port, silent: false });
    });
  }

  join(pair) {
    const { near, far } = pair;
    if (near.destroyed) return void far.destroy();
    this.pairs.add(pair);
    near.on("data", (bytes) => pair.silent || far.write(bytes));
    far.on("data", (bytes) => pair.silent || near.write(bytes));
    for (const side of [near, far]) side.on("close", () => pair.silent || this.cut(pair));
    near.resume();
  }

  // From now on no byte of today's connections arrives anywhere, nor does their end.
  freeze() {
    for (const pair of this.pairs) pair.silent = true;
  }
}
