// A TCP proxy in front of the engine that breaks connections in every way a network can: cut on
// both sides, gone silent, or deaf in one direction. Knows bytes, nothing of what they mean.

import net from "node:net";

export async function startProxy(port) {
  const proxy = new Proxy(port);
  await new Promise((done) => proxy.server.listen(0, "127.0.0.1", done));
  proxy.port = proxy.server.address().port;
  proxy.url = `http://127.0.0.1:${proxy.port}`;
  return proxy;
}

class Proxy {
  pairs = new Set();
  refuses = false; // new connections are cut at once

  constructor(port) {
    this.server = net.createServer((near) => this.accept(near, port));
  }

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

  cut(pair) {
    pair.near.destroy();
    pair.far.destroy();
    this.pairs.delete(pair);
  }

  // Both sides of every connection, without a word.
  kill() {
    for (const pair of [...this.pairs]) this.cut(pair);
  }

  // From now on no byte of today's connections arrives anywhere, nor does their end.
  freeze() {
    for (const pair of this.pairs) Object.assign(pair, { up: false, down: false });
  }

  // From now on clients hear nothing on today's connections, though they are heard.
  deafen() {
    for (const pair of this.pairs) pair.down = false;
  }

  stop() {
    this.kill();
    this.server.close();
  }
}
