import { check } from "./world_check.js";
check(handler, "postprocess");
export function postprocess(outputs) {
  return call("postprocess", handler.postprocess, tensors(outputs));
}
