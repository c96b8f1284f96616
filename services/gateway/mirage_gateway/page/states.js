// What the answer's place shows when there is no answer: a welcome, work going on, nothing found, a failure.

import { byId, element } from "./elements.js";
import { key } from "./api.js";
import { skeleton } from "./cards.js";

const EXAMPLES = [
  { text: "Axial T1 through the lateral ventricles", query: { q: "axial T1 through the lateral ventricles" } },
  { text: "Lesion in the left frontal lobe, FLAIR", query: { q: "lesion in the left frontal lobe, FLAIR" } },
  { text: "The same level, but T2", query: { q: "axial T1 at the thalamus", minus: "T1", plus: "T2", view: "compare" } },
  { text: "Axial becomes sagittal", query: { q: "axial T1 brain", minus: "axial", plus: "sagittal", view: "compare" } },
  { text: "Chest X-ray", query: { q: "chest x-ray" } },
];

export function welcome(run, records) {
  return [
    element("h2", {}, "Try one of these"),
    element(
      "ul",
      { class: "examples" },
      EXAMPLES.map(({ text, query }) =>
        element("li", {}, element("button", { type: "button", class: "button quiet", onclick: () => run(query) }, text)),
      ),
    ),
    element(
      "p",
      { class: "hint" },
      "Type a concept in your own words, or drop an image anywhere on this page. ",
      "Take a word away and add another to move through the atlas. ",
      records ? `The atlas holds ${records.toLocaleString("en")} images.` : "",
    ),
  ];
}

export function loading() {
  return [element("ol", { class: "cards" }, Array.from({ length: 8 }, skeleton))];
}

export function nothing(query, clearFilters) {
  const filtered = Object.keys(query.where).length > 0;
  return [
    element("h2", {}, "Nothing found"),
    element("p", { class: "hint" }, filtered ? "No image of the atlas passes these filters." : "The atlas has no image for this."),
    filtered && element("button", { type: "button", class: "button", onclick: clearFilters }, "Clear the filters"),
  ].filter(Boolean);
}

export function failure(problem, again) {
  if (problem.code === "API_KEY_MISSING" || problem.code === "API_KEY_INVALID") return askForKey(problem, again);
  const passing = [0, 429, 503, 504].includes(problem.status);
  return [
    element(
      "div",
      { class: "problem", role: "alert" },
      element("h2", {}, problem.title),
      element("p", {}, problem.message),
      element(
        "p",
        { class: "aside" },
        element("code", {}, problem.code),
        problem.requestId && ` · request ${problem.requestId}`,
      ),
      passing && element("button", { type: "button", class: "button", onclick: again }, "Try again"),
    ),
  ];
}

function askForKey(problem, again) {
  const input = element("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    again();
  };
  return [
    element(
      "form",
      { class: "problem", onsubmit: submit },
      element("h2", {}, "This server asks for a key"),
      element("p", {}, problem.code === "API_KEY_INVALID" ? "That key is not known here." : "Your teacher or administrator has it."),
      element("div", { class: "line" }, element("label", { class: "field grow", for: "key" }, element("span", { class: "name" }, "API key"), input), element("button", { class: "button primary" }, "Use it")),
      element("p", { class: "aside" }, "It is kept until you close this tab."),
    ),
  ];
}

export function put(nodes, { busy = false } = {}) {
  const answer = byId("answer");
  answer.setAttribute("aria-busy", String(busy));
  answer.replaceChildren(...nodes);
}
