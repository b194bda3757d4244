// Connects the world that the host calls with the functions of handler.js. Each build writes it
// anew.
import * as config from "tensorgate:handler/config@0.2.0";
import * as log from "tensorgate:handler/log@0.2.0";
import * as handler from "../../handler.js";
import * as tensorgate from "../../tensorgate.js";
import { start } from "./random.js";
import { tensorsOf } from "./results.js";

tensorgate.connect({ config, log });
const line = (write) => (...values) => values.map(text).join(" ").split("\n").forEach((each) => write(each));
globalThis.console = {
  debug: line(tensorgate.log.debug),
  log: line(tensorgate.log.info),
  info: line(tensorgate.log.info),
  warn: line(tensorgate.log.warn),
  error: line(tensorgate.log.error),
};

// A value as a line of the log shows it.
function text(value) {
  if (value instanceof Error) return `${value}\n${value.stack ?? ""}`.trimEnd();
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value, (_, part) => (ArrayBuffer.isView(part) ? Array.from(part) : part));
  } catch {
    return String(value);
  }
}

const tensors = (given) => given.map((each) => new tensorgate.Tensor(each.name, each.datatype.toUpperCase(), each.shape, each.data));

function call(world, called, given) {
  start();
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

