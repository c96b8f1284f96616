// Two answers side by side: the query, and the query after the arithmetic.

import { element } from "./elements.js";
import { card } from "./cards.js";
import { changes } from "./changes.js";
import { explanation } from "./explanation.js";
import { promptOf, synthesis } from "./synthesis.js";
import { matchNotice, shares, timing, truncationNotice } from "./report.js";

export function comparison(reply, query, actions) {
  const base = query.q || "your image";
  const further = query.terms.map(({ weight, value }) => `${weight < 0 ? "−" : "+"} ${Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} × `}${value}`);
  const shifted = [base, query.minus && `− ${query.minus}`, query.plus && `+ ${query.plus}`, ...further].filter(Boolean).join(" ");
  const common = new Set(reply.base.results.map((result) => result.id));
  const kept = reply.shifted.results.filter((result) => common.has(result.id)).length;
  return [
    element(
      "div",
      { class: "head" },
      element("h2", {}, "Side by side"),
      element(
        "p",
        { class: "facts" },
        element("span", {}, `Queries’ cosine ${reply.shift.toFixed(2)}`),
        element("span", {}, `${kept} of ${reply.shifted.results.length} in both`),
        timing(reply.shifted),
      ),
    ),
    shares(reply.shifted.query),
    changes(reply.base.results, reply.shifted.results),
    element(
      "div",
      { class: "columns" },
      // Its own side is compared by vectors, so that both sides are.
      column("base", base, reply.base, actions, { ...query, minus: "", plus: "", terms: [], vectors: query.vectors || "image" }),
      column("shifted", shifted, reply.shifted, actions, query),
    ),
  ].filter(Boolean);
}

function column(name, title, reply, actions, query) {
  const { button, panel } = explanation(query, actions, { of: title });
  const { button: generate, panel: made } = synthesis(promptOf(query), reply.results[0]);
  const heading = `${name}-title`;
  return element(
    "section",
    { class: `column ${name}`, "aria-labelledby": heading },
    element("h3", { id: heading }, title),
    element("div", { class: "notices" }, matchNotice(reply), truncationNotice(reply), element("p", { class: "side" }, button, generate), panel, made),
    reply.results.length
      ? element(
          "ol",
          { class: "cards" },
          reply.results.map((result, index) =>
            card(result, index, { ...actions, open: (at) => actions.open(reply.results, at) }, { compact: true }),
          ),
        )
      : element("p", { class: "empty" }, "No image passes the filters."),
  );
}
