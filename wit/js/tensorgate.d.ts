// The types of tensorgate.js, for editors and TypeScript.

/** The Open Inference Protocol's element types, and BF16. */
export type Datatype =
  | "BOOL" | "UINT8" | "UINT16" | "UINT32" | "UINT64" | "INT8" | "INT16" | "INT32" | "INT64"
  | "FP16" | "BF16" | "FP32" | "FP64" | "BYTES";

/** The elements of a tensor. Those of UINT64 and INT64 are BigInts. */
export type Values =
  | Uint8Array | Uint16Array | Uint32Array | BigUint64Array | Int8Array | Int16Array | Int32Array
  | BigInt64Array | Float32Array | Float64Array;

/** The input of a preprocess handler. */
export type Payload = Tensor[] | Raw;

/** The input is bad: the caller gets 400, and the text for it if the policy allows that. */
export class BadInput extends Error {
  constructor(log: string, texts?: { caller?: string });
  caller?: string;
}

/** The handler failed: the caller gets 500. */
export class Fault extends Error {}

/** A tensor: its name, datatype, shape, and elements, row-major and little-endian. */
export class Tensor {
  constructor(name: string, datatype: Datatype, shape: number[], data: Uint8Array);
  name: string;
  datatype: Datatype;
  shape: number[];
  data: Uint8Array;
  values(datatype?: Datatype): Values;
  items(): Uint8Array[];
  static of(
    name: string,
    datatype: Datatype,
    shape: number[],
    values: ArrayLike<number | bigint | boolean>,
  ): Tensor;
  static ofItems(name: string, items: (Uint8Array | string)[], shape?: number[]): Tensor;
}

/** A request body that the policy admits unparsed. */
export class Raw {
  constructor(contentType: string, data: Uint8Array);
  contentType: string;
  data: Uint8Array;
}

/** The UTF-8 bytes of a string. */
export function bytes(text: string): Uint8Array;

/** The string of UTF-8 bytes. Throws BadInput if they are not valid UTF-8. */
export function text(data: Uint8Array): string;

/** The value of a key in the policy's `config:` of this handler, or null if it is not set. */
export function config(key: string): string | null;

/** The operator's log. */
export const log: {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
};

/** Sets what `config` returns in unit tests. */
export function setConfig(all: Record<string, string>): void;
