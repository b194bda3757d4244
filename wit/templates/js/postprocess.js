// After the model: `probabilities` FP32 [n, classes] to `label` INT64 [n], the class that scores highest, and `confidence` FP32 [n], its score.
import { Fault, Tensor } from "./tensorgate.js";

/** @param {Tensor[]} outputs @returns {Tensor[]} */
export function postprocess(outputs) {
  if (outputs.length !== 1) throw new Fault("expected one tensor");
  const [{ shape }] = outputs;
  if (shape.length !== 2) throw new Fault("expected [n, classes]");
  const scores = outputs[0].values("FP32");
  const [rows, classes] = shape;
  const label = new BigInt64Array(rows);
  const confidence = new Float32Array(rows);
  for (let row = 0; row < rows; row += 1) {
    const own = scores.subarray(row * classes, (row + 1) * classes);
    const best = own.reduce((found, score, at) => (score > own[found] ? at : found), 0);
    label[row] = BigInt(best);
    confidence[row] = own[best];
  }
  return [Tensor.of("label", "INT64", [rows], label), Tensor.of("confidence", "FP32", [rows], confidence)];
}
