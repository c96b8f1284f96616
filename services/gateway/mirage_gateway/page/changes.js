// What the arithmetic did to the labels: how many results of either side carry each value.

import { element } from "./elements.js";
import { facetName, valueName } from "./vocabulary.js";

const FACETS = ["modality", "body_part", "plane", "sequence", "side", "finding"];
const SHOWN = 4;

export function changes(base, shifted) {
  const rows = FACETS.flatMap((facet) => row(facet, counts(base, facet), counts(shifted, facet)));
  if (!rows.length) return element("p", { class: "hint" }, "The labels of the results stayed the same.");
  return element(
    "table",
    { class: "changes" },
    element("caption", {}, "What changed in the labels"),
    element("thead", {}, element("tr", {}, ["Label", "Before", "After"].map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, rows),
  );
}

function counts(results, facet) {
  const found = new Map();
  for (const result of results)
    for (const value of result.labels[facet] || []) found.set(value, (found.get(value) || 0) + 1);
  return found;
}

function row(facet, before, after) {
  const values = [...new Set([...before.keys(), ...after.keys()])];
  const moved = values
    .map((value) => ({ value, from: before.get(value) || 0, to: after.get(value) || 0 }))
    .filter(({ from, to }) => from !== to)
    .sort((a, b) => Math.abs(b.to - b.from) - Math.abs(a.to - a.from))
    .slice(0, SHOWN);
  return moved.map(({ value, from, to }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, `${facetName(facet)}: ${valueName(value)}`),
      element("td", {}, bar(from), String(from)),
      element("td", { class: to > from ? "up" : "down" }, bar(to), String(to)),
    ),
  );
}

function bar(count) {
  const node = element("span", { class: "bar", "aria-hidden": "true" });
  node.style.setProperty("--share", Math.min(1, count / 12));
  return node;
}
