// What stands above results: how well they match, and how the query was understood.

import { element } from "./elements.js";
import { valueName } from "./vocabulary.js";

const MATCHES = {
  good: ["Good match", "The best image is as close as for queries that belong to this atlas."],
  weak: ["Weak match", "Look at these with doubt: the atlas may not hold what you asked for."],
  none: ["No match", "Nothing in this atlas matches. These are the nearest images; they are probably about something else."],
};

const BY_WORDS = {
  good: "The text of a record says all that you asked for.",
  weak: "The texts of these records say a part of what you asked for.",
};

// How the words of a query were read: what was corrected (with a way back), and in which other words it was searched.
export function wordNotices(reply, again) {
  const words = reply.words || {};
  const notices = (words.corrected || []).map(({ given, used }) =>
    element(
      "p",
      { class: "read" },
      "Searched for ",
      element("strong", {}, used),
      ` instead of “${given}”. `,
      element("button", { type: "button", class: "link", onclick: () => again(given) }, `Search for “${given}”`),
    ),
  );
  const expanded = (words.expanded || []).map(({ given, others }) => `${given} = ${others.slice(0, 4).join(", ")}`);
  if (expanded.length) notices.push(element("p", { class: "read" }, `Also searched: ${expanded.join("; ")}.`));
  return notices;
}

// A facet value that the query names and that none of the first results has.
export function facetOffer(reply, choose) {
  return (reply.words?.labels || []).map(({ facet, value, count }) =>
    element(
      "p",
      { class: "read" },
      `None of the first results is labelled “${valueName(value)}”. `,
      count > 0
        ? element("button", { type: "button", class: "button quiet small", onclick: () => choose(facet, value) }, `Show only ${valueName(value)} (${count.toLocaleString("en")})`)
        : "This atlas has no image with that label.",
    ),
  );
}

export function matchNotice(reply) {
  if (!reply.match) return null;
  const [title, byLikeness] = MATCHES[reply.match];
  const text = BY_WORDS[reply.results[0]?.section === "words" ? reply.match : ""] || byLikeness;
  return element("p", { class: `match ${reply.match}` }, element("strong", {}, title), " ", element("span", {}, text));
}

export function truncationNotice(reply) {
  return (
    reply.query.truncated &&
    element(
      "p",
      { class: "match weak" },
      element("strong", {}, "Text cut"),
      " ",
      element("span", {}, `The model reads only the beginning of a text this long (${reply.query.tokens} tokens).`),
    )
  );
}

// The shares of a weighted query: how much each term made of it. They add up to 1; a share can be negative.
export function shares(report) {
  if (report.terms.length < 2) return null;
  return element(
    "ul",
    { class: "shares", "aria-label": "What each term made of the query" },
    report.terms.map((term) => {
      const bar = element("span", { class: term.share < 0 ? "bar negative" : "bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", Math.min(1, Math.abs(term.share)));
      return element(
        "li",
        {},
        element("span", { class: "sign", "aria-hidden": "true" }, term.weight < 0 ? "−" : "+"),
        element("span", { class: "visually-hidden" }, term.weight < 0 ? "taken away: " : "added: "),
        element("span", { class: "term" }, term.label),
        bar,
        element("span", { class: "number" }, `${Math.round(term.share * 100)} %`),
      );
    }),
  );
}

export function timing(reply) {
  return element("span", { class: "timing" }, `${reply.timings.total_ms.toFixed(0)} ms${reply.timings.cached ? ", from cache" : ""}`);
}
