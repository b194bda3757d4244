// Converts the author's modules to functions, which a development component evaluates in each call.
//
// `node development_modules.mjs FOLDER` prints the functions of handler.js and of all modules that it
// imports, as JSON. Lines stay where they are. What has no simple conversion is named, and the
// project is built as for production instead.
import { readFileSync } from "node:fs";
import { posix } from "node:path";
import { pathToFileURL } from "node:url";
import { Script } from "node:vm";

// The modules that the runtime has, with their connection to the host.
export const SUPPORT = ["tensorgate.js", "kit.js", "reach.js", "request.js"];

// Why modules cannot be converted.
class Unconverted extends Error {}

const NAME = /[\p{ID_Start}$_][\p{ID_Continue}$]*/uy;
// After these words, a slash begins a regular expression.
const BEFORE_VALUE = new Set(
  "await case delete do else in instanceof new of return throw typeof void yield".split(" "),
);

// The tokens of a text: `{ kind, text, start, end, depth, line }`. The depth counts open brackets.
function tokens(text) {
  const found = [];
  const open = [];
  let at = 0;
  const push = (kind, end) => {
    found.push({ kind, text: text.slice(at, end), start: at, end, depth: open.length });
    at = end;
  };
  const valueEnded = () => {
    const last = found.at(-1);
    if (!last) return false;
    if (last.kind === "name") return !BEFORE_VALUE.has(last.text);
    if (last.kind === "template") return !last.text.endsWith("${");
    return last.kind !== "mark" || last.text === ")" || last.text === "]" || last.text === "}";
  };
  const quoted = (quote) => {
    let end = at + 1;
    while (end < text.length && text[end] !== quote) end += text[end] === "\\" ? 2 : 1;
    push("string", end + 1);
  };
  // The part of a template up to `${` or its end.
  const template = (from) => {
    let end = from;
    while (end < text.length && text[end] !== "`" && !text.startsWith("${", end)) {
      end += text[end] === "\\" ? 2 : 1;
    }
    const continues = text.startsWith("${", end);
    push("template", end + (continues ? 2 : 1));
    if (continues) open.push("template");
  };
  while (at < text.length) {
    const letter = text[at];
    if (/\s/.test(letter)) {
      at++;
    } else if (text.startsWith("//", at)) {
      const end = text.indexOf("\n", at);
      at = end < 0 ? text.length : end;
    } else if (text.startsWith("/*", at)) {
      const end = text.indexOf("*/", at + 2);
      at = end < 0 ? text.length : end + 2;
    } else if (letter === '"' || letter === "'") {
      quoted(letter);
    } else if (letter === "`") {
      template(at + 1);
    } else if (letter === "/" && !valueEnded()) {
      let end = at + 1;
      for (let inClass = false; end < text.length && (inClass || text[end] !== "/"); end++) {
        if (text[end] === "\n") throw new Unconverted("a regular expression that does not end");
        if (text[end] === "\\") end++;
        else if (text[end] === "[") inClass = true;
        else if (text[end] === "]") inClass = false;
      }
      end++;
      while (/[a-z]/.test(text[end] ?? "")) end++;
      push("value", end);
    } else if (/[0-9]/.test(letter)) {
      let end = at + 1;
      while (/[\w.]/.test(text[end] ?? "")) end++;
      push("value", end);
    } else if (letter === "}" && open.at(-1) === "template") {
      open.pop();
      template(at + 1);
    } else {
      NAME.lastIndex = at;
      const name = NAME.exec(text);
      if (name) {
        push("name", at + name[0].length);
        continue;
      }
      if (")]}".includes(letter)) open.pop();
      push("mark", at + 1);
      if ("([{".includes(letter)) open.push(letter);
    }
  }
  if (open.length) throw new Unconverted("brackets that are not closed");
  return found;
}

// The text of a module as a function's body, and the paths that it imports.
export function convert(path, original) {
  const text = original.replace(/^#!/, "//");
  const all = tokens(text);
  const edits = [];
  const exported = new Map();
  const imports = [];
  let at = 0;
  const is = (mark, token = all[at]) => token?.text === mark && token.kind !== "string";
  const fail = (what) => {
    const line = text.slice(0, (all[at] ?? all.at(-1)).start).split("\n").length;
    throw new Unconverted(`${what} in ${path}:${line}`);
  };
  const take = (mark) => {
    if (mark !== undefined && !is(mark)) fail(`\`${all[at]?.text}\` where \`${mark}\` is expected`);
    return all[at++];
  };
  const name = () => (all[at]?.kind === "name" ? take().text : fail("a name that is none"));
  // `{ a, b as c }`, as pairs.
  const pairs = () => {
    const found = [];
    take("{");
    while (!is("}")) {
      const one = name();
      found.push([one, is("as") ? (take(), name()) : one]);
      if (!is("}")) take(",");
    }
    take("}");
    return found;
  };
  const module = () => {
    const token = take();
    if (token?.kind !== "string") fail("an import without a path");
    if (is("with") || is("assert")) fail("an import with attributes");
    const named = token.text.slice(1, -1);
    if (!named.startsWith("./") && !named.startsWith("../")) fail(`the import of the package ${named}`);
    const resolved = posix.normalize(posix.join(posix.dirname(path), named));
    if (resolved.startsWith("../")) fail("an import from outside of the project");
    imports.push(resolved);
    return `require(${JSON.stringify(resolved)})`;
  };
  // Replaces the tokens from `first` to before the present one, with as many lines as they have.
  const replace = (first, by) => {
    if (is(";")) take();
    const [start, end] = [all[first].start, all[at - 1].end];
    const lines = text.slice(start, end).split("\n").length - 1;
    edits.push([start, end, `${by};${"\n".repeat(lines)}`]);
  };
  const importStatement = () => {
    const first = at;
    take("import");
    if (all[at]?.kind === "string") return replace(first, module());
    const parts = [];
    let space;
    if (all[at]?.kind === "name") {
      parts.push(`default: ${name()}`);
      if (is(",")) take();
    }
    if (is("*")) {
      take();
      take("as");
      space = name();
    } else if (is("{")) {
      parts.push(...pairs().map(([one, other]) => (one === other ? one : `${one}: ${other}`)));
    }
    take("from");
    const from = module();
    const constants = space ? [`${space} = ${from}`] : [];
    if (parts.length || !space) constants.push(`{ ${parts.join(", ")} } = ${space ?? from}`);
    replace(first, `const ${constants.join(", ")}`);
  };
  const exportStatement = () => {
    const first = at;
    take("export");
    const drop = (until) => edits.push([all[first].start, all[until].start, ""]);
    if (is("{")) {
      const found = pairs();
      if (is("from")) fail("`export … from`");
      for (const [one, other] of found) exported.set(other, one);
      return replace(first, "");
    }
    if (is("*")) fail("`export *`");
    const isDefault = is("default");
    if (isDefault) take();
    const declaration = at;
    if (is("async") && is("function", all[at + 1])) take();
    if (is("function") || is("class")) {
      take();
      if (is("*")) take();
      if (all[at]?.kind === "name" && !is("extends")) {
        const declared = name();
        exported.set(isDefault ? "default" : declared, declared);
        return drop(declaration);
      }
      at = declaration;
    }
    if (isDefault) {
      edits.push([all[first].start, all[at].start, "exports.default = "]);
      return;
    }
    if (!is("const") && !is("let") && !is("var")) fail("an export of this kind");
    drop(at);
    take();
    const depth = all[at].depth;
    const declared = name();
    exported.set(declared, declared);
    // Another declaration after a comma would not be found on a further line.
    for (const token of all.slice(at)) {
      if (token.depth !== depth) continue;
      if (is(";", token) || is("export", token) || is("import", token)) return;
      if (is(",", token)) fail("an export of several names");
    }
  };
  while (at < all.length) {
    const token = all[at];
    const isMember = is(".", all[at - 1]);
    if (token.kind === "name" && !isMember && token.text === "import") {
      const isStatement = token.depth === 0 && !is("(", all[at + 1]) && !is(".", all[at + 1]);
      if (!isStatement && !is(":", all[at + 1])) fail("a dynamic import");
      if (isStatement) {
        importStatement();
        continue;
      }
    } else if (token.kind === "name" && !isMember && token.text === "export" && token.depth === 0) {
      exportStatement();
      continue;
    }
    if (token.text === "await" && token.depth === 0) fail("`await` outside of a function");
    at++;
  }
  let body = "";
  let from = 0;
  for (const [start, end, by] of edits) {
    body += text.slice(from, start) + by;
    from = end;
  }
  body += text.slice(from);
  const getters = [...exported].map(([shown, own]) => `${JSON.stringify(shown)}: () => ${own}`);
  return { imports, body: `"use strict"; define({ ${getters.join(", ")} }); ${body}` };
}

// The functions of handler.js and of all modules that it imports, by their paths.
export function converted(read) {
  const files = {};
  const waiting = ["handler.js"];
  while (waiting.length) {
    const path = waiting.pop();
    if (path in files || SUPPORT.includes(path)) continue;
    const { imports, body } = convert(path, read(path));
    files[path] = body;
    // Compiles the function, and does not run it.
    new Script(`(function (exports, define, require) {${body}\n})`, { filename: path });
    waiting.push(...imports);
  }
  return files;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const read = (path) => readFileSync(posix.join(process.argv[2], path), "utf8");
  let printed;
  try {
    printed = { files: converted(read) };
  } catch (error) {
    printed = { ordinary: error.message };
  }
  process.stdout.write(JSON.stringify(printed));
}
