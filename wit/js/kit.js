// The tensor kit: array work in Rust, inside the same component. `tensorgate handler build` puts it there.
//
//     const image = decodeImage(body.data).resize(224, 224).planes({ mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] });
//     return [image.tensor("image")];
//
// An `NdArray` lies in the kit: each method makes a new one there, and elements come back to JavaScript only by `values()` or `tensor()`. The kit is there while a call runs,
// not while modules are loaded (which happens as the component is built), and not in Node.js: what needs it throws there.
import { BadInput, Fault, Tensor } from "./tensorgate.js";

let kit = null;

/** For the entry point that each build writes: the kit's interface. */
export function connectKit(arrays) {
  kit = arrays;
}

/** Asks the kit; what it refuses is thrown as what it is. */
function asked(call) {
  if (!kit) throw new Fault("the tensor kit works while a call runs in a component, as in `tensorgate handler test`");
  try {
    return call(kit);
  } catch (error) {
    const failure = error?.payload ?? error?.val ?? error;
    if (typeof failure?.message !== "string" || failure.kind === undefined) throw error;
    if (failure.kind === "data") throw new BadInput(failure.message);
    const type = { overflow: RangeError, division: RangeError, room: RangeError, datatype: TypeError }[failure.kind] ?? Fault;
    throw new type(failure.message);
  }
}

const numbers = (list) => Array.from(list, Number);
const lower = (datatype) => datatype.toLowerCase();

/** An array of numbers in the kit, row-major. Operators broadcast and promote types as numpy's do. */
export class NdArray {
  #held;

  /** For this module: use `NdArray.from`, `NdArray.of` or what decodes. */
  constructor(held) {
    this.#held = held;
  }

  /** A tensor's elements. Throws BadInput if `datatype` is given and is not the tensor's, or if its data does not fit its shape. */
  static from(tensor, datatype) {
    if (datatype !== undefined && datatype !== tensor.datatype) {
      throw new BadInput(`tensor "${tensor.name}" is ${tensor.datatype}, not ${datatype}`);
    }
    if (tensor.datatype === "BYTES") throw new BadInput(`tensor "${tensor.name}" is BYTES: it has items()`);
    return new NdArray(asked(({ Array }) => Array.fromBytes(lower(tensor.datatype), numbers(tensor.shape), tensor.data)));
  }

  /** Values: a typed array of the datatype is taken as it is, anything else is copied into one. */
  static of(datatype, shape, values) {
    return NdArray.from(Tensor.of("values", datatype, shape, values));
  }

  /** One number everywhere. */
  static full(datatype, shape, value) {
    return new NdArray(asked(({ Array }) => Array.full(lower(datatype), numbers(shape), value)));
  }

  /** Arrays one after the other along an axis; the other dims agree, and so do the types. */
  static concat(arrays, axis = 0) {
    return new NdArray(asked(({ Array }) => Array.concat(arrays.map((each) => each.#held), axis)));
  }

  /** Arrays of one shape as the rows of a new first dim. */
  static stack(arrays) {
    return NdArray.concat(arrays.map((each) => each.reshape(1, ...each.shape)));
  }

  /** Its dims. */
  get shape() {
    return [...asked(() => this.#held.shape())];
  }

  /** Its element type. It is never FP16 or BF16: those are FP32 here. */
  get datatype() {
    return asked(() => this.#held.datatype()).toUpperCase();
  }

  /** The elements as the typed array of its datatype. */
  values() {
    return this.tensor("values").values();
  }

  /** The elements as a tensor; as FP16 or BF16 if `datatype` says so. */
  tensor(name, datatype = this.datatype) {
    return new Tensor(name, datatype, this.shape, asked(() => this.#held.toBytes(lower(datatype))));
  }

  #made(call) {
    return new NdArray(asked(() => call(this.#held)));
  }

  #axis(axis) {
    return axis < 0 ? axis + this.shape.length : axis;
  }

  #operator(operator, other, reversed = false) {
    if (other instanceof NdArray) return this.#made((held) => held.combine(operator, other.#held));
    const number = Number(other);
    if (typeof other === "bigint" && BigInt(number) !== other) throw new RangeError(`${other} is more than a number holds`);
    return this.#made((held) => held.combineNumber(operator, number, typeof other === "number" && !Number.isInteger(number), reversed));
  }

  /** The same numbers as another type. Floats lose what is behind the point; throws RangeError if one does not fit. */
  cast(datatype) {
    return this.#made((held) => held.cast(lower(datatype)));
  }

  /** The same elements in other dims, one of which may be -1. */
  reshape(...dims) {
    const known = dims.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
    const size = this.shape.reduce((product, dim) => product * dim, 1);
    return this.#made((held) => held.reshape(numbers(dims.map((dim) => (dim === -1 ? size / known : dim)))));
  }

  /** The dims in another order; reversed if none is given. */
  transpose(...axes) {
    const order = axes.length ? axes : [...this.shape.keys()].reverse();
    return this.#made((held) => held.transpose(numbers(order)));
  }

  /** Some of each axis, [from, to) as `Array.prototype.slice` counts, `null` for all of it: `image.slice([0, 224], [0, 224], null)`. */
  slice(...ranges) {
    const spans = this.shape.map((dim, axis) => {
      const [from, to] = ranges[axis] ?? [0, dim];
      const place = (at) => Math.min(Math.max(at < 0 ? at + dim : at, 0), dim);
      const start = place(from);
      return { start, count: Math.max(place(to ?? dim) - start, 0), step: 1 };
    });
    return this.#made((held) => held.slice(spans));
  }

  /** The indices of an axis that are listed, in that order. */
  take(indices, axis = 0) {
    const listed = indices instanceof NdArray ? indices.values() : indices;
    return this.#made((held) => held.gather(this.#axis(axis), numbers(listed)));
  }

  /** More elements before and after those of each axis: `image.pad([[2, 2], [0, 1], [0, 0]])`. */
  pad(widths, value = 0) {
    const [before, after] = [0, 1].map((side) => numbers(widths.map((width) => width[side])));
    return this.#made((held) => held.pad(before, after, value));
  }

  /** An axis cut or padded to a length, at its end. */
  fit(length, { value = 0, axis = -1 } = {}) {
    return this.#made((held) => held.fit(this.#axis(axis), length, value));
  }

  /**
   * Another size for an image, UINT8 or FP32: [height, width], or with `layout` HWC […, height, width, channels], or with CHW […, height, width]. Half-pixel centres.
   * `bilinear` is torch's (align_corners=False, antialias=False), `antialias` is Pillow's BILINEAR, `nearest` is Pillow's NEAREST.
   */
  resize(height, width, { filter = "bilinear", layout = "HWC" } = {}) {
    const dims = this.shape.length;
    return this.#made((held) => held.resize(dims - (layout === "HWC" && dims > 2 ? 3 : 2), height, width, filter));
  }

  /** Pixels to planes: […, h, w, c] to FP32 […, c, h, w], each channel (x × scale - mean) / std, in one pass. */
  planes({ mean, std, scale = 1 / 255 }) {
    return this.#made((held) => held.planes(scale, numbers(mean), numbers(std)));
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

  /** An operator by its name, with the number first if `reversed`: power, remainder, floor-divide, minimum, maximum, equal, not-equal, less, less-equal, greater, greater-equal. */
  operate(operator, other, reversed = false) {
    return this.#operator(operator, other, reversed);
  }

  /** A function of each element by its name: negative, absolute, exp, log, sqrt, tanh, sigmoid, floor, ceil, round. */
  apply(name) {
    return this.#made((held) => held.apply(name));
  }

  /** Each element, but at least `low` and at most `high`. */
  clip(low, high) {
    return this.#made((held) => held.clip(low, high));
  }

  #reduce(reduction, axis, keep) {
    return this.#made((held) => held.reduce(reduction, axis === undefined ? null : this.#axis(axis), keep));
  }

  /** The sum along an axis, or over all. */
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

  /** Where the first of the greatest is, INT64. */
  argmax(axis, keep = false) {
    return this.#reduce("argmax", axis, keep);
  }

  argmin(axis, keep = false) {
    return this.#reduce("argmin", axis, keep);
  }

  /** exp(x) over the sum of exp(x) along an axis. */
  softmax(axis = -1) {
    return this.#made((held) => held.softmax(this.#axis(axis)));
  }

  /** The greatest `k` of the last axis in descending order, and their indices as INT64: [values, indices]. */
  topK(k) {
    return asked(() => this.#held.topK(k)).map((held) => new NdArray(held));
  }

  /**
   * Which of the boxes FP32 [n, 4] (x1, y1, x2, y2) stay, best first, at most `limit`: INT64 indices, for `take`. A box goes if its score, FP32 [n], is below `least`, or if
   * a better one of its class covers it by more than `overlap` (intersection over union).
   */
  nms(scores, { overlap, classes, least = 0, limit = 300 }) {
    return this.#made((held) => held.nms(scores.#held, classes ? classes.#held : null, overlap, least, limit));
  }

  /** Gives its memory back before the call's end. It cannot be used any more. */
  [Symbol.dispose ?? "dispose"]() {
    this.#held[Symbol.dispose]?.();
  }
}

/**
 * A PNG's or a JPEG's pixels, UINT8 [height, width, channels]. Throws BadInput for what is neither, is damaged, or says that it has more than `maxPixels`: nothing
 * is unpacked then.
 */
export function decodeImage(data, { channels = "rgb", maxPixels = 1 << 24 } = {}) {
  return new NdArray(asked((kit) => kit.decodeImage(data, channels, maxPixels)));
}

/** A WAV's samples, FP32 [frames, channels] from -1 to 1, and its frames a second. Throws as `decodeImage` does. */
export function decodeWav(data, { maxFrames = 1 << 22 } = {}) {
  const [samples, rate] = asked((kit) => kit.decodeWav(data, maxFrames));
  return { samples: new NdArray(samples), rate };
}

/** Token lists cut or padded to one length, and 1 where a token is: two tensors' values, BigInt64Array [rows × length] each. */
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
