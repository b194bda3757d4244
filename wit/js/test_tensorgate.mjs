// Tests of the module as an author's own tests use it: in Node.js, without a host.
import assert from "node:assert/strict";
import test from "node:test";

import { Missing, connectReach, fetch, lookup, setFeature, setFile } from "./reach.js";
import { carry, connectRequest, context, setCarry, setContext } from "./request.js";
import { BadInput, Tensor, bytes, config, setConfig, text } from "./tensorgate.js";

const bits = (tensor) => [...new Uint16Array(tensor.data.buffer)];

test("every datatype survives the way there and back", () => {
  for (const [datatype, values] of [
    ["BOOL", [1, 0]],
    ["UINT8", [255]],
    ["INT32", [-(2 ** 31)]],
    ["UINT64", [2n ** 64n - 1n]],
    ["INT64", [-(2n ** 63n)]],
    ["FP32", [0.5]],
    ["FP64", [0.1]],
    ["FP16", [0.5, -2, 65504, 2 ** -24, Infinity, 0]],
    ["BF16", [1, -2, 0.5, Infinity]],
  ]) {
    assert.deepEqual([...Tensor.of("t", datatype, [values.length], values).values(datatype)], values, datatype);
  }
});

test("halves are rounded to even", () => {
  for (const [datatype, value, expected] of [
    ["BF16", 1 + 2 ** -8, 0x3f80],
    ["BF16", 1 + 3 * 2 ** -8, 0x3f82],
    ["FP16", 1 + 2 ** -11, 0x3c00],
    ["FP16", 1 + 3 * 2 ** -11, 0x3c02],
    ["FP16", 2047.5, 0x6800 - 0],
    ["FP16", 65520, 0x7c00],
    ["FP16", -0, 0x8000],
    ["FP16", 2 ** -25, 0],
    ["FP16", 2 ** -14 - 2 ** -26, 0x0400],
  ]) {
    assert.deepEqual(bits(Tensor.of("t", datatype, [1], [value])), [expected], `${datatype} ${value}`);
  }
  for (const datatype of ["BF16", "FP16"]) assert.ok(Number.isNaN(Tensor.of("t", datatype, [1], [NaN]).values()[0]));
});

test("elements that do not lie aligned are copied", () => {
  const buffer = new Uint8Array(9);
  buffer.set([0, 0, 0x80, 0x3f], 1);
  assert.deepEqual([...new Tensor("t", "FP32", [2], buffer.subarray(1)).values()], [1, 0]);
});

test("items", () => {
  const tensor = Tensor.ofItems("t", ["siebenä", new Uint8Array(0)]);
  assert.deepEqual(tensor.items().map(text), ["siebenä", ""]);
  for (const data of [[1, 0, 0], [2, 0, 0, 0, 97], [255, 255, 255, 255, 97], [], [1, 0, 0, 0, 97, 1, 0, 0, 0, 98]]) {
    assert.throws(() => new Tensor("t", "BYTES", [1], Uint8Array.from(data)).items(), BadInput);
  }
  assert.throws(() => text(Uint8Array.of(0xff)), BadInput);
  assert.deepEqual([...bytes("é")], [0xc3, 0xa9]);
});

test("what does not fit is refused", () => {
  for (const [tensor, datatype] of [
    [new Tensor("t", "FP32", [2], new Uint8Array(4))],
    [new Tensor("t", "FP32", [1], new Uint8Array(4)), "INT32"],
    [new Tensor("t", "FP32", [2 ** 40, 2 ** 40], new Uint8Array(4))],
    [new Tensor("t", "BYTES", [0], new Uint8Array(0))],
  ]) {
    assert.throws(() => tensor.values(datatype), BadInput);
  }
  // The author's mistakes have a stack, and are no bad input.
  for (const [type, wrong] of [
    [RangeError, () => Tensor.of("t", "FP32", [2], [1])],
    [RangeError, () => Tensor.of("t", "UINT8", [1], [256])],
    [RangeError, () => Tensor.of("t", "INT8", [1], [-129])],
    [RangeError, () => Tensor.of("t", "UINT64", [1], [-1n])],
    [RangeError, () => Tensor.ofItems("t", ["a"], [2])],
    [TypeError, () => Tensor.of("t", "BYTES", [1], [1])],
    [TypeError, () => Tensor.of("t", "FP32", 1, [1])],
    [TypeError, () => new Tensor("t", "FP32", [1], new Uint8Array(4)).values("float32")],
    [TypeError, () => new Tensor("t", "FP31", [1], new Uint8Array(4)).values()],
    [TypeError, () => text("abc")],
    [TypeError, () => carry.set("abc")],
  ]) {
    assert.throws(wrong, type, wrong);
  }
});

test("the configuration is set by a test", () => {
  setConfig({ mean: "0.5" });
  assert.deepEqual([config("mean"), config("scale")], ["0.5", null]);
});

test("files and features are set by a test", () => {
  setFile("https://a.example/1", "text/plain", bytes("one"));
  const [one, other] = fetch(["https://a.example/1", "https://a.example/2"]);
  assert.deepEqual([one.contentType, text(one.data)], ["text/plain", "one"]);
  assert.deepEqual([other instanceof Missing, other.why], [true, "not-found"]);
  setFeature("customers", "age", "7", 40);
  setFeature("customers", "__proto__", "7", 1);
  assert.deepEqual(lookup("customers", ["age"], ["7", "8"]).age, [40, null]);
  assert.deepEqual(lookup("customers", ["__proto__"], ["7"])["__proto__"], [1]);
  for (const wrong of [() => fetch("https://a.example/1"), () => lookup("customers", "age", ["7"]), () => lookup("customers", ["age"], "7")]) {
    assert.throws(wrong, TypeError);
  }
});

test("what a host answers is what a handler gets", () => {
  const asked = [];
  connectReach({
    fetch: {
      get(urls) {
        asked.push(urls);
        return [{ tag: "ok", val: { contentType: "image/png", data: Uint8Array.of(1) } }, { tag: "err", val: "too-large" }];
      },
    },
    lookup: {
      get(...all) {
        asked.push(all);
        if (all[0] === "none") throw "timeout";
        return [{ feature: "age", values: [1.5, null] }];
      },
    },
  });
  const [file, missing] = fetch(["a", "b"]);
  assert.deepEqual([file.contentType, file.data[0], missing.why], ["image/png", 1, "too-large"]);
  assert.deepEqual(lookup("customers", ["age"], ["7", "8"]).age, [1.5, null]);
  assert.throws(() => lookup("none", ["age"], []), (error) => error instanceof Missing && error.why === "timeout");
  assert.deepEqual(asked, [["a", "b"], ["customers", ["age"], ["7", "8"]], ["none", ["age"], []]]);
  connectReach({});
  assert.throws(() => fetch(["a"]), /built without a `fetch:`/);
  assert.throws(() => lookup("customers", [], []), /built without a `lookups:`/);
  connectReach(null);
});

test("a bad input may have a text for the caller", () => {
  const bad = new BadInput("row 3", { caller: "no rows" });
  assert.deepEqual([bad.message, bad.caller], ["row 3", "no rows"]);
  assert.equal(new BadInput("row 3").caller, undefined);
});

test("the request and carried bytes come from the test", () => {
  assert.equal(context().client, "");
  setContext({ client: "scorer", parameters: { top: 3 } });
  assert.deepEqual([context().client, context().parameters.top, context().input.mediaBytes], ["scorer", 3, 0]);
  assert.equal(carry.get().length, 0);
  setCarry([1, 2]);
  assert.deepEqual([...carry.get()], [1, 2]);
  carry.set(new Uint8Array(65536));
  assert.equal(carry.get().length, 65536);
  assert.throws(() => carry.set(new Uint8Array(65537)), RangeError);
});

test("the request of a component has objects by name", () => {
  const input = { tensors: [{ name: "x", shape: [1, 2] }], mediaType: undefined, mediaBytes: 8 };
  const parameters = [["a", { tag: "int64", val: 3 }], ["__proto__", { tag: "text", val: "c" }]];
  const given = { requestId: "r", client: "c", model: "m", version: "1", operation: "infer", time: 7, parameters, input };
  let sent = null;
  connectRequest({ context: { get: () => given }, carry: { set: (data) => (sent = data), get: () => sent } });
  const request = context();
  assert.deepEqual([request.requestId, request.time, request.parameters.a], ["r", 7, 3]);
  assert.equal(request.parameters["__proto__"], "c");
  assert.deepEqual([request.input.tensors.x, request.input.mediaType, request.input.mediaBytes], [[1, 2], null, 8]);
  carry.set(Uint8Array.of(5));
  assert.deepEqual([...carry.get()], [5]);
  connectRequest(null);
});
