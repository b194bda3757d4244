// Checks what a handler returned. The error of a wrong return is one sentence that says what to
// return.

// What a handler returns in place of an array of tensors, by its class, and the cure.
const WRONG_RETURNS = {
  undefined: "end it with `return` and an array of tensors, which may be empty: `return []`",
  null: "return an array of tensors, which may be empty: `return []`",
  Tensor: "put it into an array, as in `return [tensor]`",
  NdArray: 'name it and put it into an array, as in `return [array.tensor("name")]`',
  Promise: "write it without `async`, because a handler never waits",
};
// What to do about any other value.
const RETURN_TENSORS = 'return an array of tensors, as in `return [Tensor.of("name", "FP32", [2], [0, 1])]`';

// The tensors that the function of a world returned. Throws `Fault` if they are none.
export function tensorsOf(world, returned, Fault) {
  const kind = kindOf(returned);
  if (!Array.isArray(returned)) {
    const cure = Object.hasOwn(WRONG_RETURNS, kind) ? WRONG_RETURNS[kind] : RETURN_TENSORS;
    throw new Fault(`${world} returned ${named(kind)}: ${cure}`);
  }
  for (const [index, item] of returned.entries()) {
    if (!isTensor(item)) {
      throw new Fault(`${world} returned an array whose item ${index} is ${named(kindOf(item))}: ${RETURN_TENSORS}`);
    }
    const wrong = wrongPart(item);
    if (wrong) throw new Fault(`${world} returned tensor "${item.name}" with ${wrong}`);
  }
  return returned;
}

const DATATYPE = /^(BOOL|BYTES|U?INT(8|16|32|64)|FP(16|32|64)|BF16)$/;

// What no component can return as a part of a tensor.
function wrongPart({ datatype, shape, data }) {
  if (!DATATYPE.test(datatype)) return `the unknown datatype ${datatype}`;
  const isDim = (dim) => typeof dim === "bigint" || (Number.isInteger(dim) && dim >= 0);
  if (!Array.isArray(shape) || !shape.every(isDim)) return `the shape [${shape}], which needs whole numbers`;
  return data instanceof Uint8Array ? undefined : "data that is no Uint8Array: Tensor.of makes it of values";
}

// A value's class, or its type if it has none.
function kindOf(value) {
  if (value === null || value === undefined) return String(value);
  if (typeof value.then === "function") return "Promise";
  return typeof value === "object" ? (value.constructor?.name ?? "Object") : typeof value;
}

// Whether a value has what a tensor has, whichever class it is of.
function isTensor(value) {
  const isObject = typeof value === "object" && value !== null;
  return isObject && typeof value.name === "string" && typeof value.datatype === "string" && "shape" in value && "data" in value;
}

function named(kind) {
  if (kind === "undefined" || kind === "null") return kind;
  return `${/^[aeio]/i.test(kind) ? "an" : "a"} ${kind}`;
}
