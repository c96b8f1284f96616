// One image, large, with everything that is known about it. Arrow keys go to its neighbours (or move a zoomed image), + and -
// zoom, b and c change brightness and contrast, 0 resets, Escape closes.

import { can } from "./access.js";
import * as api from "./api.js";
import { byId, element } from "./elements.js";
import { flagForm } from "./flag.js";
import { loupe } from "./loupe.js";
import { labels, mark, marked } from "./cards.js";
import * as images from "./images.js";

let found = [];
let position = 0;
let actions = {};
let view = null;

export function open(results, index, given) {
  [found, position, actions] = [results, index, given];
  draw();
  const dialog = byId("viewer");
  if (!dialog.open) dialog.showModal();
}

function draw() {
  const result = found[position];
  const picture = element("img", { alt: result.caption, draggable: "false" });
  const frame = element("div", { class: "frame" }, picture, mark(result));
  images.show(picture, result.image_url);
  const dialog = byId("viewer");
  view = loupe(picture, frame);
  const own = element("dl", { class: "own" });
  dialog.replaceChildren(
    element("div", { class: "stage" }, frame, view.tools),
    element(
      "div",
      { class: "text" },
      element("h2", { id: "viewer-title" }, marked(result.title || result.caption, result.matched?.[result.title ? "title" : "caption"])),
      result.title && result.title !== result.caption && element("p", { class: "told" }, marked(result.caption, result.matched?.caption)),
      ...["findings", "impression", "history"].flatMap((name) => told(name, result)),
      labels(result.labels),
      element(
        "dl",
        {},
        fact("Similarity", result.cosine?.toFixed(3)),
        fact("Source", result.source),
        fact("Attribution", result.attribution),
        fact("Licence", result.licence),
        fact("Size", result.width && `${result.width} × ${result.height} pixels`),
        fact("Keywords", (result.keywords || []).join(", ")),
        fact("Case", result.case_id && `${result.case_id}${result.position ? `, image ${result.position}` : ""}`),
        fact("Record", result.id),
        fact("Marked by readers", result.flags && `${result.flags} times`),
      ),
      own,
      element(
        "p",
        { class: "buttons" },
        element("button", { type: "button", class: "button", onclick: similar }, "Find similar"),
        element("button", { type: "button", class: "button quiet", onclick: use }, "Use in arithmetic"),
      ),
      can("flag") && flagForm(result.id),
    ),
    element(
      "div",
      { class: "bar" },
      element("button", { type: "button", class: "button quiet", onclick: () => step(-1), disabled: position === 0 }, "Previous"),
      element("span", {}, `${position + 1} of ${found.length}`),
      element("button", { type: "button", class: "button quiet", onclick: () => step(1), disabled: position === found.length - 1 }, "Next"),
      element("button", { type: "button", class: "button quiet close", onclick: close }, "Close"),
    ),
  );
  ownWords(result.id, own);
}

// A longer text of the case. Those of a case's other images are the same.
function told(name, result) {
  const text = result[name];
  if (!text || text === result.caption) return [];
  const title = name[0].toUpperCase() + name.slice(1);
  return [element("h3", {}, title), element("p", { class: "told" }, marked(text, result.matched?.[name]))];
}

// The dataset's own labels; they are not among the results.
async function ownWords(id, place) {
  const record = await api.record(id).catch(() => null);
  if (found[position]?.id !== id || !record) return;
  const labels = Object.entries(record.original_labels).filter(([, value]) => value);
  if (labels.length) place.replaceChildren(element("dt", { class: "title" }, "In the dataset’s own words"), element("dd"), ...labels.flatMap(([name, value]) => fact(name, value)));
}

function fact(name, value) {
  return value ? [element("dt", {}, name), element("dd", {}, String(value))] : [];
}

function step(by) {
  if (!found[position + by]) return;
  position += by;
  draw();
  const name = by > 0 ? "Next" : "Previous";
  const button = [...byId("viewer").querySelectorAll(".bar button")].find((each) => each.textContent === name);
  (button.disabled ? byId("viewer").querySelector(".close") : button).focus();
}

function close() {
  byId("viewer").close();
}

function use() {
  const { id } = found[position];
  close();
  actions.use(id);
}

function similar() {
  const { id } = found[position];
  close();
  actions.similar(id);
}

byId("viewer").addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea")) return;
  if (view?.press(event)) {
    event.preventDefault();
    return;
  }
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
byId("viewer").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) close();
});
