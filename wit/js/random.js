// `Math.random` with a seed of each request. The engine's own generator is seeded while a component
// is built, so every call would get the same numbers. Imported before the handler's modules.
import { insecureSeed } from "wasi:random/insecure-seed@0.2.12";

const engine = Math.random;
// The state of the generator sfc32; null until the first number of a call.
let state = null;
let running = false;

// Starts a call. Until then the engine's numbers are used, because a build has no request.
export function start() {
  running = true;
}

Math.random = () => {
  if (!running) return engine();
  state ??= seeded();
  return ((next(state) >>> 5) * 2 ** 26 + (next(state) >>> 6)) / 2 ** 53;
};

function seeded() {
  const halves = insecureSeed().map(BigInt);
  const words = halves.flatMap((half) => [Number(half & 0xffffffffn), Number(half >> 32n)]);
  return Int32Array.from(words, (word) => word | 0);
}

// The next 32 bits.
function next(state) {
  const [a, b, c, count] = state;
  const bits = (((a + b) | 0) + count) | 0;
  state[0] = b ^ (b >>> 9);
  state[1] = (c + (c << 3)) | 0;
  state[2] = (((c << 21) | (c >>> 11)) + bits) | 0;
  state[3] = (count + 1) | 0;
  return bits >>> 0;
}
