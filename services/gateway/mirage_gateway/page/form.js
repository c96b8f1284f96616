// The query as the form holds it.

import { byId } from "./elements.js";
import * as filters from "./filters.js";
import * as picture from "./picture.js";
import * as terms from "./terms.js";

const form = byId("query");

export function read() {
  return {
    q: form.elements.q.value.trim(),
    minus: form.elements.minus.value.trim(),
    plus: form.elements.plus.value.trim(),
    terms: terms.read(),
    show: "",
    acceptAny: picture.insists(),
    similar: "",
    view: form.elements.view.value,
    vectors: form.elements.vectors.value,
    where: filters.values(),
    picture: picture.value(),
  };
}

export function put(query) {
  form.elements.q.value = query.q;
  form.elements.minus.value = query.minus;
  form.elements.plus.value = query.plus;
  terms.put(query.terms);
  form.elements.view.value = query.view;
  form.elements.vectors.value = query.vectors;
  filters.put(query.where);
}

// Calls `submitted` when the reader asks; filters and view take effect at once.
export function listen(submitted) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submitted();
  });
  form.addEventListener("change", (event) => {
    if (event.target.closest("#terms")) return;
    if (event.target.matches("select, input[type=radio]")) submitted({ quiet: true });
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing && !byId("viewer").open) {
      event.preventDefault();
      form.elements.q.select();
    }
  });
}

export function focus() {
  form.elements.q.focus();
}
