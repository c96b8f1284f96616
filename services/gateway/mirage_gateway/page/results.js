// The list of results, with more of it on demand.

import { announce, element } from "./elements.js";
import { card } from "./cards.js";
import { explanation } from "./explanation.js";
import { synthesis, promptOf } from "./synthesis.js";
import { matchNotice, shares, timing, truncationNotice } from "./report.js";

// `more(token)` gives the next reply; `actions` as in cards.js, `open` also gets the results so far.
export function results(reply, { title, actions, more, query }) {
  const found = [...reply.results];
  const list = element("ol", { class: "cards" });
  const open = (index) => actions.open(found, index);
  const add = (items) => items.map((result, offset) => card(result, found.indexOf(result, found.length - items.length + offset), { ...actions, open }));
  list.append(...add(reply.results));

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
    const from = list.children.length;
    found.push(...next.results);
    list.append(...add(next.results));
    token = next.next_page_token;
    button.hidden = !token;
    tally();
    announce(`${next.results.length} more, ${found.length} shown`);
    list.children[from]?.querySelector(".frame").focus({ preventScroll: true });
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
    truncationNotice(reply),
    shares(reply.query),
    list,
    button,
  ].filter(Boolean);
}
