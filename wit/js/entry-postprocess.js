export function postprocess(outputs) {
  return call(handler.postprocess, tensors(outputs));
}
