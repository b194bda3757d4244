// Before the model: subtracts `mean` from each element of `image` (FP32, any shape) and multiplies
// by `scale`. Both are set in the configuration.
import { NdArray } from "./kit.js";
import { BadInput, Fault, Raw, config } from "./tensorgate.js";

/**
 * @param {import("./tensorgate.js").Tensor[] | Raw} input
 * @returns {import("./tensorgate.js").Tensor[]}
 */
export function preprocess(input) {
  if (input instanceof Raw) throw new BadInput("expected tensors, not a body");
  if (input.length !== 1) throw new BadInput("expected one tensor");
  const [mean, scale] = [number("mean", 0), number("scale", 1)];
  // Computed in the tensor kit: the elements never become JavaScript numbers.
  return [NdArray.from(input[0], "FP32").sub(mean).mul(scale).tensor("image")];
}

/** A number of the configuration, or what counts where it is not set. */
function number(key, otherwise) {
  const text = config(key);
  if (text === null) return otherwise;
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new Fault(`config ${key}: ${JSON.stringify(text)} is not a number`);
  return value;
}
