// After the model: from `probabilities` FP32 [n, classes] to `label` INT64 [n] and `confidence`
// FP32 [n], the class with the highest score and that score.
import { NdArray } from "./kit.js";
import { Fault } from "./tensorgate.js";

/**
 * @param {import("./tensorgate.js").Tensor[]} outputs
 * @returns {import("./tensorgate.js").Tensor[]}
 */
export function postprocess(outputs) {
  if (outputs.length !== 1) throw new Fault("expected one tensor");
  if (outputs[0].shape.length !== 2) throw new Fault("expected [n, classes]");
  const scores = NdArray.from(outputs[0], "FP32");
  return [scores.argmax(1).tensor("label"), scores.max(1).tensor("confidence")];
}
