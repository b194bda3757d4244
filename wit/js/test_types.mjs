// Compares the type declarations with the modules: each export and each method has one.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import * as kit from "./kit.js";
import * as reach from "./reach.js";
import * as request from "./request.js";
import * as tensorgate from "./tensorgate.js";

// What only the build's entry calls.
const INTERNAL = ["checkNumbers", "connect", "connectKit", "connectReach", "connectRequest"];

const own = (value) => Object.getOwnPropertyNames(value).filter((name) => !["length", "name", "prototype"].includes(name));

test("every export and every method is declared", () => {
  for (const [name, module] of Object.entries({ kit, reach, request, tensorgate })) {
    const text = readFileSync(new URL(`./${name}.d.ts`, import.meta.url), "utf8");
    const declared = new Set(Array.from(text.matchAll(/^export (?:class|const|function) (\w+)/gm), (match) => match[1]));
    const exported = Object.keys(module).filter((each) => !INTERNAL.includes(each));
    assert.deepEqual([...declared].sort(), exported.sort(), name);
    for (const each of exported.filter((each) => module[each].prototype && own(module[each].prototype).includes("constructor"))) {
      const body = text.split(`export class ${each} `)[1]?.split(/^}/m)[0];
      if (body === undefined) continue;
      for (const method of [...own(module[each]), ...own(module[each].prototype)]) {
        if (method !== "constructor") assert.match(body, new RegExp(`^  (static |get )?${method}\\(`, "m"), `${each}.${method}`);
      }
    }
  }
});
