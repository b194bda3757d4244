// The types of kit.js, for editors and TypeScript.
import type { Datatype, Tensor, Values } from "./tensorgate.js";

/** An array of numbers in the kit, row-major. */
export class NdArray {
  private constructor();
  static from(tensor: Tensor, datatype?: Datatype): NdArray;
  static of(
    datatype: Datatype,
    shape: number[],
    values: ArrayLike<number | bigint | boolean>,
  ): NdArray;
  static full(datatype: Datatype, shape: number[], value: number): NdArray;
  static concat(arrays: NdArray[], axis?: number): NdArray;
  static stack(arrays: NdArray[]): NdArray;
  static where(
    mask: NdArray,
    one: NdArray | number | bigint,
    other: NdArray | number | bigint,
  ): NdArray;
  get shape(): number[];
  get datatype(): Datatype;
  values(): Values;
  tensor(name: string, datatype?: Datatype): Tensor;
  cast(datatype: Datatype): NdArray;
  compress(mask: NdArray): NdArray;
  reshape(...dims: number[]): NdArray;
  transpose(...axes: number[]): NdArray;
  slice(...ranges: ([from: number, to?: number] | null)[]): NdArray;
  take(indices: ArrayLike<number | bigint> | NdArray, axis?: number): NdArray;
  pad(widths: [before: number, after: number][], value?: number): NdArray;
  fit(length: number, options?: { value?: number; axis?: number }): NdArray;
  resize(
    height: number,
    width: number,
    options?: { filter?: "bilinear" | "antialias" | "nearest"; layout?: "HWC" | "CHW" },
  ): NdArray;
  planes(options: { mean: number[]; std: number[]; scale?: number }): NdArray;
  add(other: NdArray | number | bigint): NdArray;
  sub(other: NdArray | number | bigint): NdArray;
  mul(other: NdArray | number | bigint): NdArray;
  div(other: NdArray | number | bigint): NdArray;
  operate(operator: string, other: NdArray | number | bigint, reversed?: boolean): NdArray;
  apply(name: string): NdArray;
  clip(low: number, high: number): NdArray;
  sum(axis?: number, keep?: boolean): NdArray;
  mean(axis?: number, keep?: boolean): NdArray;
  min(axis?: number, keep?: boolean): NdArray;
  max(axis?: number, keep?: boolean): NdArray;
  argmax(axis?: number, keep?: boolean): NdArray;
  argmin(axis?: number, keep?: boolean): NdArray;
  softmax(axis?: number): NdArray;
  topK(k: number): [values: NdArray, indices: NdArray];
  nms(
    scores: NdArray,
    options: { overlap: number; classes?: NdArray; least?: number; limit?: number },
  ): NdArray;
}

/** Decodes a PNG, JPEG, WebP or GIF to pixels, UINT8 [height, width, channels]. */
export function decodeImage(
  data: Uint8Array,
  options?: { channels?: "gray" | "rgb" | "rgba"; maxPixels?: number },
): NdArray;

/** Decodes a WAV to samples, FP32 [frames, channels] from -1 to 1, and its frame rate. */
export function decodeWav(
  data: Uint8Array,
  options?: { maxFrames?: number },
): { samples: NdArray; rate: number };

/** Truncates or pads token lists to one length: tokens, and a mask with 1 for each. */
export function padTokens(
  rows: number[][],
  length: number,
  value?: number,
): { tokens: BigInt64Array; there: BigInt64Array };
