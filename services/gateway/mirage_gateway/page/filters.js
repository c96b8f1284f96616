// Facets as selects with counts.

import * as api from "./api.js";
import { byId, element } from "./elements.js";
import { facetName, valueName } from "./vocabulary.js";

let all = [];

export function values() {
  const selects = [...byId("facets").querySelectorAll("select")];
  return Object.fromEntries(selects.filter((each) => each.value).map((each) => [each.name, each.value]));
}

// Draws the facets of the whole atlas; `where` are the chosen values, which stay chosen even if the atlas has lost them.
export async function load(where) {
  try {
    all = (await api.facets()).facets;
  } catch {
    all = []; // the search that follows says what is wrong
  }
  draw(where);
  await recount(where);
}

function draw(where) {
  const known = new Set(all.map((facet) => facet.name));
  const chosen = Object.keys(where).filter((name) => !known.has(name)).map((name) => ({ name, values: [] }));
  const shown = [...all.filter((facet) => facet.values.length > 1 || where[facet.name]), ...chosen];
  byId("facets").replaceChildren(
    ...shown.map((facet) => {
      const id = `facet-${facet.name}`;
      const options = facet.values.map(({ value, count }) => element("option", { value, "data-count": count }, label(value, count)));
      if (where[facet.name] && !facet.values.some(({ value }) => value === where[facet.name]))
        options.push(element("option", { value: where[facet.name] }, valueName(where[facet.name])));
      const select = element("select", { id, name: facet.name }, element("option", { value: "" }, "any"), options);
      select.value = where[facet.name] || "";
      return element("label", { class: "field", for: id }, element("span", { class: "name" }, facetName(facet.name)), select);
    }),
  );
  tally(where);
}

// Counts under the filter. A facet's own choice leaves its other values at their full count: choosing one of them replaces it.
export async function recount(where) {
  tally(where);
  if (!all.length) return;
  let counted = null;
  if (Object.keys(where).length) counted = await api.facets(where).catch(() => null);
  for (const facet of all) {
    const select = byId(`facet-${facet.name}`);
    if (!select) continue;
    const found = counted?.facets.find((each) => each.name === facet.name);
    for (const { value, count } of facet.values) {
      const option = [...select.options].find((each) => each.value === value);
      const now = counted && !where[facet.name] ? (found?.values.find((each) => each.value === value)?.count ?? 0) : count;
      option.textContent = label(value, now);
    }
  }
}

export function put(where) {
  for (const select of byId("facets").querySelectorAll("select")) select.value = where[select.name] || "";
  tally(where);
}

function tally(where) {
  const count = Object.values(where).filter(Boolean).length;
  byId("filter-count").hidden = !count;
  byId("filter-count").textContent = `${count} on`;
}

const label = (value, count) => `${valueName(value)} (${count.toLocaleString("en")})`;
