import { check } from "./world_check.js";
check(handler, "preprocess");
export function preprocess(input) {
  const { tag, val } = input;
  return call("preprocess", handler.preprocess, tag === "raw" ? new tensorgate.Raw(val.contentType, val.data) : tensors(val));
}
