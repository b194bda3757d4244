// Tests of what kit.js passes to the kit, with a stand-in for it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { NdArray, connectKit, decodeImage, decodeWav } from "./kit.js";
import { BadInput, Tensor } from "./tensorgate.js";

const tensor = Tensor.of("x", "FP32", [2], [1, 2]);
const held = { shape: () => [2], datatype: () => "fp32" };
const failing = (failure) => () => {
  throw failure;
};

test("a wrong argument is the author's mistake", () => {
  connectKit({ Array: { fromBytes: () => held } });
  const array = NdArray.from(tensor);
  for (const wrong of [
    () => NdArray.from([1, 2], "FP32"),
    () => NdArray.from([1, 2]),
    () => NdArray.from(undefined),
    () => NdArray.from(tensor, "float32"),
    () => NdArray.from(new Tensor("x", "FP31", [1], new Uint8Array(4))),
    () => NdArray.from(new Tensor("x", "FP32", [1], "text")),
    () => NdArray.full("FP32", 2, 1),
    () => NdArray.full("FP32", [2], "1"),
    () => NdArray.concat([1, 2]),
    () => array.cast("float64"),
    () => array.apply("sin"),
    () => array.operate("plus", 1),
    () => array.add([1, 2]),
    () => array.sum("rows"),
    () => array.topK(undefined),
    () => array.clip("a", 1),
    () => array.pad([1]),
    () => array.resize(2, 2, { filter: "cubic" }),
    () => array.resize(2, 2, { layout: "NHWC" }),
    () => array.planes({ mean: 1, std: 1 }),
    () => array.nms(tensor, { overlap: 0.5 }),
    () => decodeImage(tensor),
    () => decodeImage("text"),
    () => decodeImage(new Uint8Array(4), { channels: "bgr" }),
    () => decodeWav(undefined),
  ]) {
    assert.throws(wrong, TypeError, wrong);
  }
});

test("only data that the caller sent is a bad input", () => {
  connectKit({ Array: { fromBytes: () => held }, decodeImage: failing({ kind: "data", message: "no image" }) });
  assert.throws(() => NdArray.from(tensor, "INT32"), BadInput);
  assert.throws(() => NdArray.from(Tensor.ofItems("x", ["a"])), BadInput);
  assert.throws(() => decodeImage(new Uint8Array(4)), BadInput);
  for (const [kind, type] of [["value", RangeError], ["room", RangeError], ["datatype", TypeError]]) {
    connectKit({ Array: { full: failing({ kind, message: "m" }) } });
    assert.throws(() => NdArray.full("FP32", [2], 1), type);
  }
});

test("the names are those of the interface", () => {
  const [wit, kit] = ["../kit.wit", "kit.js"].map((name) => readFileSync(new URL(name, import.meta.url), "utf8"));
  const listed = Array.from(kit.matchAll(/oneOf\(([^;]+)\);/g), (match) => {
    const words = Array.from(match[1].matchAll(/"([^"]*)"/g), (text) => text[1]).join("");
    return words.toLowerCase().split(" ").sort().join(" ");
  });
  for (const name of ["datatype", "operator", "function", "filter", "channels"]) {
    const body = wit.split(`enum ${name} {`)[1].split("}")[0];
    const cases = Array.from(body.matchAll(/^ +%?([\w-]+),/gm), (match) => match[1]);
    assert.ok(listed.includes(cases.sort().join(" ")), `${name}: ${cases}`);
  }
});
