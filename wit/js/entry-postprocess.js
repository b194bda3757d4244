import { check } from "./world_check.js";
check(handler, "postprocess");
export function postprocess(outputs) {
  return call(handler.postprocess, tensors(outputs));
}
