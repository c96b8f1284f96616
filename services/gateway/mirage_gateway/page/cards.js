// One result.

import { element } from "./elements.js";
import * as images from "./images.js";
import { originMark, shownLabels } from "./vocabulary.js";

// `actions` is { open(index), similar(id) }; `compact` leaves out what does not fit beside another column.
export function card(result, index, actions, { compact = false } = {}) {
  const picture = element("img", { alt: "", loading: index < 6 ? "eager" : "lazy", decoding: "async", width: 256, height: 256 });
  const frame = element(
    "button",
    { type: "button", class: "frame", "aria-label": `Enlarge: ${result.caption}`, onclick: () => actions.open(index) },
    picture,
    mark(result),
  );
  images.show(picture, result.thumbnail_url);
  return element(
    "li",
    { class: compact ? "card compact" : "card", "data-id": result.id },
    frame,
    element(
      "div",
      { class: "text" },
      // A record whose text says it needs no score: its words show why it is here.
      result.section !== "words" && score(result),
      result.title && result.title !== result.caption && element("p", { class: "title" }, marked(result.title, result.matched?.title)),
      ...caption(result.caption, result.matched?.caption),
      !compact && found(result.matched),
      !compact && labels(result.labels),
      !compact && origin(result),
      element(
        "button",
        { type: "button", class: "link", onclick: () => actions.similar(result.id), "aria-label": `Find similar to: ${result.caption}` },
        "Find similar",
      ),
    ),
  );
}

export function skeleton() {
  return element("li", { class: "card skeleton", "aria-hidden": "true" }, element("div", { class: "frame" }), element("div", { class: "text" }));
}

export function labels(values) {
  const shown = shownLabels(values);
  return (
    shown.length > 0 &&
    element("ul", { class: "labels", "aria-label": "Labels" }, shown.map(({ value }) => element("li", {}, value)))
  );
}

export function mark(result) {
  const text = originMark(result.labels);
  return text && element("span", { class: "mark" }, text);
}

const LONG_CAPTION = 200;

// The text with the places that were asked for marked; `spans` are [start, end] in characters (code points).
export function marked(text, spans) {
  if (!spans?.length) return [text];
  const characters = [...text];
  const parts = [];
  let at = 0;
  for (const [start, end] of spans) {
    parts.push(characters.slice(at, start).join(""), element("mark", {}, characters.slice(start, end).join("")));
    at = end;
  }
  return [...parts, characters.slice(at).join("")].filter((part) => part !== "");
}

// Where else the words were found: the card shows title and caption only.
const ELSEWHERE = { findings: "findings", history: "history", impression: "impression", keywords: "keywords", labels: "labels" };

function found(matched) {
  const names = new Set(Object.keys(matched || {}).map((path) => ELSEWHERE[path.split(/[.[]/)[0]]).filter(Boolean));
  return names.size > 0 && !matched.title && !matched.caption && element("p", { class: "elsewhere" }, `Found in the ${[...names].join(", ")}.`);
}

function caption(text, spans) {
  const paragraph = element("p", { class: "caption" }, marked(text, spans));
  if (text.length <= LONG_CAPTION) return [paragraph];
  const button = element("button", { type: "button", class: "link", "aria-expanded": "false" }, "Whole caption");
  button.addEventListener("click", () => {
    const whole = paragraph.classList.toggle("whole");
    button.setAttribute("aria-expanded", String(whole));
    button.textContent = whole ? "Shorter" : "Whole caption";
  });
  return [paragraph, button];
}

function score(result) {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", Math.max(0, Math.min(1, result.cosine)));
  return element(
    "p",
    { class: "score", title: "Cosine similarity between the query and this record" },
    bar,
    element("span", {}, element("span", { class: "visually-hidden" }, "Similarity "), result.cosine.toFixed(2)),
  );
}

function origin(result) {
  return element(
    "p",
    { class: "origin", title: [result.source, result.attribution].filter(Boolean).join(" · ") },
    element("span", { class: "source" }, result.source || "source not stated"),
    result.licence && element("span", { class: "licence" }, result.licence),
  );
}
