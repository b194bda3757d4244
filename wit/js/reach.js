// Files and features that the host fetches, if the policy grants it (`fetch:`, `lookups:`).
//
//     const [image] = fetch([url]);
//     if (image instanceof Missing) throw new BadInput(`no image: ${image.why}`);
//
// A handler has no network and never waits. When a file or a feature is not available yet, the host
// ends the call, fetches it, and runs the call again from its beginning in a fresh instance. A
// handler cannot observe that, so no function here returns a promise. But the fuel and time limits
// cover all runs together: request all files in one call, as early as possible and before expensive
// work.
//
// `tensorgate handler build` adds these interfaces to a component if its handler.yaml has `fetch:`
// or `lookups:`. A host loads such a component only if its policy has the section too. In Node.js
// there is no host: `setFile` and `setFeature` set the answers.

/**
 * A fetched file: its media type, which the policy lists, and its bytes, at most the policy's
 * `max_bytes`. They have not been validated.
 */
export class File {
  /** @param {string} contentType @param {Uint8Array} data */
  constructor(contentType, data) {
    this.contentType = contentType;
    this.data = data;
  }
}

/**
 * A file or feature is not available, and `why`: "refused" (the policy does not allow it),
 * "unavailable", "timeout", "too-large", "wrong-type" or "not-found". The handler must handle it:
 * an uncaught one is a fault.
 */
export class Missing extends Error {
  /** @param {string} why */
  constructor(why) {
    super(why);
    this.name = "Missing";
    this.why = why;
  }
}

/** The interfaces that the component imports; null in Node.js. */
let host = null;
const files = new Map();
const features = new Map();

/**
 * Fetches `https` URLs: for each a `File`, or a `Missing` with the reason. More files than the
 * policy's `max_requests`, over the whole call, end it as a fault.
 * @param {string[]} urls @returns {(File | Missing)[]}
 */
export function fetch(urls) {
  const asked = texts("URLs", urls);
  if (host?.fetch) {
    return host.fetch.get(asked).map(({ tag, val }) => (tag === "ok" ? new File(val.contentType, val.data) : new Missing(val)));
  }
  granted("fetch");
  return asked.map((url) => files.get(url) ?? new Missing("not-found"));
}

/**
 * Looks up features for keys in a lookup of the policy: by feature, the values in the order of the
 * keys, null where the service has no value. Throws Missing if the lookup failed. An unknown
 * lookup, or more lookups than its `max_requests`, end the call as a fault.
 * @param {string} name @param {string[]} wanted @param {string[]} keys
 * @returns {Record<string, (number | null)[]>}
 */
export function lookup(name, wanted, keys) {
  const [columns, of] = [texts("features", wanted), texts("keys", keys)];
  if (host?.lookup) {
    const got = found(() => host.lookup.get(String(name), columns, of));
    return table(got.map(({ feature, values }) => [feature, [...values]]));
  }
  granted("lookups");
  return table(columns.map((feature) => [feature, of.map((key) => features.get(JSON.stringify([name, feature, key])) ?? null)]));
}

/** Without a prototype, because a feature may have any name. */
function table(columns) {
  return Object.assign(Object.create(null), Object.fromEntries(columns));
}

function found(call) {
  try {
    return call();
  } catch (error) {
    const why = error?.payload ?? error?.val ?? error;
    throw typeof why === "string" ? new Missing(why) : error;
  }
}

function texts(what, given) {
  if (!Array.isArray(given)) throw new TypeError(`${what} are a list`);
  return given.map(String);
}

/** Throws in a component that was built without the interface. */
function granted(field) {
  if (host) throw new Error(`this component was built without a \`${field}:\` in its handler.yaml`);
}

/** Sets a file that `fetch` finds in unit tests. All others are a `Missing` with "not-found". */
export function setFile(url, contentType, data) {
  files.set(url, new File(contentType, data));
}

/** Sets the value of a feature for a key, which `lookup` finds in unit tests. Others have none. */
export function setFeature(name, feature, key, value) {
  features.set(JSON.stringify([name, feature, key]), value);
}

/** For the entry point that each build writes. */
export function connectReach(interfaces) {
  host = interfaces;
}
