// Write a tensorgate handler in JavaScript.
//
// A handler is a function from tensors (or a raw body) to tensors. `handler.js` is an ES module
// that exports one of
//
//     export function preprocess(input) { … }     // Tensor[] or Raw → Tensor[]
//     export function postprocess(outputs) { … }  // Tensor[] → Tensor[]
//
// It only computes. Each call gets a fresh instance, so nothing that it stores survives its call.
// What modules compute while they are loaded is computed once, when the component is built. The
// policy bounds instructions, memory and time.
//
// Available:
// - QuickJS: ECMAScript 2023 with typed arrays and BigInt. It is an interpreter, at hundreds of
//   nanoseconds for an operation on an element.
// - `kit.js` beside this file: arrays at about a nanosecond for such an operation, and decoders of
//   images and sounds.
// - `console`, which writes to the operator's log.
// - `request.js` beside this file: the request that the call belongs to, and bytes for the handlers
//   after it.
// - Modules of plain JavaScript: by relative import, or from `node_modules` beside handler.js if
//   they need no platform API.
//
// Not available:
// - Node.js and the web platform: require, Buffer, fetch, setTimeout, TextDecoder, WebAssembly.
// - Files, sockets, threads, and promises that wait. `reach.js` requests files and features from
//   the host.
// - A clock that advances: `Date` has the time of the request.
// - Secrets: `Math.random()` has a seed of the request.

/**
 * The input is bad: the caller gets 400. The text goes to the log. `caller` is a text for the
 * caller. It is passed on if the policy has `errors: public` for the handler: at most 256
 * characters, without control characters.
 */
export class BadInput extends Error {
  /** @param {string} log @param {{ caller?: string }} [texts] */
  constructor(log, { caller } = {}) {
    super(log);
    this.caller = caller;
  }
}

/**
 * The handler failed: the caller gets 500. The text goes to the log. Any other exception is a fault
 * too, and is logged with its stack.
 */
export class Fault extends Error {}

/** The typed array of each datatype. FP16 and BF16 are converted from and to Float32Array. */
const ARRAYS = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

const HALVES = { FP16: [fromHalf, toHalf], BF16: [fromBrain, toBrain] };

const DATATYPES = [...Object.keys(ARRAYS), ...Object.keys(HALVES), "BYTES"];

/**
 * A tensor: its name in the contract, datatype, shape, and elements, row-major and little-endian.
 */
export class Tensor {
  /**
   * @param {string} name
   * @param {"BOOL"|"UINT8"|"UINT16"|"UINT32"|"UINT64"|"INT8"|"INT16"|"INT32"|"INT64"
   *   |"FP16"|"BF16"|"FP32"|"FP64"|"BYTES"} datatype
   * @param {number[]} shape
   * @param {Uint8Array} data
   */
  constructor(name, datatype, shape, data) {
    this.name = name;
    this.datatype = datatype;
    this.shape = shape;
    this.data = data;
  }

  /**
   * The elements: borrowed if they are aligned, else copied. Those of UINT64 and INT64 are BigInts.
   * Throws BadInput if the tensor is BYTES, if `datatype` is given and is not the tensor's, or if
   * the data does not fit the shape.
   * @param {string} [datatype]
   */
  values(datatype) {
    checkNumbers(this, datatype);
    const half = HALVES[this.datatype];
    const type = half ? Uint16Array : ARRAYS[this.datatype];
    if (count(this.shape) * type.BYTES_PER_ELEMENT !== this.data.length) {
      throw new BadInput(`tensor "${this.name}": ${this.data.length} bytes do not fit [${this.shape}]`);
    }
    const data = this.data.byteOffset % type.BYTES_PER_ELEMENT ? this.data.slice() : this.data;
    const values = new type(data.buffer, data.byteOffset, data.length / type.BYTES_PER_ELEMENT);
    return half ? Float32Array.from(values, half[0]) : values;
  }

  /**
   * The items of a BYTES tensor, as Uint8Arrays. Throws BadInput for other tensors, and if the
   * lengths do not fit its data and shape.
   */
  items() {
    if (this.datatype !== "BYTES") throw new BadInput(`tensor "${this.name}" is ${this.datatype}, not BYTES`);
    const { data } = this;
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const items = [];
    let at = 0;
    while (at + 4 <= data.length) {
      const end = at + 4 + view.getUint32(at, true);
      items.push(data.subarray(at + 4, end));
      at = end;
    }
    if (at !== data.length || items.length !== count(this.shape)) {
      throw new BadInput(`tensor "${this.name}": item lengths do not fit its data and shape`);
    }
    return items;
  }

  /**
   * A tensor of values. A typed array of the datatype is used without a copy; others are converted.
   * @param {ArrayLike<number|bigint|boolean>} values
   */
  static of(name, datatype, shape, values) {
    if (values.length !== count(shape)) throw new RangeError(`${values.length} values do not fit [${shape}]`);
    const half = HALVES[datatype];
    const type = half ? Uint16Array : ARRAYS[datatype];
    if (!type) throw new TypeError(`values cannot be ${datatype}: use one of ${DATATYPES.slice(0, -1).join(" ")}`);
    let typed = values;
    if (half) typed = Uint16Array.from(values, half[1]);
    else if (!(values instanceof type)) typed = type.from(values, (value) => fit(value, datatype));
    return new Tensor(name, datatype, [...shape], new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength));
  }

  /** A BYTES tensor of Uint8Arrays or strings, with one dimension unless `shape` is given. */
  static ofItems(name, items, shape = [items.length]) {
    if (items.length !== count(shape)) throw new RangeError(`${items.length} items do not fit [${shape}]`);
    const encoded = items.map((item) => (typeof item === "string" ? bytes(item) : item));
    const data = new Uint8Array(encoded.reduce((sum, item) => sum + 4 + item.length, 0));
    const view = new DataView(data.buffer);
    let at = 0;
    for (const item of encoded) {
      view.setUint32(at, item.length, true);
      data.set(item, at + 4);
      at += 4 + item.length;
    }
    return new Tensor(name, "BYTES", [...shape], data);
  }
}

/** A request body that the policy admits unparsed (`accepts: {raw: …}`). */
export class Raw {
  /** @param {string} contentType @param {Uint8Array} data */
  constructor(contentType, data) {
    this.contentType = contentType;
    this.data = data;
  }
}

/** The UTF-8 bytes of a string. */
export function bytes(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (char) => char.charCodeAt(0));
}

/** The string of UTF-8 bytes. Throws BadInput if they are not valid UTF-8. */
export function text(data) {
  if (!(data instanceof Uint8Array)) throw new TypeError("text takes a Uint8Array, as in text(tensor.items()[0])");
  try {
    return decodeURIComponent(Array.from(data, (byte) => `%${byte.toString(16).padStart(2, "0")}`).join(""));
  } catch {
    throw new BadInput("bytes that are not UTF-8");
  }
}

let host = null;
let entries = {};

/** The value of a key in the policy's `config:` of this handler, or null if it is not set. */
export function config(key) {
  return host ? host.config.get(String(key)) : (entries[key] ?? null);
}

const write = (level) => (message) => {
  if (host) host.log.write(level, String(message));
  else console.error(`${level}: ${message}`);
};

/**
 * The operator's log. Lines over the host's bound are dropped and counted, which is never an error.
 */
export const log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };

/** Sets what `config` returns in unit tests, in place of all earlier entries. */
export function setConfig(all) {
  entries = { ...all };
}

/** For the entry point that each build writes. */
export function connect(imports) {
  host = imports;
}

/**
 * For kit.js: throws BadInput if a tensor is BYTES or of another datatype. A name that no datatype
 * has is the author's mistake.
 */
export function checkNumbers(tensor, datatype = tensor.datatype) {
  for (const each of [tensor.datatype, datatype]) {
    if (!DATATYPES.includes(each)) throw new TypeError(`there is no datatype ${each}: use one of ${DATATYPES.join(" ")}`);
  }
  if (datatype !== tensor.datatype) throw new BadInput(`tensor "${tensor.name}" is ${tensor.datatype}, not ${datatype}`);
  if (datatype === "BYTES") throw new BadInput(`tensor "${tensor.name}" is BYTES: it has items()`);
}

function count(shape) {
  if (typeof shape?.reduce !== "function") throw new TypeError(`a shape is an array, not ${shape}`);
  return shape.reduce((product, dim) => product * dim, 1);
}

/**
 * Converts a number to an element. Throws RangeError if a whole number does not fit, where a typed
 * array would wrap it.
 */
function fit(value, datatype) {
  if (datatype.startsWith("FP")) return Number(value);
  if (datatype === "BOOL") return value ? 1 : 0;
  const bits = Number(datatype.slice(datatype.indexOf("T") + 1));
  const whole = typeof value === "bigint" ? value : BigInt(Math.trunc(value));
  const held = datatype.startsWith("U") ? BigInt.asUintN(bits, whole) : BigInt.asIntN(bits, whole);
  if (held !== whole) throw new RangeError(`${whole} does not fit ${datatype}`);
  return bits === 64 ? held : Number(held);
}

const SINGLE = new Float32Array(1);
const BITS = new Uint32Array(SINGLE.buffer);

function fromBrain(bits) {
  BITS[0] = bits << 16;
  return SINGLE[0];
}

/** The upper half of a single-precision float, rounded to even. A NaN stays a NaN. */
function toBrain(value) {
  SINGLE[0] = Number(value);
  const bits = BITS[0];
  if (Number.isNaN(SINGLE[0])) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / 1024;
  if (exponent === 0) return sign * fraction * 2 ** -14;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction) * 2 ** (exponent - 15);
}

/** Half precision, rounded to even. */
function toHalf(value) {
  const number = Number(value);
  const sign = number < 0 || Object.is(number, -0) ? 0x8000 : 0;
  const size = Math.abs(number);
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  const units = even(size / 2 ** (exponent - 10));
  // A fraction that was rounded up to the next power of two carries into the exponent by itself.
  return sign | (size < 2 ** -14 ? units : ((exponent + 14) << 10) + units);
}

function even(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}
