// Before the model: `image` FP32 of any shape, each element less `mean` and times `scale`, as the configuration says.
import { NdArray } from "./kit.js";
import { BadInput, Fault, Raw, config } from "./tensorgate.js";

/** @param {import("./tensorgate.js").Tensor[] | Raw} input @returns {import("./tensorgate.js").Tensor[]} */
export function preprocess(input) {
  if (input instanceof Raw) throw new BadInput("expected tensors, not a body");
  if (input.length !== 1) throw new BadInput("expected one tensor");
  const [mean, scale] = [number("mean", 0), number("scale", 1)];
  // In the tensor kit: elements never become numbers of JavaScript's.
  return [NdArray.from(input[0], "FP32").sub(mean).mul(scale).tensor("image")];
}

/** A number of the configuration, or what counts where it is not set. */
function number(key, otherwise) {
  const text = config(key);
  if (text === null) return otherwise;
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new Fault(`config ${key}: ${JSON.stringify(text)} is no number`);
  return value;
}
