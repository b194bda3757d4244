// What the host brings from elsewhere, if the policy grants it: files (`fetch:`) and features (`lookups:`).
//
//     const [image] = fetch([url]);
//     if (image instanceof Missing) throw new BadInput(`no image: ${image.why}`);
//
// A handler has no network and never waits. It says what it wants; where that is not at hand yet the call ends there, the host brings it, and a fresh instance
// runs the call again from its beginning. A handler cannot tell, but its fuel and time are those of all runs together: ask for all files in one call, as early
// as it can be said which, before anything that costs. So nothing here is a promise.
//
// `tensorgate handler build` gives a component these interfaces if its handler.yaml has a `fetch:` or `lookups:`, and a host loads such a component only where
// its policy has one, too. In Node.js, where there is no host, there is what `setFile` and `setFeature` say.

/** A fetched file: its media type, one that the policy lists, and its bytes, at most the policy's `max_bytes`. Nothing has looked at them. */
export class File {
  /** @param {string} contentType @param {Uint8Array} data */
  constructor(contentType, data) {
    this.contentType = contentType;
    this.data = data;
  }
}

/**
 * Something was not brought, and `why`: "refused" (the policy does not let it be asked for or reached), "unavailable", "timeout", "too-large", "wrong-type" or
 * "not-found". One that a handler lets pass is a fault: whose fault it is, is for the handler to say.
 */
export class Missing extends Error {
  /** @param {string} why */
  constructor(why) {
    super(why);
    this.name = "Missing";
    this.why = why;
  }
}

/** What there is of the two interfaces; null in Node.js. */
let host = null;
const files = new Map();
const features = new Map();

/**
 * The files at these `https` URLs, one for each: a `File`, or a `Missing` that says why there is none.
 * More than the policy's `max_requests` in all ends the call as a fault.
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
 * Each feature's values from the policy's lookup of that name, by feature, in the keys' order: null where the service has none.
 * Throws Missing where nothing came. A lookup that the policy does not name, and more than its `max_requests`, end the call as a fault.
 * @param {string} name @param {string[]} wanted @param {string[]} keys @returns {Record<string, (number | null)[]>}
 */
export function lookup(name, wanted, keys) {
  const [columns, of] = [texts("features", wanted), texts("keys", keys)];
  if (host?.lookup) {
    const got = found(() => host.lookup.get(name, columns, of));
    return table(got.map(({ feature, values }) => [feature, [...values]]));
  }
  granted("lookups");
  return table(columns.map((feature) => [feature, of.map((key) => features.get(JSON.stringify([name, feature, key])) ?? null)]));
}

/** Without a prototype: a feature may have any name. */
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

/** In a component without the interface there is nobody to ask. */
function granted(field) {
  if (host) throw new Error(`this component was built without a \`${field}:\` in its handler.yaml`);
}

/** For unit tests: puts a file where `fetch` finds it. Any other is a `Missing` that says "not-found". */
export function setFile(url, contentType, data) {
  files.set(url, new File(contentType, data));
}

/** For unit tests: gives a key's feature a value, which `lookup` finds. Any other has none. */
export function setFeature(name, feature, key, value) {
  features.set(JSON.stringify([name, feature, key]), value);
}

/** For the entry point that each build writes. */
export function connectReach(interfaces) {
  host = interfaces;
}
