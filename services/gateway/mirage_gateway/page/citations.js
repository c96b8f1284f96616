// The text of an explanation: sentences, the numbers of their sources, and what lights up together.

import { element } from "./elements.js";

// Lights up what belongs to a record everywhere on the page: its card, its place among the sources.
function lightRecord(id, on) {
  for (const node of document.querySelectorAll(`[data-id="${CSS.escape(id)}"]`)) node.classList.toggle("lit", on);
}

// A sentence as it is read out.
export function inWords({ text, ids, kind }, sources) {
  const numbers = ids.map((id) => sources.findIndex((source) => source.id === id) + 1).filter(Boolean);
  return `${text} ${kind === "general" ? "(general knowledge)" : numbers.length ? `(source ${numbers.join(" and ")})` : ""}`.trim();
}

// Fills `place`; `caret` stands at the end of what is not finished. `open(index)` shows a source large.
export function text(place, caret, { open }) {
  let sources = [];
  const known = [];
  place.append(caret);

  function mark(id) {
    const index = sources.findIndex((source) => source.id === id);
    if (index < 0) return null;
    const light = (on) => () => lightRecord(id, on);
    return element(
      "button",
      {
        type: "button",
        class: "cite",
        "aria-label": `Source ${index + 1}: ${sources[index].caption}`,
        onclick: () => open(index),
        onmouseenter: light(true),
        onmouseleave: light(false),
        onfocus: light(true),
        onblur: light(false),
      },
      String(index + 1),
    );
  }

  return {
    use: (found) => (sources = found),
    add(sentence) {
      const node = element("span", { class: "sentence" }, sentence.text);
      const general = sentence.kind === "general" && element("span", { class: "no-source" }, "general knowledge");
      if (known.length) caret.before(" ");
      caret.before(node, ...(general ? [general] : sentence.ids.map(mark).filter(Boolean)));
      known.push({ node, ids: sentence.ids });
    },
    cited: () => new Set(known.flatMap((each) => each.ids)),
    light(id, on) {
      lightRecord(id, on);
      for (const { node, ids } of known) if (ids.includes(id)) node.classList.toggle("lit", on);
    },
    settle: () => caret.remove(),
  };
}
