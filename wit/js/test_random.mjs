// Tests of `Math.random` in a call, in Node.js with a stand-in for the host's seed.
import assert from "node:assert/strict";
import { register } from "node:module";
import test from "node:test";

// A seed of two numbers of 64 bits, one of them small: the engine may give it as a Number.
const seed = "export const insecureSeed = () => [7, 0xfedcba9876543210n];";
const resolve = `export const resolve = (name, context, next) => name.startsWith("wasi:random/")
  ? { url: ${JSON.stringify(`data:text/javascript,${encodeURIComponent(seed)}`)}, shortCircuit: true }
  : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(resolve)}`);

test("a call has numbers of its seed, also through a function that was kept before", async () => {
  const engine = Math.random;
  const built = await import("./random.js");
  const { random } = Math;
  assert.notEqual(random, engine);
  assert.notEqual(random(), random());
  built.start();
  const numbers = Array.from({ length: 1_000 }, random);
  assert.ok(numbers.every((number) => number >= 0 && number < 1));
  assert.equal(new Set(numbers).size, numbers.length);
  const mean = numbers.reduce((sum, number) => sum + number) / numbers.length;
  assert.ok(Math.abs(mean - 0.5) < 0.05, `${mean}`);
  // Another instance with the same seed.
  const again = await import("./random.js?again");
  again.start();
  assert.deepEqual(Array.from({ length: 1_000 }, Math.random), numbers);
});
