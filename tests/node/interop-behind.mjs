// Who is behind, for npm's server and for Throng alike: a client over polling that has no GET under
// way. Volatile events are not for it; all others wait for its next GET.

import assert from "node:assert/strict";
import { eventually, pause, range } from "./events.mjs";
import { RS, openPolling } from "./wire.mjs";

const SPARE_MS_MAX = 1000; // a GET is given up after some seconds

let tries = 0;

export class Laggard {
  #session;
  #packets = []; // arrived, not looked at yet

  // In a room by `enter`, the event and its argument that take it there.
  static async open(server, enter) {
    const laggard = new Laggard();
    laggard.#session = await openPolling(server.port, "/socket.io/");
    await laggard.#session.send('40{"username":"laggard"}');
    await laggard.#until((it) => it.startsWith("40{"));
    await laggard.#session.send(`420${JSON.stringify(enter)}`);
    await laggard.#until((it) => it.startsWith("430"));
    return laggard;
  }

  async close() {
    await this.#session.send("41");
    await this.#session.send("1");
  }

  // The events that carry `n`, up to the word of it.
  async heard(n) {
    const eventOf = (packet) => {
      if (!packet.startsWith("42")) return null;
      const [event, number] = JSON.parse(packet.slice(2));
      return number === n ? event : null;
    };
    const packets = await this.#until((it) => eventOf(it) === "word");
    return packets.map(eventOf).filter(Boolean);
  }

  // All up to the first that `accept` takes.
  async #until(accept) {
    for (let at = 0; ; at += 1) {
      while (at >= this.#packets.length) this.#packets.push(...(await this.#got()));
      if (accept(this.#packets[at])) return this.#packets.splice(0, at + 1);
    }
  }

  async #got() {
    const packets = (await this.#session.poll()).split(RS);
    if (packets.includes("2")) await this.#session.send("3");
    return packets;
  }
}

// `hint(event, n)` emits a volatile event to all laggards, `word(event, n)` one that is not: with a
// GET under way they hear both, without one only the latter.
//
// What travels may be slow, and a hint and a word need not keep their order: tried again, with more
// time between the steps.
export async function missHints(laggards, hint, word) {
  let spareMs = 5;
  const heard = async (areWaiting) => {
    const n = ++tries;
    spareMs = Math.min(2 * spareMs, SPARE_MS_MAX);
    const listen = () => Promise.all(laggards.map((it) => it.heard(n)));
    const step = async (emit, event) => {
      await emit(event, n);
      await pause(spareMs);
    };
    const steps = async () => {
      await pause(spareMs);
      await step(hint, "hint");
      await step(word, "word");
    };
    if (areWaiting) return (await Promise.all([listen(), steps()]))[0];
    await steps();
    return listen();
  };
  const all = (events) => range(laggards.length).map(() => events);
  await eventually(async () => assert.deepEqual(await heard(true), all(["hint", "word"])));
  await eventually(async () => assert.deepEqual(await heard(false), all(["word"])));
}
