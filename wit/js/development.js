// Loads the author's modules in each call of a development component, from the functions that the
// host hands over. It stands in the place of handler.js, between the entry and the author's code.
import * as sources from "tensorgate:development/sources@0.1.0";
import { check } from "./build/js/world_check.js";

// The modules of the runtime, by their paths.
const support = {};
// SUPPORT
// Each module is evaluated with this many empty lines more than the one before, because an error
// names a line and no file.
const LINES = 20_000;

// The files of an archive (`wit/development.wit`), by their paths.
function unpacked(archive) {
  const view = new DataView(archive.buffer, archive.byteOffset, archive.length);
  const files = new Map();
  let at = 0;
  const part = () => {
    const start = at + 4;
    at = start + view.getUint32(start - 4, true);
    return text(archive.subarray(start, at));
  };
  while (at < archive.length) files.set(part(), part());
  return files;
}

// Bytes of UTF-8 as a text.
function text(bytes) {
  let letters = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    letters += String.fromCharCode.apply(null, bytes.subarray(at, at + 4096));
  }
  return decodeURIComponent(escape(letters));
}

// The author's module handler.js, and whether only its loading is asked for.
export function load(archive, runtimeModules) {
  const files = unpacked(archive);
  const isCheck = files.delete("");
  const loaded = [];
  const modules = new Map(Object.entries(runtimeModules));
  const named = (error, depth = 4) => {
    if (typeof error?.stack === "string") {
      if (depth) [error.cause].concat(error.errors ?? []).forEach((each) => named(each, depth - 1));
      error.stack = error.stack.replace(/(?:<input>|<evalScript>|<anonymous>):(\d+)/g, (all, line) => {
        const path = loaded[Math.floor(line / LINES)];
        return path ? `${path}:${line % LINES}` : all;
      });
    }
    return error;
  };
  const require = (path) => {
    const known = modules.get(path);
    if (known) return known;
    const exports = {};
    modules.set(path, exports);
    const define = (getters) => {
      for (const [name, get] of Object.entries(getters)) {
        Object.defineProperty(exports, name, { get, enumerable: true });
      }
    };
    if (!files.has(path)) throw new Error(`there is no module ${path}`);
    const before = "\n".repeat(LINES * loaded.length);
    loaded.push(path);
    const evaluate = eval;
    evaluate(`${before}(function (exports, define, require) {${files.get(path)}\n})`)(exports, define, require);
    return exports;
  };
  try {
    return { handler: require("handler.js"), isCheck, named };
  } catch (error) {
    throw named(error);
  }
}

function called(world, inputs) {
  const { handler, isCheck, named } = load(sources.read(), support);
  try {
    check(handler, world);
  } catch (error) {
    // Its text says all, so it needs no stack.
    throw new support["tensorgate.js"].Fault(error.message.replace("WorldMismatch: ", ""));
  }
  if (isCheck) return [];
  try {
    return handler[world](...inputs);
  } catch (error) {
    throw named(error);
  }
}

export const preprocess = (...inputs) => called("preprocess", inputs);
export const postprocess = (...inputs) => called("postprocess", inputs);
