// A hostile handler: its config's `behaviour` says what it does. What honest code does by mistake is among it.
import { BadInput, Fault, Tensor, config, log } from "./tensorgate.js";

const tensor = (shape, data, datatype = "FP32") => [new Tensor("x", datatype, shape, data)];
const four = new Uint8Array(4);
const recurse = () => recurse() + 1;

const BEHAVIOURS = {
  loop: () => {
    for (;;);
  },
  recurse,
  hoard: () => {
    const held = [];
    for (;;) held.push(new Uint8Array(1 << 20).fill(1));
  },
  text: () => {
    let text = "ab";
    for (;;) text = `${text}${text}`.split("").join("");
  },
  log: () => {
    for (;;) log.info("again");
  },
  ask: () => {
    for (;;) config("behaviour");
  },
  numbers: () => 7n ** (10n ** 9n),
  backtrack: () => /^(a+)+$/.test(`${"a".repeat(64)}b`),
  generate: () => {
    function* forever() {
      for (;;) yield 1;
    }
    for (const _ of forever());
  },
  deep: () => {
    let nested = [];
    for (let n = 0; n < 1e7; n++) nested = [nested];
    return JSON.stringify(nested);
  },
  proxy: () => {
    const trap = new Proxy({}, { get: () => trap });
    for (let at = trap; ; ) at = at.next;
  },
  getter: () => [
    {
      get name() {
        for (;;);
      },
    },
  ],
  promise: () => new Promise(() => {}),
  fail: () => {
    throw new Fault("x".repeat(1 << 20));
  },
  reject: () => {
    throw new BadInput("no good\nERROR forged");
  },
  throw: () => {
    throw "a text";
  },
  "throw-null": () => {
    throw null;
  },
  "throw-trap": () => {
    throw new Proxy({}, {
      get: () => {
        for (;;);
      },
    });
  },
  global: () => fetch("https://example.com"),
  evaluate: () => new Function("for (;;);")(),
  clock: () => Date.now(),
  nothing: () => undefined,
  "no-tensors": () => [1, 2],
  "no-datatype": () => tensor([1], four, "FP8"),
  negative: () => tensor([-1], four),
  "no-number": () => tensor(["one"], four),
  "no-bytes": () => tensor([1], "text"),
  large: () => tensor([1], new Uint8Array(100 << 20)),
  many: () => Array(1_000).fill(tensor([1], four)[0]),
  "long-name": () => [new Tensor("x".repeat(1 << 20), "FP32", [1], four)],
  surrogate: () => [new Tensor("\ud800", "FP32", [1], four)],
  nan: () => tensor([1], new Uint8Array(Float32Array.of(NaN).buffer)),
  seeded: () => tensor([4], new Uint8Array(Float32Array.of(Math.random(), Math.random(), Math.random(), Math.random()).buffer)),
};

export function preprocess() {
  return BEHAVIOURS[config("behaviour")]();
}
