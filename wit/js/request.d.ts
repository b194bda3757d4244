// The types of request.js, for editors and TypeScript.

/** The most bytes that can be carried. */
export const MAX_CARRY_BYTES: number;

/** The request that a call belongs to. */
export interface Request {
  requestId: string;
  client: string;
  model: string;
  version: string;
  operation: string;
  /** In milliseconds since 1970. */
  time: number;
  /** Those that the policy lists for this handler. */
  parameters: Record<string, boolean | number | string>;
  /** The dimensions by tensor, or the media type of a body that is not parsed, and the size. */
  input: { tensors: Record<string, number[]>; mediaType: string | null; mediaBytes: number };
}

/** The request that the call belongs to. */
export function context(): Request;

/** Bytes from the preprocess handlers of a request to its postprocess handlers. */
export const carry: {
  set(data: Uint8Array): void;
  get(): Uint8Array;
};

/** Sets values that `context` returns in unit tests. */
export function setContext(values: Partial<Request>): void;

/** Sets what `carry.get` returns in unit tests. */
export function setCarry(data: ArrayLike<number>): void;
