// Connects the world that the host calls with the functions of handler.js. Each build writes it
// anew.
import * as config from "tensorgate:handler/config@0.2.0";
import * as log from "tensorgate:handler/log@0.2.0";
import * as handler from "../../handler.js";
import * as tensorgate from "../../tensorgate.js";
import { start } from "./random.js";
import { tensorsOf } from "./results.js";
import { story, text } from "./story.js";

tensorgate.connect({ config, log });
const line = (write) => (...values) => values.map((value) => text(value)).join(" ").split("\n").forEach((each) => write(each));
globalThis.console = {
  debug: line(tensorgate.log.debug),
  log: line(tensorgate.log.info),
  info: line(tensorgate.log.info),
  warn: line(tensorgate.log.warn),
  error: line(tensorgate.log.error),
};

const tensors = (given) => given.map((each) => new tensorgate.Tensor(each.name, each.datatype.toUpperCase(), each.shape, each.data));

function call(world, called, given) {
  start();
  try {
    const results = tensorsOf(world, called(given), tensorgate.Fault);
    return results.map(({ name, datatype, shape, data }) => ({ name, datatype: datatype.toLowerCase(), shape, data }));
  } catch (error) {
    if (error instanceof tensorgate.BadInput) throw { tag: "bad-input", val: rejection(error) };
    throw { tag: "fault", val: story(error, error instanceof tensorgate.Fault ? error.message : undefined) };
  }
}

