// The request that a call belongs to, and bytes between the handlers of a request.
//
//     const { client, parameters } = context();
//     carry.set(bytes(JSON.stringify({ width, height })));
//
// In Node.js there is no host: `setContext` and `setCarry` set the answers.

/** The most bytes that can be carried. */
export const MAX_CARRY_BYTES = 65536;

const EMPTY = {
  requestId: "",
  client: "",
  model: "",
  version: "",
  operation: "infer",
  time: 0,
  parameters: {},
  input: { tensors: {}, mediaType: null, mediaBytes: 0 },
};

/** The interfaces that the component imports; null in Node.js. */
let host = null;
let request = EMPTY;
let carried = new Uint8Array(0);

/**
 * The request that the call belongs to. A replay of the call gets the same values. `operation` is
 * "infer", or "stream" for a message of a stream. `time` is in milliseconds since 1970.
 * `parameters` has those that the policy lists for this handler. `input` has the dimensions by
 * tensor, or the media type of a body that is not parsed, and the size in bytes. Whole numbers
 * beyond 2 ** 53 are rounded.
 */
export function context() {
  if (!host) return request;
  const { parameters, input, ...rest } = host.context.get();
  return {
    ...rest,
    parameters: named(parameters.map(([name, { val }]) => [name, val])),
    input: {
      tensors: named(input.tensors.map(({ name, shape }) => [name, [...shape]])),
      mediaType: input.mediaType ?? null,
      mediaBytes: input.mediaBytes,
    },
  };
}

/** Bytes from the preprocess handlers of a request to its postprocess handlers. */
export const carry = {
  /** Replaces the bytes. Throws RangeError if there are more than 65536. @param {Uint8Array} data */
  set(data) {
    if (!(data instanceof Uint8Array)) throw new TypeError("carry.set takes a Uint8Array");
    if (data.length > MAX_CARRY_BYTES) throw new RangeError(`carry.set takes at most ${MAX_CARRY_BYTES} bytes, not ${data.length}`);
    if (host) host.carry.set(data);
    else carried = Uint8Array.from(data);
  },
  /** The bytes that an earlier handler of the same request has set last. Empty without any. */
  get() {
    return host ? host.carry.get() : carried;
  },
};

/** Without a prototype, because a name may be any text. */
function named(entries) {
  return Object.assign(Object.create(null), Object.fromEntries(entries));
}

/** Sets values that `context` returns in unit tests. */
export function setContext(values) {
  request = { ...EMPTY, ...values };
}

/** Sets what `carry.get` returns in unit tests. */
export function setCarry(data) {
  carried = Uint8Array.from(data);
}

/** For the entry point that each build writes. */
export function connectRequest(interfaces) {
  host = interfaces;
}
