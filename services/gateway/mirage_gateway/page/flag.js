// A reader's mark that something is wrong with a record.

import * as api from "./api.js";
import { element } from "./elements.js";

const REASONS = {
  "wrong-caption": "The caption is wrong",
  "wrong-image": "It is the wrong image",
  licence: "The licence or source is wrong",
  privacy: "A patient can be recognised",
  other: "Something else",
};

const COMMENT = 1000;

// A mark on a sentence of an explanation; it concerns the record that the sentence names as its source.
export function sentenceFlag(id, sentences, sources) {
  const which = element(
    "select",
    { id: `${id}-sentence`, name: "sentence" },
    sentences.map(({ text }, index) => element("option", { value: index }, `${index + 1}. ${text.length > 90 ? `${text.slice(0, 90)}…` : text}`)),
  );
  const comment = element("textarea", { id: `${id}-comment`, name: "comment", maxlength: 400, rows: 2 });
  const outcome = element("p", { role: "status", class: "aside" });
  const send = element("button", { class: "button small" }, "Send");
  const form = element(
    "form",
    { class: "flag" },
    element("label", { class: "field", for: which.id }, element("span", { class: "name" }, "Sentence"), which),
    element("label", { class: "field", for: comment.id }, element("span", { class: "name" }, "What is wrong (no names, please)"), comment),
    send,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    const { text, ids } = sentences[Number(which.value)];
    const quoted = `“${[...text].slice(0, 500).join("")}”`;
    try {
      await api.flag(ids[0] || sources[0].id, { reason: "description", comment: `${quoted} ${comment.value.trim()}`.trim().slice(0, COMMENT) });
      form.hidden = true;
      outcome.textContent = "Thank you. The sentence is marked for whoever keeps this atlas.";
    } catch (error) {
      outcome.textContent = `${error.message} (${error.code})`;
      send.disabled = false;
    }
  });
  return element("details", { class: "report" }, element("summary", {}, "A sentence is wrong"), form, outcome);
}

export function flagForm(id) {
  const reason = element("select", { id: "flag-reason", name: "reason" }, Object.entries(REASONS).map(([value, text]) => element("option", { value }, text)));
  const comment = element("textarea", { id: "flag-comment", name: "comment", maxlength: 1000, rows: 3 });
  const outcome = element("p", { role: "status", class: "aside" });
  const send = element("button", { class: "button" }, "Send");
  const form = element(
    "form",
    { class: "flag" },
    element("label", { class: "field", for: "flag-reason" }, element("span", { class: "name" }, "What is wrong"), reason),
    element("label", { class: "field", for: "flag-comment" }, element("span", { class: "name" }, "Comment (no names, please)"), comment),
    send,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      await api.flag(id, { reason: reason.value, comment: comment.value.trim() });
      form.hidden = true;
      outcome.textContent = "Thank you. The record is marked for whoever keeps this atlas.";
    } catch (error) {
      outcome.textContent = `${error.message} (${error.code})`;
      send.disabled = false;
    }
  });
  return element("details", { class: "report" }, element("summary", {}, "Something is wrong with this record"), form, outcome);
}
