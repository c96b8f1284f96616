// The text of an explanation: sentences, the numbers of their sources, and what lights up together.

import { element } from "./elements.js";

// Lights up what belongs to a record everywhere on the page: its card, its place among the sources.
function lightRecord(id, on) {
  for (const node of document.querySelectorAll(`[data-id="${CSS.escape(id)}"]`)) node.classList.toggle("lit", on);
}

// A sentence as it is read out.
export function inWords(sentence, { ids, supported }, sources) {
  const numbers = ids.map((id) => sources.findIndex((source) => source.id === id) + 1).filter(Boolean);
  return `${sentence} ${supported && numbers.length ? `(source ${numbers.join(" and ")})` : "(no source)"}`;
}

// Fills `place`; `caret` stands at the end of what is not finished. `open(index)` shows a source large.
export function text(place, caret, { open }) {
  // Places are counted in Unicode code points, which JavaScript's strings are not made of.
  let points = [];
  let known = [];
  let sources = [];
  let settled = 0;
  const tail = document.createTextNode("");
  const sentences = new Map();
  place.append(tail, caret);

  const slice = (from, to) => points.slice(from, to).join("");

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

  function cite(citation) {
    known.push(citation);
    const marks = citation.ids.map(mark).filter(Boolean);
    const bare = !citation.supported || !marks.length;
    const node = element("span", { class: bare ? "sentence bare" : "sentence" }, slice(citation.start, citation.end));
    sentences.set(citation.sentence, { node, ids: citation.ids });
    tail.before(slice(settled, citation.start), node, ...(bare ? [element("span", { class: "no-source" }, "no source")] : marks));
    settled = citation.end;
    tail.data = slice(settled);
  }

  return {
    use: (found) => (sources = found),
    append(piece) {
      points.push(...piece);
      tail.data += piece;
    },
    cite,
    sentence: ({ start, end }) => slice(start, end),
    cited: () => new Set(known.flatMap((each) => each.ids)),
    same: ({ text: whole, citations }) => whole === points.join("") && JSON.stringify(citations) === JSON.stringify(known),
    // The last word: where it is another text, as after a model that failed, it takes the place of the first.
    replace(done) {
      if (this.same(done)) return;
      [points, known, settled] = [[...done.text], [], 0];
      sentences.clear();
      place.replaceChildren(tail, caret);
      tail.data = done.text;
      done.citations.forEach(cite);
    },
    light(id, on) {
      lightRecord(id, on);
      for (const { node, ids } of sentences.values()) if (ids.includes(id)) node.classList.toggle("lit", on);
    },
    settle: () => caret.remove(),
  };
}
