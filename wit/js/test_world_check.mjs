// Tests of the check that `handler build` makes in the component, here in Node.js.
import assert from "node:assert/strict";
import test from "node:test";

import { check } from "./world_check.js";

const verdict = (handler, world) => {
  try {
    check(handler, world);
    return null;
  } catch (error) {
    return error.message;
  }
};

test("a handler exports the function of its world", () => {
  const works = () => [];
  const missing = "WorldMismatch: handler.js exports no function preprocess(input)\nfound: ";
  for (const [handler, expected] of [
    [{ preprocess: works }, null],
    [{ preprocess: works, helper: works }, null],
    [{}, `${missing}no function`],
    [{ table: [1] }, `${missing}no function`],
    [{ process: works }, `${missing}process; did you mean preprocess?`],
    [{ helper: works, preproces: works }, `${missing}helper, preproces; did you mean preprocess?`],
    [{ classify: works }, `${missing}classify`],
    [{ default: works }, `${missing}default; write \`export function preprocess\` without \`default\``],
    [{ postprocess: works }, `${missing}postprocess; handler.yaml has \`world: preprocess\`, did you mean \`world: postprocess\`?`],
    [{ preprocess: 1 }, "WorldMismatch: handler.js exports preprocess as number, not as a function"],
    [{ preprocess: null }, "WorldMismatch: handler.js exports preprocess as null, not as a function"],
  ]) {
    assert.equal(verdict(handler, "preprocess"), expected);
  }
  assert.equal(verdict({ postprocess: works }, "postprocess"), null);
  assert.match(verdict({}, "postprocess"), /no function postprocess\(outputs\)/);
});

test("a long list of names is cut", () => {
  const handler = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`helper${at}`, () => at]));
  const found = verdict(handler, "preprocess").split("\n")[1];
  assert.equal(found, "found: helper0, helper1, helper2, helper3, helper4, helper5, helper6, helper7, …");
});
