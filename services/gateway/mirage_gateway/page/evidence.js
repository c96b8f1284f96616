// What an explanation stands on, and what it leads to: its sources, and both rankings.

import { element } from "./elements.js";
import * as images from "./images.js";

const SHOWN = 3;

// `light(id, on)` lights up the sentences of a record.
export function sourceList(sources, cited, actions, light) {
  const items = sources.map((source, index) => {
    const on = (state) => () => light(source.id, state);
    return element(
      "li",
      { "data-id": source.id, onmouseenter: on(true), onmouseleave: on(false), onfocusin: on(true), onfocusout: on(false) },
      element("span", { class: "ordinal", "aria-hidden": "true" }, String(index + 1)),
      thumbnail(source, () => actions.open(sources, index)),
      element(
        "div",
        {},
        element("p", { class: "caption" }, source.caption),
        element("p", { class: "aside", title: source.source }, [cited.has(source.id) ? "" : "not cited", source.source, source.licence].filter(Boolean).join(" · ")),
      ),
    );
  });
  return element("section", { class: "sources" }, element("h4", {}, "Captions it was written from"), element("ol", {}, items));
}

export function rankings({ first, second, best, truncated }, sources, actions) {
  const known = new Map([...second, ...sources].map((result) => [result.id, result]));
  const byQuery = first.map((id) => known.get(id)).filter(Boolean).slice(0, SHOWN);
  const byText = second.slice(0, SHOWN);
  const top = known.get(best);
  return element(
    "section",
    { class: "rankings" },
    element("h4", {}, "Images"),
    top && element(
      "div",
      { class: "best" },
      thumbnail(top, () => actions.open([top], 0)),
      element("div", {}, element("p", { class: "caption" }, element("strong", {}, "Fits both best: "), top.caption), element("p", { class: "aside" }, place(best, first, second))),
    ),
    element("div", { class: "both" }, ranking("By your question", byQuery, best, actions), ranking("By this explanation", byText, best, actions)),
    truncated && element("p", { class: "aside" }, "Only part of this text could be compared with the images: it is longer than the model reads."),
  );
}

function ranking(title, results, best, actions) {
  return element(
    "div",
    {},
    element("h5", {}, title),
    element(
      "ol",
      { class: "thumbs" },
      results.map((result, index) =>
        element("li", { class: result.id === best ? "top" : undefined }, thumbnail(result, () => actions.open(results, index)), result.id === best && element("span", { class: "note" }, "best")),
      ),
    ),
  );
}

function place(id, first, second) {
  const rank = (index) => (index < 0 ? "not among the first ten" : `number ${index + 1}`);
  return `${rank(first.indexOf(id))} by your question, ${rank(second.findIndex((result) => result.id === id))} by this explanation`;
}

function thumbnail(result, open) {
  const picture = element("img", { alt: "", width: 64, height: 64, decoding: "async" });
  images.show(picture, result.thumbnail_url);
  return element("button", { type: "button", class: "thumb", "aria-label": `Enlarge: ${result.caption}`, onclick: open }, picture);
}
