// The task of the normalise handler, with the tensor kit, in plain JavaScript, or as an empty call.
// The configuration selects one.
import { NdArray } from "./kit.js";
import { Tensor, config } from "./tensorgate.js";

const [MEAN, DEVIATION] = [
  [0.485, 0.456, 0.406],
  [0.229, 0.224, 0.225],
];

export function preprocess([photo]) {
  if (config("how") === "start") return [photo];
  if (config("how") === "plain") return [plain(photo)];
  return [NdArray.from(photo, "UINT8").planes({ mean: MEAN, std: DEVIATION }).tensor("image")];
}

function plain(photo) {
  const [, height, width, channels] = photo.shape;
  const bytes = photo.values("UINT8");
  const image = new Float32Array(bytes.length);
  let to = 0;
  for (let channel = 0; channel < channels; channel++) {
    const [scale, offset] = [1 / (255 * DEVIATION[channel]), MEAN[channel] / DEVIATION[channel]];
    for (let from = channel; from < bytes.length; from += channels) image[to++] = bytes[from] * scale - offset;
  }
  return Tensor.of("image", "FP32", [1, channels, height, width], image);
}
