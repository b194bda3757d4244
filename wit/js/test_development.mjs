// The conversion of an author's modules to functions, and their loader, with a stand-in for the host.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { convert, converted } from "./development_modules.mjs";

const here = import.meta.url;
const loader = readFileSync(new URL("development.js", here), "utf8")
  .replace(/import \* as sources .*\n/, "const sources = globalThis.developmentSources;\n")
  .replace("./build/js/world_check.js", new URL("world_check.js", here).href)
  .replace("// SUPPORT\n", 'support["tensorgate.js"] = { scale: 10, Fault: class extends Error {} };\n');

// What a function of the author's modules returns for an input.
async function called(modules, given, more = {}) {
  const files = { ...converted((path) => modules[path] ?? assert.fail(path)), ...more };
  const parts = Object.entries(files).flatMap(([path, body]) => [Buffer.from(path), Buffer.from(body)]);
  const lengths = parts.map((part) => Buffer.from(new Uint32Array([part.length]).buffer));
  const archive = new Uint8Array(Buffer.concat(parts.flatMap((part, at) => [lengths[at], part])));
  globalThis.developmentSources = { read: () => archive };
  const number = Math.random();
  const { preprocess } = await import(`data:text/javascript,${encodeURIComponent(loader)}//${number}`);
  return preprocess(given);
}

test("modules are connected by their exports", async () => {
  const modules = {
    "handler.js": `#!/usr/bin/env node
import * as tensorgate from "./tensorgate.js";
import one, { twice as double, WORDS } from "./lib/math.js";
import "./lib/effect.js";
export function preprocess(input) {
  const text = \`\${double(input)} \${ {a: \`\${one()}\`}.a } é \${/[/"]\\/x/.test('"/x') ? 1 : 4 / 2 / 1}\`;
  return [text, WORDS, tensorgate.scale, globalThis.effect];
}
`,
    "lib/math.js": `export default function () { return "one"; }
export const twice = (value) => { return 2 * value, 2 * value; };
const list = ["a", 'b'];
export { list as WORDS };
export class Box extends Array {}
export async function later() { await 1; }
`,
    "lib/effect.js": "import { twice } from './math.js'; globalThis.effect = twice(4);",
  };
  assert.deepEqual(await called(modules, 3), ["6 one é 1", ["a", "b"], 10, 8]);
  assert.deepEqual(await called(modules, 3, { "": "" }), []);
});

test("lines stay where they are", () => {
  const text = 'import {\n  a,\n  b,\n} from "./other.js";\n\nexport const c = 1;\nmark();\n';
  const { body, imports } = convert("handler.js", text);
  const lines = (of) => of.slice(0, of.indexOf("mark()")).split("\n").length;
  assert.equal(lines(body), lines(text));
  assert.deepEqual(imports, ["other.js"]);
});

test("what has no simple conversion is named with its line", () => {
  for (const [text, expected] of [
    ['import x from "lodash";', "the import of the package lodash in handler.js:1"],
    ['import "./a/../../b.js";', "an import from outside of the project in handler.js:1"],
    ['\nexport * from "./a.js";', "`export *` in handler.js:2"],
    ['export { a } from "./a.js";', "`export … from` in handler.js:1"],
    ["export const a = 1, b = 2;", "an export of several names in handler.js:1"],
    ["export const { a } = {};", "a name that is none in handler.js:1"],
    ['const a = import("./a.js");', "a dynamic import in handler.js:1"],
    ["import.meta.url;", "a dynamic import in handler.js:1"],
    ["\nawait 1;", "`await` outside of a function in handler.js:2"],
    ['import a from "./a.json" with { type: "json" };', "an import with attributes in handler.js:1"],
    ["f(1;", "brackets that are not closed"],
  ]) {
    assert.throws(() => convert("handler.js", text), { message: expected }, text);
  }
  assert.throws(() => converted(() => "const a = ;"), SyntaxError);
});

test("an error names the author's file and line", async () => {
  const modules = {
    "handler.js": 'import { half } from "./lib.js";\nexport const preprocess = (input) => half(input);\n',
    "lib.js": "\n\nexport function half(value) {\n  return value.no.such;\n}\n",
  };
  await assert.rejects(
    () => called(modules, {}),
    (error) => /lib\.js:4/.test(error.stack) && /handler\.js:2/.test(error.stack),
  );
  await assert.rejects(() => called({ "handler.js": "export function process() {}" }, 1), { message: /^handler.js exports no function/ });
});
