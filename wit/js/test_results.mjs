// Tests of the check of what a handler returns: in Node.js, without a host.
import assert from "node:assert/strict";
import test from "node:test";

import { tensorsOf } from "./results.js";
import { Fault, Tensor } from "./tensorgate.js";

const tensor = Tensor.of("x", "FP32", [1], [1]);

test("a wrong return is one sentence that says what to return", () => {
  for (const [returned, expected] of [
    [undefined, "preprocess returned undefined: end it with `return`"],
    [null, "preprocess returned null: return an array of tensors"],
    [tensor, "preprocess returned a Tensor: put it into an array"],
    [Promise.resolve([tensor]), "preprocess returned a Promise: write it without `async`"],
    [{ x: [1] }, "preprocess returned an Object: return an array of tensors"],
    [new Float32Array(2), "preprocess returned a Float32Array: return an array of tensors"],
    [1, "preprocess returned a number: return an array of tensors"],
    [[[1, 2]], "preprocess returned an array whose item 0 is an Array: return an array of tensors"],
    [[tensor, undefined], "preprocess returned an array whose item 1 is undefined: return an array of"],
  ]) {
    assert.throws(
      () => tensorsOf("preprocess", returned, Fault),
      (error) => error instanceof Fault && error.message.startsWith(expected),
      expected,
    );
  }
});

test("a tensor that no component can return is named", () => {
  const data = new Uint8Array(4);
  for (const [parts, expected] of [
    [["FP31", [1], data], "the unknown datatype FP31"],
    [["FP32", [-1], data], "the shape [-1]"],
    [["FP32", ["a"], data], "the shape [a]"],
    [["FP32", 1, data], "the shape [1]"],
    [["FP32", [1], [1]], "data that is no Uint8Array"],
  ]) {
    assert.throws(
      () => tensorsOf("preprocess", [new Tensor("x", ...parts)], Fault),
      (error) => error instanceof Fault && error.message.includes(`tensor "x" with ${expected}`),
      expected,
    );
  }
});

test("tensors are returned as they are", () => {
  const returned = [tensor, { name: "y", datatype: "BYTES", shape: [0], data: new Uint8Array(0) }];
  assert.equal(tensorsOf("postprocess", returned, Fault), returned);
  assert.deepEqual(tensorsOf("postprocess", [], Fault), []);
});
