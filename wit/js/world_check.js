// Checks, while a component is built, that the handler exports the function of its world. Without
// this check a misspelt name is found by the first request, which gets 500.

// Names in a message: the first of the module's functions.
const MAX_NAMES = 8;
// Largest edit distance between a name and the one that was probably meant.
const MAX_DISTANCE = 4;
// The parameter of each world's function, as in wit/handler.wit.
const PARAMETERS = { preprocess: "input", postprocess: "outputs" };

// Throws unless a module exports a function that the host can call. The build recognises the error
// by the first word of its message, because QuickJS leaves out the name of an error's class.
export function check(handler, world) {
  const found = handler[world];
  if (typeof found === "function") return;
  const wanted = `${world}(${PARAMETERS[world]})`;
  const message =
    found === undefined
      ? `handler.js exports no function ${wanted}\n${others(handler, world)}`
      : `handler.js exports ${world} as ${found === null ? "null" : typeof found}, not as a function`;
  throw new Error(`WorldMismatch: ${message}`);
}

// The functions that a module exports, and the one that was probably meant.
function others(handler, world) {
  const names = Object.keys(handler).filter((name) => typeof handler[name] === "function");
  if (names.length === 0) return "found: no function";
  const found = `found: ${names.slice(0, MAX_NAMES).join(", ")}${names.length > MAX_NAMES ? ", …" : ""}`;
  const other = Object.keys(PARAMETERS).find((name) => name !== world && names.includes(name));
  if (other) return `${found}; handler.yaml has \`world: ${world}\`, did you mean \`world: ${other}\`?`;
  if (names.includes("default")) return `${found}; write \`export function ${world}\` without \`default\``;
  if (names.some((name) => distance(name, world) <= MAX_DISTANCE)) return `${found}; did you mean ${world}?`;
  return found;
}

// The edit distance of two texts (Levenshtein), with one row of the table at a time.
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let line = 1; line <= one.length; line++) {
    const next = [line];
    for (let at = 1; at <= other.length; at++) {
      const changed = row[at - 1] + (one[line - 1] === other[at - 1] ? 0 : 1);
      next.push(Math.min(changed, row[at] + 1, next[at - 1] + 1));
    }
    row = next;
  }
  return row[other.length];
}
