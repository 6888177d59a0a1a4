// What stands between clients and servers, over TCP: takes connections, and joins each with one of
// its own to a server. How, says whoever extends it. Knows bytes, nothing of what they mean.

import net from "node:net";

export class Pairs {
  pairs = new Set(); // both sides of each connection: `near` and `far`
  refuses = false; // new connections are cut at once

  async listen(accept) {
    this.server = net.createServer(accept);
    await new Promise((done) => this.server.listen(0, "127.0.0.1", done));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
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

  stop() {
    this.kill();
    this.server.close();
  }
}
