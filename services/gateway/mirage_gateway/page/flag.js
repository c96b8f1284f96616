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
