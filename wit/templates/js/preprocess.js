// Before the model: `image` FP32 of any shape, each element less `mean` and times `scale`, as the configuration says.
import { BadInput, Fault, Raw, Tensor, config } from "./tensorgate.js";

/** @param {Tensor[] | Raw} input @returns {Tensor[]} */
export function preprocess(input) {
  if (input instanceof Raw) throw new BadInput("expected tensors, not a body");
  if (input.length !== 1) throw new BadInput("expected one tensor");
  const [image] = input;
  const pixels = image.values("FP32");
  const [mean, scale] = [number("mean", 0), number("scale", 1)];
  return [Tensor.of("image", "FP32", image.shape, pixels.map((pixel) => (pixel - mean) * scale))];
}

/** A number of the configuration, or what counts where it is not set. */
function number(key, otherwise) {
  const text = config(key);
  if (text === null) return otherwise;
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new Fault(`config ${key}: ${JSON.stringify(text)} is no number`);
  return value;
}
