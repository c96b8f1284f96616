// What the answer's place shows when there is no answer: a welcome, work going on, nothing found, a failure.

import { byId, element } from "./elements.js";
import * as history from "./history.js";
import { key } from "./api.js";
import { skeleton } from "./cards.js";

const EXAMPLES = [
  { text: "Axial T1 through the lateral ventricles", query: { q: "axial T1 through the lateral ventricles" } },
  { text: "Lesion in the left frontal lobe, FLAIR", query: { q: "lesion in the left frontal lobe, FLAIR" } },
  { text: "Chest X-ray", query: { q: "chest x-ray" } },
  { text: "Normal brain, coronal", query: { q: "normal coronal brain MRI" } },
];
const ARITHMETIC = [
  {
    text: "Axial becomes sagittal",
    why: "Takes the direction of “axial” out of the query and adds that of “sagittal”. Look at the labels: the plane should turn while the contrast stays T1.",
    query: { q: "axial T1 brain", minus: "axial", plus: "sagittal", view: "compare" },
  },
  {
    text: "The same level, but T2",
    why: "Only the contrast is exchanged. Look for bright fluid at the same level, with the thalami still in the picture.",
    query: { q: "axial T1 at the thalamus", minus: "T1", plus: "T2", view: "compare" },
  },
  {
    text: "The lesion moves to the other side",
    why: "Left and right are directions too. Look at the side label, and remember that image left is the patient’s right.",
    query: { q: "lesion in the left frontal lobe, FLAIR", minus: "left", plus: "right", view: "compare" },
  },
  {
    text: "More of one, less of the other",
    why: "Weights need not be 1: half of “cerebellum” beside a whole “pons” pulls the results only part of the way.",
    query: { q: "pons", terms: [{ kind: "text", value: "cerebellum", weight: 0.5 }], view: "compare" },
  },
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
    element("h3", {}, "Or calculate with meaning"),
    element(
      "ul",
      { class: "lessons" },
      ARITHMETIC.map(({ text, why, query }) =>
        element("li", {}, element("button", { type: "button", class: "button quiet", onclick: () => run(query) }, text), element("p", {}, why)),
      ),
    ),
    recent(),
    element(
      "p",
      { class: "hint" },
      "Type a concept in your own words, or drop an image anywhere on this page. ",
      "Take a word away and add another to move through the atlas. ",
      records ? `The atlas holds ${records.toLocaleString("en")} images.` : "",
    ),
  ].filter(Boolean);
}

// The reader's own queries, with a way to forget them.
function recent() {
  const kept = history.list();
  if (!kept.length) return false;
  const section = element(
    "section",
    { class: "recent", "aria-labelledby": "recent-title" },
    element("h3", { id: "recent-title" }, "Recent"),
    element("ul", {}, kept.map(({ link, title }) => element("li", {}, element("a", { href: link }, title)))),
    element("button", { type: "button", class: "link", onclick: () => (history.clear(), section.remove()) }, "Forget these"),
  );
  return section;
}

// Placeholders; `stop` ends a search that takes long, and is offered once it does.
export function loading(stop) {
  const note = element("p", { class: "slow", role: "status" });
  const timers = [
    setTimeout(() => (note.textContent = "Still searching. The server may be busy or starting."), 2000),
    setTimeout(() => {
      note.replaceChildren("This takes unusually long. ", element("button", { type: "button", class: "button quiet small", onclick: stop }, "Stop"));
    }, 10000),
  ];
  return { nodes: [note, element("ol", { class: "cards" }, Array.from({ length: 12 }, skeleton))], end: () => timers.forEach(clearTimeout) };
}

export function stopped(again) {
  return [
    element("h2", {}, "Stopped"),
    element("p", { class: "hint" }, "The search was stopped before it had an answer."),
    element("button", { type: "button", class: "button", onclick: again }, "Search again"),
  ];
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
      passing && retry(problem.retryAfter, again),
    ),
  ];
}

// A server that says when to come again is not asked before.
function retry(seconds, again) {
  const button = element("button", { type: "button", class: "button", onclick: again }, "Try again");
  let left = Math.min(60, Math.ceil(seconds || 0));
  if (left < 2) return button;
  const tick = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    left -= 1;
    if (left >= 0) setTimeout(tick, 1000);
  };
  tick();
  return button;
}

export function askForKey(problem, again) {
  const input = element("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    key.set(input.value.trim());
    again();
  };
  const without = () => {
    key.set("");
    again();
  };
  return [
    element(
      "form",
      { class: "problem", onsubmit: submit },
      element("h2", {}, problem.code ? "This server asks for a key" : "Use a key"),
      element("p", {}, problem.code === "API_KEY_INVALID" ? "That key is not known here." : "Your teacher or administrator has it."),
      element("div", { class: "line" }, element("label", { class: "field grow", for: "key" }, element("span", { class: "name" }, "API key"), input), element("button", { class: "button primary" }, "Use it")),
      element("p", { class: "aside" }, "It is kept until you close this tab."),
      key.get() && element("p", {}, element("button", { type: "button", class: "link", onclick: without }, "Go on without a key")),
    ),
  ];
}

export function put(nodes, { busy = false } = {}) {
  const answer = byId("answer");
  answer.setAttribute("aria-busy", String(busy));
  answer.replaceChildren(...nodes);
}
