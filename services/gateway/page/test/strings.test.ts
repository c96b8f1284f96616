import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { en } from "../src/strings/en";
import { es } from "../src/strings/es";

const names = (text: string): string[] => [...new Set(text.match(/\{\w+\}/g))].sort();

test("every language has every text, with the same blanks and forms", () => {
  assert.deepEqual(Object.keys(es), Object.keys(en));
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    assert.notEqual(es[key].trim(), "", key);
    assert.deepEqual(names(es[key]), names(en[key]), key);
    assert.equal(es[key].split(" | ").length, en[key].split(" | ").length, key);
  }
});

test("no text is unused", () => {
  const source = readdirSync("src")
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => readFileSync(`src/${name}`, "utf8"))
    .join("\n");
  const built = [
    "value.",
    "facet.",
    "job.",
    "report.",
    "field.",
    "mode.",
    "view.",
    "how.match.",
    "describe.",
    "generate.",
    "about.",
    "own.",
    "how.",
    "effect.",
    "quality.case.",
    "read.kind.",
    "read.label.",
    "read.state.",
    "quality.of.",
    "rate.",
    "site.",
  ];
  const unused = Object.keys(en).filter(
    (key) => !source.includes(`"${key}"`) && !built.some((each) => key.startsWith(each)),
  );
  assert.deepEqual(unused, []);
});
