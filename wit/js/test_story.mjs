// Tests of the text of what a handler threw or printed.
import assert from "node:assert/strict";
import test from "node:test";

import { story, text } from "./story.js";

const without = (thrown, message) => story(thrown, message).replace(/\n +at .*/g, "");

test("what was thrown is told with what is behind it", () => {
  const cause = new TypeError("inner", { cause: "no table" });
  const loop = new Error("loop");
  loop.cause = loop;
  const unreadable = Object.defineProperty(new Error("e"), "message", { get: () => loop.no.such });
  const cyclic = { code: 1 };
  cyclic.self = cyclic;
  for (const [thrown, expected] of [
    [new Error("outer", { cause }), "Error: outer\ncaused by TypeError: inner\ncaused by no table"],
    [new AggregateError([new Error("one", { cause: 1 }), "two"], "many"), "AggregateError: many\nwith Error: one\ncaused by 1\nwith two"],
    [loop, `Error: loop${"\ncaused by Error: loop".repeat(3)}\n…`],
    [{ code: 1, reason: "x", many: Array(99).fill(0) }, `{"code":1,"reason":"x","many":[${Array(16).fill(0)}]}`],
    [{ data: new Uint8Array(1 << 20), big: 2n }, `{"data":[${Array(16).fill(0)}],"big":"2"}`],
    [unreadable, "an error without a readable text"],
    [cyclic, "an object that cannot be shown"],
    [{ get code() { throw cause; } }, "an object that cannot be shown"],
    [Object.create(null), "{}"],
    ["text", "text"],
    [null, "null"],
    [undefined, "undefined"],
    [Symbol("a"), "Symbol(a)"],
    ["x".repeat(2_000), `${"x".repeat(1_000)}…`],
  ]) {
    assert.equal(without(thrown), expected);
  }
  assert.equal(without(new Error("outer", { cause }), "said"), "said\ncaused by TypeError: inner\ncaused by no table");
});

test("only the author's innermost frames are told", () => {
  const error = new Error("e");
  const own = ["refuse (/kit.js:1:1)", "map (native)", "f (/handler.js:2:2)", "/lib/kit.js:3:3"];
  const frames = [...own, ...Array(9).fill("g (/handler.js:4:4)"), "call (/build/js/entry.js:9:9)"];
  error.stack = frames.map((frame) => `    at ${frame}\n`).join("");
  const told = story(error).split("\n    at ");
  assert.deepEqual(told.slice(0, 4), ["Error: e", "f (/handler.js:2:2)", "/lib/kit.js:3:3", "g (/handler.js:4:4)"]);
  assert.equal(told.length, 9);
});

test("what is printed is told whole", () => {
  assert.equal(text({ data: new Float32Array(20) }), `{"data":[${Array(20).fill(0)}]}`);
  assert.match(text(new Error("e")), /^Error: e\n/);
});
