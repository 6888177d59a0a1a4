// Arguments that servers must carry over Redis unchanged: every length and kind that msgpack
// writes differently, and what JavaScript has beyond JSON. Whole numbers beyond 2^64 are left out:
// npm's msgpack breaks them.

const text = (length) => "é".repeat(length / 2) + "x".repeat(length % 2);
const bytes = (length) => Buffer.from(Array.from({ length }, (_, i) => (i * 7) % 256));
const keys = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, i]));

export const VALUES = {
  "no argument": [],
  "small integers": [0, 1, -1, -32, -33, 127, 128, 255, 256, -128, -129],
  "middle integers": [65535, 65536, -32768, -32769, 2 ** 31 - 1, 2 ** 31, -(2 ** 31)],
  "large integers": [
    2 ** 32 - 1,
    2 ** 32,
    -(2 ** 31) - 1,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    2 ** 60,
    -(2 ** 63),
  ],
  fractions: [1.5, -0.1, 1e-7, 5e-324, 123456.789],
  "numbers that JSON lacks": [NaN, Infinity, -Infinity, -0],
  "nothing at all": [null, undefined, { kept: 1, dropped: undefined }, [undefined, null]],
  truths: [true, false],
  strings: [text(0), text(31), text(32), text(255), text(256), text(65535), text(65536)],
  "strings with odd characters": ['"\\/\b\f\n\r\t\u0000\u001f', "\u2028\u2029", "💬👩‍👧", "ünïcödé"],
  arrays: [[], [1], Array(15).fill(1), Array(16).fill(2), Array(70_000).fill(3)],
  objects: [{}, keys(15), keys(16), keys(70_000)],
  nests: [
    { 3: [true], a: { b: [{ c: [[[]]] }] } },
    JSON.parse(`${"[".repeat(40)}${"]".repeat(40)}`),
  ],
  "strange keys": [{ "": 1, "a b": 2, 'q"': 3, ключ: 4, 0: 5, "-1": 6, type: 2, num: 0 }],
  binary: [bytes(0), bytes(1), bytes(255), bytes(256), bytes(70_000)],
  "binary among other things": ["a", { b: [bytes(3), { c: bytes(4) }], d: "e" }, bytes(5), 1],
  // npm's parser takes ten at most
  "many binary parts": [
    { deep: [[{ in: [bytes(0), null, { side: [bytes(1), bytes(300)] }] }]] },
    Array.from({ length: 7 }, (_, i) => ({ [`part ${i}`]: bytes(i) })),
  ],
  "views and buffers": [Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5).buffer],
  dates: [new Date(0), new Date(1_700_000_000_000), { at: [new Date(1_700_000_000_123)] }],
  "far dates": [new Date(-1), new Date(-62_135_596_800_000), new Date(2 ** 34 * 1000)],
  "like a placeholder": [{ _placeholder: true, num: 7 }, { _placeholder: 1 }],
};

const NAMES = ["a#b", "#", "##", "*", "a*", "[a-z]", "?", "42", "-1.5", "1e3", "ключ", "💬", "a b"];
const MARKS = ["socket.io#/#", "{p}", "\\", '"', "one#", "/other"];

// Names of rooms that a channel's name, a pattern or a number could be mistaken for.
export const ODD_ROOMS = [...NAMES, ...MARKS, "x".repeat(128)];
