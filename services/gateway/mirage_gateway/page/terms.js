// Further terms of the query: phrases or records, each with a weight. The query is the weighted sum of all terms.

import { TERMS_MAX, WEIGHT_MAX } from "./address.js";
import { announce, byId, element } from "./elements.js";

const list = () => byId("terms");
let number = 0;

export function read() {
  return [...list().children]
    .map((row) => {
      const [kind, value, weight] = ["kind", "value", "weight"].map((name) => row.querySelector(`[data-part=${name}]`).value.trim());
      return { kind, value, weight: clamp(Number(weight)) };
    })
    .filter(({ value, weight }) => value && weight);
}

const clamp = (weight) => (Number.isFinite(weight) ? Math.max(-WEIGHT_MAX, Math.min(WEIGHT_MAX, weight)) : 1);

export function put(terms) {
  const same = JSON.stringify(read()) === JSON.stringify(terms);
  // Rows that are being filled in stay when the rest of the form is drawn anew.
  if (!same) list().replaceChildren(...terms.map(row));
  if (terms.length) byId("more-terms").open = true;
}

export function add(term = { kind: "text", value: "", weight: 1 }) {
  if (list().children.length >= TERMS_MAX) {
    announce(`A query may have ${TERMS_MAX} further terms.`);
    return;
  }
  const made = row(term);
  list().append(made);
  byId("more-terms").open = true;
  made.querySelector("[data-part=value]").focus();
}

function row({ kind, value, weight }) {
  number += 1;
  const id = `term-${number}`;
  const select = element(
    "select",
    { id: `${id}-kind`, "data-part": "kind" },
    element("option", { value: "text" }, "phrase"),
    element("option", { value: "id" }, "record"),
  );
  select.value = kind;
  const field = (name, label, node) =>
    element("label", { class: `field ${name}`, for: node.id }, element("span", { class: "name" }, label), node);
  const made = element(
    "li",
    { class: "line further" },
    field("narrow", "Term is a", select),
    field("grow", "Phrase or record id", element("input", { id: `${id}-value`, "data-part": "value", type: "text", maxlength: 2000, autocomplete: "off", value })),
    field(
      "narrow",
      "Weight",
      element("input", { id: `${id}-weight`, "data-part": "weight", type: "number", min: -WEIGHT_MAX, max: WEIGHT_MAX, step: 0.1, value: weight }),
    ),
    element("button", { type: "button", class: "button quiet", "aria-label": `Remove the term ${value}`, onclick: () => remove(made) }, "Remove"),
  );
  return made;
}

function remove(made) {
  const next = made.nextElementSibling || made.previousElementSibling;
  made.remove();
  (next?.querySelector("button") || byId("add-term")).focus();
}

byId("add-term").addEventListener("click", () => add());
