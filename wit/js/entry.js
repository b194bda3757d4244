// Connects the world that the host calls with the functions of handler.js. Each build writes it
// anew.
import * as config from "tensorgate:handler/config@0.2.0";
import * as log from "tensorgate:handler/log@0.2.0";
import * as handler from "../../handler.js";
import * as tensorgate from "../../tensorgate.js";
import { tensorsOf } from "./results.js";

tensorgate.connect({ config, log });
const line = (write) => (...said) => write(said.join(" "));
globalThis.console = {
  debug: line(tensorgate.log.debug),
  log: line(tensorgate.log.debug),
  info: line(tensorgate.log.info),
  warn: line(tensorgate.log.warn),
  error: line(tensorgate.log.error),
};

const tensors = (given) => given.map((each) => new tensorgate.Tensor(each.name, each.datatype.toUpperCase(), each.shape, each.data));

function call(world, called, given) {
  try {
    const results = tensorsOf(world, called(given), tensorgate.Fault);
    return results.map(({ name, datatype, shape, data }) => ({ name, datatype: datatype.toLowerCase(), shape, data }));
  } catch (error) {
    if (error instanceof tensorgate.BadInput) throw { tag: "bad-input", val: rejection(error) };
    if (error instanceof tensorgate.Fault) throw { tag: "fault", val: error.message };
    // The host reports this itself, because it refused the memory.
    if (error instanceof InternalError && error.message === "out of memory") throw error;
    throw { tag: "fault", val: `${error}\n${error?.stack ?? ""}` };
  }
}

