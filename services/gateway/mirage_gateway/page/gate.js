// What the image of the query seems to be, told before it is searched.

import * as api from "./api.js";
import { announce, byId, element } from "./elements.js";
import { facetName, valueName } from "./vocabulary.js";

const KINDS = {
  medical: "Seems to be a medical image",
  unsure: "May or may not be a medical image",
  not_medical: "Does not seem to be a medical image",
};

// The guess; null where the server makes none, for then the search says itself what is wrong.
export async function look(picture, signal) {
  try {
    return (await api.classify(picture, { signal })).guess;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

// Draws the guess beside the image; `narrow(facet, value)` sets a filter.
export function show(guess, narrow) {
  const place = byId("guess");
  place.hidden = !guess || !KINDS[guess.kind];
  if (place.hidden) return;
  announce(KINDS[guess.kind]);
  place.replaceChildren(
    element("span", {}, `${KINDS[guess.kind]} (${guess.medical_score.toFixed(2)})`),
    ...guess.facets.map(({ facet, values, known, stated }) => {
      const [best] = values;
      const text = `${facetName(facet)}: ${valueName(best.value)} ${stated ? "(by the file)" : best.probability.toFixed(2)}${known ? "" : ", not known for sure"}`;
      return known && offered(facet, best.value)
        ? element("button", { type: "button", class: "button quiet small", onclick: () => narrow(facet, best.value) }, `${text} · narrow to it`)
        : element("span", { class: "aside" }, text);
    }),
  );
}

function offered(facet, value) {
  return [...(byId(`facet-${facet}`)?.options || [])].some((option) => option.value === value);
}

// What stands in the place of results for an image that was declined.
export function declined(score, insist, remove) {
  return [
    element(
      "div",
      { class: "problem polite", role: "alert" },
      element("h2", {}, "This does not look like a medical image"),
      element(
        "p",
        {},
        "The atlas holds medical images only, so its nearest ones would have little to do with yours. ",
        `By its colours and shapes the chance that it is a medical image is ${Math.round(score * 100)} %. That guess can be wrong.`,
      ),
      element(
        "p",
        { class: "buttons" },
        element("button", { type: "button", class: "button", onclick: insist }, "Search anyway"),
        element("button", { type: "button", class: "button quiet", onclick: remove }, "Remove the image"),
      ),
    ),
  ];
}
