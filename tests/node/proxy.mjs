// A TCP proxy in front of the engine that breaks connections in every way a network can: cut on
// both sides, gone silent, or deaf in one direction. Knows bytes, nothing of what they mean.

import net from "node:net";

import { Pairs } from "./pairs.mjs";

export function startProxy(port) {
  const proxy = new Proxy();
  return proxy.listen((near) => proxy.accept(near, port));
}

class Proxy extends Pairs {
  accept(near, port) {
    near.on("error", () => {});
    if (this.refuses) return void near.destroy();
    const far = net.connect(port, "127.0.0.1");
    const pair = { near, far, up: true, down: true };
    far.on("error", () => {});
    this.pairs.add(pair);
    near.setNoDelay(true);
    far.setNoDelay(true);
    near.on("data", (bytes) => pair.up && far.write(bytes));
    far.on("data", (bytes) => pair.down && near.write(bytes));
    near.on("close", () => pair.up && this.cut(pair));
    far.on("close", () => pair.down && this.cut(pair));
  }

  // From now on no byte of today's connections arrives anywhere, nor does their end.
  freeze() {
    for (const pair of this.pairs) Object.assign(pair, { up: false, down: false });
  }

  // From now on clients hear nothing on today's connections, though they are heard.
  deafen() {
    for (const pair of this.pairs) pair.down = false;
  }
}
