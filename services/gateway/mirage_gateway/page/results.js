// The list of results, with more of it on demand.

import { announce, element } from "./elements.js";
import { card } from "./cards.js";
import { explanation } from "./explanation.js";
import { synthesis, promptOf } from "./synthesis.js";
import { facetOffer, matchNotice, shares, timing, truncationNotice, wordNotices } from "./report.js";

// `more(token)` gives the next reply; `actions` as in cards.js, `open` also gets the results so far.
export function results(reply, { title, actions, more, query }) {
  const found = [...reply.results];
  // Records whose text says it come before those that only look like it.
  const said = element("ol", { class: "cards" });
  const alike = element("ol", { class: "cards" });
  const heading = element("h3", { class: "section" });
  const open = (index) => actions.open(found, index);
  const add = (items) => {
    const cards = items.map((result, offset) => card(result, found.length - items.length + offset, { ...actions, open }));
    cards.forEach((each, index) => (items[index].section === "words" ? said : alike).append(each));
    said.hidden = !said.children.length;
    alike.hidden = !alike.children.length;
    heading.hidden = alike.hidden || !found.some(({ section }) => section === "likeness");
    heading.textContent = said.hidden ? "Look-alikes: no text in this atlas says it" : "Look-alikes";
    return cards[0];
  };
  add(reply.results);

  const count = element("span", { class: "total" });
  const tally = () => (count.textContent = `${found.length} shown`);
  tally();

  let token = reply.next_page_token;
  const button = element("button", { type: "button", class: "button quiet more" }, "Load more");
  button.hidden = !token;
  button.addEventListener("click", async () => {
    button.disabled = true;
    const next = await more(token);
    button.disabled = false;
    if (!next) return;
    found.push(...next.results);
    const first = add(next.results);
    token = next.next_page_token;
    button.hidden = !token;
    tally();
    announce(`${next.results.length} more, ${found.length} shown`);
    first?.querySelector(".frame").focus({ preventScroll: true });
  });

  const { button: explain, panel } = explanation(query, actions, { of: title });
  const { button: generate, panel: made } = synthesis(promptOf(query), found[0]);
  return [
    element(
      "div",
      { class: "head" },
      element("h2", {}, title),
      element("div", { class: "side" }, element("p", { class: "facts" }, count, timing(reply)), explain, generate),
    ),
    panel,
    made,
    matchNotice(reply),
    ...wordNotices(reply, (word) => actions.ask?.(word)),
    ...facetOffer(reply, (facet, value) => actions.narrow?.(facet, value)),
    truncationNotice(reply),
    shares(reply.query),
    said,
    heading,
    alike,
    button,
  ].filter(Boolean);
}
