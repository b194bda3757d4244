// The text of a value that a handler printed or threw.

// Errors that a text has: the thrown one, its causes and the parts of a group.
const MAX_ERRORS = 4;
// Lines of each error's stack, the innermost.
const MAX_FRAMES = 8;
// Frames that the engine keeps, as those of the kit come first.
Error.stackTraceLimit = 32;
// Items of a thrown list, and characters of a thrown value.
const MAX_ITEMS = 16;
const MAX_CHARACTERS = 1_000;

// A value as a line of the log shows it, with at most this many items of a list.
export function text(value, items = Infinity) {
  try {
    if (value instanceof Error) return `${value}\n${value.stack ?? ""}`.trimEnd();
    if (typeof value !== "object" || value === null) return String(value);
    const json = JSON.stringify(value, (_, part) => {
      if (typeof part === "bigint") return String(part);
      const list = ArrayBuffer.isView(part) ? Array.from(part.subarray?.(0, items) ?? []) : part;
      return Array.isArray(list) ? list.slice(0, items) : list;
    });
    return json ?? String(value);
  } catch {
    // It contains itself, or its getter throws.
    return "an object that cannot be shown";
  }
}

// What was thrown, with its stack, its causes and the parts of a group. `message` replaces the
// thrown error's own text and stack.
export function story(thrown, message) {
  const told = [];
  const rest = [["", thrown]];
  while (rest.length && told.length < MAX_ERRORS) {
    const [relation, value] = rest.shift();
    told.push(relation + (told.length || message === undefined ? part(value) : message));
    rest.unshift(...behind(value));
  }
  return told.join("\n") + (rest.length ? "\n…" : "");
}

function part(value) {
  if (!(value instanceof Error)) return cut(text(value, MAX_ITEMS));
  try {
    // Frames of the author only. Some engines repeat the text before the frames.
    const frames = String(value.stack ?? "").match(/^ +at (?!.*[( ](\/build\/js\/|\/(kit|tensorgate)\.js|native)).*$/gm) ?? [];
    return [cut(String(value)), ...frames.slice(0, MAX_FRAMES)].join("\n");
  } catch {
    return "an error without a readable text";
  }
}

function cut(told) {
  return told.length > MAX_CHARACTERS ? `${told.slice(0, MAX_CHARACTERS)}…` : told;
}

// What stands behind an error. The parts of a group come before its cause.
function behind(value) {
  try {
    if (!(value instanceof Error)) return [];
    const parts = Array.isArray(value.errors) ? value.errors.slice(0, MAX_ERRORS) : [];
    const causes = value.cause === undefined ? [] : [["caused by ", value.cause]];
    return [...parts.map((each) => ["with ", each]), ...causes];
  } catch {
    return [];
  }
}
