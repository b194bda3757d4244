// The types of reach.js, for editors and TypeScript.

/** Why a file or feature is not available. */
export type Why = "refused" | "unavailable" | "timeout" | "too-large" | "wrong-type" | "not-found";

/** A fetched file: its media type and its bytes, which have not been validated. */
export class File {
  constructor(contentType: string, data: Uint8Array);
  contentType: string;
  data: Uint8Array;
}

/** A file or feature is not available. */
export class Missing extends Error {
  constructor(why: Why);
  why: Why;
}

/** Fetches `https` URLs: for each a `File`, or a `Missing` with the reason. */
export function fetch(urls: string[]): (File | Missing)[];

/** Looks up features for keys: by feature, the values in the order of the keys. */
export function lookup(
  name: string,
  wanted: string[],
  keys: string[],
): Record<string, (number | null)[]>;

/** Sets a file that `fetch` finds in unit tests. */
export function setFile(url: string, contentType: string, data: Uint8Array): void;

/** Sets the value of a feature for a key, which `lookup` finds in unit tests. */
export function setFeature(name: string, feature: string, key: string, value: number): void;
