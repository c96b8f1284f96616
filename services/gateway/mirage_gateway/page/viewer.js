// One image, large, with everything that is known about it. Arrow keys go to its neighbours, Escape closes.

import { byId, element } from "./elements.js";
import { labels, mark } from "./cards.js";
import * as images from "./images.js";

let found = [];
let position = 0;
let actions = {};

export function open(results, index, given) {
  [found, position, actions] = [results, index, given];
  draw();
  const dialog = byId("viewer");
  if (!dialog.open) dialog.showModal();
}

function draw() {
  const result = found[position];
  const picture = element("img", { alt: result.caption });
  const frame = element("div", { class: "frame" }, picture, mark(result));
  images.show(picture, result.image_url);
  const dialog = byId("viewer");
  dialog.replaceChildren(
    frame,
    element(
      "div",
      { class: "text" },
      element("h2", { id: "viewer-title" }, result.caption),
      labels(result.labels),
      element(
        "dl",
        {},
        fact("Similarity", result.cosine.toFixed(3)),
        fact("Source", result.source),
        fact("Attribution", result.attribution),
        fact("Licence", result.licence),
        fact("Size", result.width && `${result.width} × ${result.height} pixels`),
        fact("Record", result.id),
      ),
      element(
        "p",
        { class: "buttons" },
        element("button", { type: "button", class: "button", onclick: similar }, "Find similar"),
        original(result),
      ),
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
}

function original({ id, image_url }) {
  const href = `${image_url.split("?")[0]}?original=1`;
  const onclick = (event) => images.save(event, href, id);
  return element("a", { class: "button quiet", href, download: id, onclick }, "Original file");
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

function similar() {
  const { id } = found[position];
  close();
  actions.similar(id);
}

byId("viewer").addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
byId("viewer").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) close();
});
