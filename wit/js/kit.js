// The tensor kit: array operations in Rust, inside the same component. `tensorgate handler build`
// adds it.
//
//     const [mean, std] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
//     const image = decodeImage(body.data).resize(224, 224).planes({ mean, std });
//     return [image.tensor("image")];
//
// An `NdArray` is stored in the kit, and each method makes a new one there. Only `values()` and
// `tensor()` copy elements to JavaScript. The kit is available while a call runs. It is not
// available while modules are loaded, which happens when the component is built, nor in Node.js:
// there its functions throw.
import { BadInput, Fault, Tensor, checkNumbers } from "./tensorgate.js";

let kit = null;

/** For the entry point that each build writes: the kit's interface. */
export function connectKit(arrays) {
  kit = arrays;
}

/** Calls the kit. Its failures are thrown as the exceptions that stand for their kind. */
function asked(call) {
  if (!kit) throw new Fault("the tensor kit is available while a call runs in a component, as in `tensorgate handler test`");
  try {
    return call(kit);
  } catch (error) {
    const failure = error?.payload ?? error?.val ?? error;
    if (typeof failure?.message !== "string" || failure.kind === undefined) throw error;
    if (failure.kind === "data") throw new BadInput(failure.message);
    throw new (failure.kind === "datatype" ? TypeError : RangeError)(failure.message);
  }
}

// A wrong argument is the author's mistake. In the kit it would end the call without a line.
function refuse(value, wanted) {
  const isObject = typeof value === "object" && value !== null;
  const shown = typeof value === "string" ? JSON.stringify(value) : isObject ? `a value of ${value.constructor?.name}` : String(value);
  throw new TypeError(`${shown} is not ${wanted}`);
}

const isNumber = (value) => ["number", "bigint", "boolean"].includes(typeof value);
const number = (value) => (isNumber(value) ? Number(value) : refuse(value, "a number"));
const isList = (list) => Array.isArray(list) || ArrayBuffer.isView(list);
const numbers = (list) => (isList(list) ? Array.from(list, number) : refuse(list, "an array of numbers"));
const encoded = (data) => (data instanceof Uint8Array ? data : refuse(data, "a Uint8Array, as `data` of a Raw or an item of a tensor is"));
const oneOf = (names, list = names.split(" ")) => (name) => (list.includes(name) ? name : refuse(name, `one of ${names}`));

const datatypeOf = oneOf("BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64");
const binary = oneOf(
  "add subtract multiply divide floor-divide remainder power minimum maximum " +
    "equal not-equal less less-equal greater greater-equal",
);
const unary = oneOf("negative absolute exp log sqrt tanh sigmoid floor ceil round");
const resampling = oneOf("nearest bilinear antialias");
const channelsOf = oneOf("gray rgb rgba");
const layoutOf = oneOf("HWC CHW");
const lower = (datatype) => datatypeOf(datatype).toLowerCase();

/**
 * An array of numbers in the kit, row-major. Operators broadcast and promote types as numpy's do.
 */
export class NdArray {
  #held;

  /** For this module: use `NdArray.from`, `NdArray.of` or a decoder. */
  constructor(held) {
    this.#held = held;
  }

  /**
   * The elements of a tensor. Throws BadInput if `datatype` is given and is not the tensor's.
   * `NdArray.of` makes an array of values.
   */
  static from(tensor, datatype) {
    if (!(tensor instanceof Tensor)) refuse(tensor, "a Tensor. NdArray.of(datatype, shape, values) makes an array of values");
    checkNumbers(tensor, datatype);
    return new NdArray(asked(({ Array }) => Array.fromBytes(lower(tensor.datatype), numbers(tensor.shape), encoded(tensor.data))));
  }

  /**
   * An array of values. A typed array of the datatype is used without a copy; others are converted.
   */
  static of(datatype, shape, values) {
    return NdArray.from(Tensor.of("values", datatype, shape, values));
  }

  /** An array with the same number in each element. */
  static full(datatype, shape, value) {
    return new NdArray(asked(({ Array }) => Array.full(lower(datatype), numbers(shape), number(value))));
  }

  /** Joins arrays along an axis. The other dimensions and the types must be equal. */
  static concat(arrays, axis = 0) {
    return new NdArray(asked(({ Array }) => Array.concat(arrays.map(NdArray.#of), number(axis))));
  }

  /** Joins arrays of one shape along a new first dimension. */
  static stack(arrays) {
    return NdArray.concat(arrays.map((each) => each.reshape(1, ...each.shape)));
  }

  /**
   * The elements of `one` where a mask, BOOL, is true, and those of `other` elsewhere. At least one
   * of the two is an array, and two have one datatype. All three broadcast.
   */
  static where(mask, one, other) {
    const arrays = [one, other].filter((each) => each instanceof NdArray);
    if (!arrays.length) throw new TypeError("where needs an array beside its mask");
    const shape = arrays.reduce((made, each) => made.operate("equal", each), mask).shape;
    const expanded = (each, datatype) => {
      if (!(each instanceof NdArray)) return NdArray.full(datatype, shape, each);
      // A multiplication by ones is exact, and broadcasts.
      return `${each.shape}` === `${shape}` ? each : each.mul(NdArray.full(each.datatype, shape, 1));
    };
    const [chosen, rest] = [one, other].map((each) => expanded(each, arrays[0].datatype));
    const condition = expanded(mask, "BOOL");
    return chosen.#made((held) => held.choose(condition.#held, rest.#held));
  }

  /** The shape. */
  get shape() {
    return [...asked(() => this.#held.shape())];
  }

  /** The element type. It is never FP16 or BF16, which are converted to FP32. */
  get datatype() {
    return asked(() => this.#held.datatype()).toUpperCase();
  }

  /** The elements as the typed array of the datatype. */
  values() {
    return this.tensor("values").values();
  }

  /** The elements as a tensor, of FP16 or BF16 if `datatype` is given. */
  tensor(name, datatype = this.datatype) {
    return new Tensor(name, datatype, this.shape, asked(() => this.#held.toBytes(lower(datatype))));
  }

  static #of(array) {
    return array instanceof NdArray ? array.#held : refuse(array, "an NdArray");
  }

  #made(call) {
    return new NdArray(asked(() => call(this.#held)));
  }

  #axis(axis) {
    return number(axis) < 0 ? axis + this.shape.length : axis;
  }

  #operator(operator, other, reversed = false) {
    if (other instanceof NdArray) return this.#made((held) => held.combine(operator, other.#held));
    const value = number(other);
    if (typeof other === "bigint" && BigInt(value) !== other) throw new RangeError(`${other} does not fit a number`);
    return this.#made((held) => held.combineNumber(operator, value, typeof other === "number" && !Number.isInteger(value), reversed));
  }

  /**
   * Converts to another type. Floats are truncated to integers. Throws RangeError if a number does
   * not fit.
   */
  cast(datatype) {
    return this.#made((held) => held.cast(lower(datatype)));
  }

  /** The same elements in another shape. One dimension may be -1. */
  reshape(...dims) {
    const known = dims.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
    const size = this.shape.reduce((product, dim) => product * dim, 1);
    return this.#made((held) => held.reshape(numbers(dims.map((dim) => (dim === -1 ? size / known : dim)))));
  }

  /** Permutes the dimensions; reverses them without arguments. */
  transpose(...axes) {
    const order = axes.length ? axes : [...this.shape.keys()].reverse();
    return this.#made((held) => held.transpose(numbers(order)));
  }

  /**
   * A range [from, to) of each axis, as `Array.prototype.slice` counts, or `null` for all of it:
   * `image.slice([0, 224], [0, 224], null)`.
   */
  slice(...ranges) {
    const spans = this.shape.map((dim, axis) => {
      const [from, to] = ranges[axis] ?? [0, dim];
      const place = (at) => Math.min(Math.max(number(at) < 0 ? at + dim : at, 0), dim);
      const start = place(from);
      return { start, count: Math.max(place(to ?? dim) - start, 0), step: 1 };
    });
    return this.#made((held) => held.slice(spans));
  }

  /** Selects indices of an axis, in the given order. */
  take(indices, axis = 0) {
    const listed = indices instanceof NdArray ? indices.values() : indices;
    return this.#made((held) => held.gather(this.#axis(axis), numbers(listed)));
  }

  /**
   * The elements, or rows, for which a mask is true: `boxes.compress(scores.operate("greater", 0.5))`.
   * The mask is BOOL, and has the shape of the array or of its first dimensions.
   */
  compress(mask) {
    const [dims, shape] = [mask.shape, this.shape];
    if (mask.datatype !== "BOOL") throw new TypeError(`a mask is BOOL, not ${mask.datatype}`);
    if (`${dims}` !== `${shape.slice(0, dims.length)}`) throw new RangeError(`a mask of [${dims}] for [${shape}]`);
    const flags = mask.values();
    const rows = [...flags.keys()].filter((at) => flags[at]);
    return this.reshape(flags.length, ...shape.slice(dims.length)).take(rows);
  }

  /** Adds elements before and after each axis: `image.pad([[2, 2], [0, 1], [0, 0]])`. */
  pad(widths, value = 0) {
    const [before, after] = [0, 1].map((side) => numbers(widths.map((width) => width[side])));
    return this.#made((held) => held.pad(before, after, number(value)));
  }

  /** Truncates or pads an axis to a length, at its end. */
  fit(length, { value = 0, axis = -1 } = {}) {
    return this.#made((held) => held.fit(this.#axis(axis), number(length), number(value)));
  }

  /**
   * Resizes an image, UINT8 or FP32. `layout` HWC is [height, width] or […, height, width,
   * channels]; CHW is […, height, width]. Pixel centres are at halves. `bilinear` is torch's
   * (align_corners=False, antialias=False), `antialias` is Pillow's BILINEAR, `nearest` is Pillow's
   * NEAREST.
   */
  resize(height, width, { filter = "bilinear", layout = "HWC" } = {}) {
    const dims = this.shape.length;
    const axis = dims - (layoutOf(layout) === "HWC" && dims > 2 ? 3 : 2);
    return this.#made((held) => held.resize(axis, number(height), number(width), resampling(filter)));
  }

  /**
   * Converts pixels to planes in one pass: […, h, w, c] to FP32 […, c, h, w], with
   * (x × scale - mean) / std for each channel.
   */
  planes({ mean, std, scale = 1 / 255 }) {
    return this.#made((held) => held.planes(number(scale), numbers(mean), numbers(std)));
  }

  add(other) {
    return this.#operator("add", other);
  }

  sub(other) {
    return this.#operator("subtract", other);
  }

  mul(other) {
    return this.#operator("multiply", other);
  }

  div(other) {
    return this.#operator("divide", other);
  }

  /**
   * Applies an operator by name, with the number first if `reversed`: power, remainder,
   * floor-divide, minimum, maximum, equal, not-equal, less, less-equal, greater, greater-equal.
   */
  operate(operator, other, reversed = false) {
    return this.#operator(binary(operator), other, Boolean(reversed));
  }

  /**
   * Applies a function to each element, by name: negative, absolute, exp, log, sqrt, tanh, sigmoid,
   * floor, ceil, round.
   */
  apply(name) {
    return this.#made((held) => held.apply(unary(name)));
  }

  /** Limits each element to at least `low` and at most `high`. */
  clip(low, high) {
    return this.#made((held) => held.clip(number(low), number(high)));
  }

  #reduce(reduction, axis, keep) {
    return this.#made((held) => held.reduce(reduction, axis == null ? null : this.#axis(axis), Boolean(keep)));
  }

  /** The sum along an axis, or over all elements. */
  sum(axis, keep = false) {
    return this.#reduce("sum", axis, keep);
  }

  mean(axis, keep = false) {
    return this.#reduce("mean", axis, keep);
  }

  min(axis, keep = false) {
    return this.#reduce("minimum", axis, keep);
  }

  max(axis, keep = false) {
    return this.#reduce("maximum", axis, keep);
  }

  /** The index of the first maximum, INT64. */
  argmax(axis, keep = false) {
    return this.#reduce("argmax", axis, keep);
  }

  argmin(axis, keep = false) {
    return this.#reduce("argmin", axis, keep);
  }

  /** The softmax along an axis. */
  softmax(axis = -1) {
    return this.#made((held) => held.softmax(this.#axis(axis)));
  }

  /**
   * The `k` greatest of the last axis in descending order, and their indices as INT64: [values,
   * indices].
   */
  topK(k) {
    return asked(() => this.#held.topK(number(k))).map((held) => new NdArray(held));
  }

  /**
   * Non-maximum suppression of boxes FP32 [n, 4] (x1, y1, x2, y2). Returns the INT64 indices of the
   * boxes to keep, best first, at most `limit`, for `take`. A box is removed if its score, FP32
   * [n], is below `least`, or if its intersection over union with a better box of its class exceeds
   * `overlap`.
   */
  nms(scores, { overlap, classes, least = 0, limit = 300 }) {
    return this.#made((held) => held.nms(NdArray.#of(scores), classes ? NdArray.#of(classes) : null, number(overlap), number(least), number(limit)));
  }

  /** Frees its memory before the call's end. It cannot be used afterwards. */
  [Symbol.dispose ?? "dispose"]() {
    this.#held[Symbol.dispose]?.();
  }
}

/**
 * Decodes a PNG, JPEG, WebP or GIF to pixels, UINT8 [height, width, channels]; of an animation the
 * first frame. Throws BadInput for other formats, damaged files, and files whose header states more
 * than `maxPixels`. Those are rejected before they are decoded.
 */
export function decodeImage(data, { channels = "rgb", maxPixels = 1 << 24 } = {}) {
  return new NdArray(asked((kit) => kit.decodeImage(encoded(data), channelsOf(channels), number(maxPixels))));
}

/**
 * Decodes a WAV to samples, FP32 [frames, channels] from -1 to 1, and its frame rate. Throws
 * BadInput as `decodeImage` does.
 */
export function decodeWav(data, { maxFrames = 1 << 22 } = {}) {
  const [samples, rate] = asked((kit) => kit.decodeWav(encoded(data), number(maxFrames)));
  return { samples: new NdArray(samples), rate };
}

/**
 * Truncates or pads token lists to one length. Returns the tokens, and an attention mask with 1 for
 * each token, as the values of two tensors: BigInt64Array [rows × length] each.
 */
export function padTokens(rows, length, value = 0) {
  const [tokens, there] = [0, 0].map(() => new BigInt64Array(rows.length * length));
  tokens.fill(BigInt(value));
  rows.forEach((row, at) => {
    row.slice(0, length).forEach((token, place) => {
      tokens[at * length + place] = BigInt(token);
      there[at * length + place] = 1n;
    });
  });
  return { tokens, there };
}
