// An explanation of what a query found: a button, and a panel that fills while the model writes.

import * as api from "./api.js";
import * as citations from "./citations.js";
import { announce, element } from "./elements.js";
import { rankings, sourceList } from "./evidence.js";
import { can } from "./access.js";
import { sentenceFlag } from "./flag.js";
import { failure } from "./states.js";

const running = new Set();
let count = 0;

// Ends what is being written: the reader has gone on to another query.
export function stopAll() {
  running.forEach((controller) => controller.abort());
}

// `query` is what api.describe takes, `actions` as in cards.js. Gives the button and the panel, which the caller places.
export function explanation(query, actions, { of = "these images" } = {}) {
  const id = `explanation-${(count += 1)}`;
  const panel = element("section", { id, class: "explanation", "aria-labelledby": `${id}-title`, hidden: true });
  const button = element("button", { type: "button", class: "button", "aria-expanded": "false", "aria-controls": id });
  let controller = null;
  let state = "idle";

  // One button throughout, so that the focus stays where it is.
  function set(next) {
    state = next;
    button.textContent = { idle: "Explain", writing: "Stop", shown: "Hide explanation", hidden: "Show explanation", again: "Explain again" }[next];
    button.setAttribute("aria-label", next === "writing" ? "Stop the explanation" : `${button.textContent}: ${of}`);
    button.setAttribute("aria-expanded", String(!["idle", "hidden"].includes(next)));
    panel.hidden = next === "idle" || next === "hidden";
  }

  button.addEventListener("click", () => {
    if (state === "writing") controller.abort();
    else if (state === "shown") set("hidden");
    else if (state === "hidden") set("shown");
    else write();
  });

  async function write() {
    controller = new AbortController();
    running.add(controller);
    const view = parts(id, actions);
    panel.replaceChildren(...view.nodes);
    set("writing");
    try {
      for await (const { name, data } of api.describe(query, { signal: controller.signal })) view.take(name, data);
      set("shown");
    } catch (error) {
      set("again");
      if (error.name === "AbortError") view.stopped();
      else {
        if (!(error instanceof api.Problem)) console.error(error);
        const problem = error instanceof api.Problem ? error : new api.Problem({ title: "This page failed", detail: "Reload it." });
        view.failed(failure(problem, write));
      }
    } finally {
      running.delete(controller);
      view.settle();
    }
  }

  set("idle");
  return { button, panel };
}

function parts(id, actions) {
  const badge = element("span", { class: "badge", hidden: true });
  const said = element("p", { class: "said", "aria-busy": "true" });
  const caret = element("span", { class: "caret", "aria-hidden": "true" });
  // What is read out comes a few sentences at a time.
  const spoken = element("p", { class: "visually-hidden", "aria-live": "polite" });
  const notice = element("div", { class: "notices" });
  const evidence = element("div", { class: "evidence" });
  const text = citations.text(said, caret, { open: (index) => actions.open(sources, index) });
  let sources = [];
  let unread = [];
  const reading = setInterval(read, 1500);

  function read() {
    if (!unread.length) return;
    spoken.textContent = unread.join(" ");
    unread = [];
  }

  function remark(kind, title, words) {
    notice.append(element("p", { class: `match ${kind}` }, element("strong", {}, title), " ", element("span", {}, words)));
  }

  const take = {
    retrieval(data) {
      sources = data.results;
      text.use(sources);
      spoken.textContent = "Writing an explanation.";
    },
    start(data) {
      if (data.dropped_ids.length) remark("weak", "Less to go by", `${data.dropped_ids.length} of ${sources.length} captions did not fit into the model’s context.`);
      if (data.shortened) remark("weak", "Caption cut", "The model saw only the beginning of the first caption.");
    },
    sentence(data) {
      text.add(data);
      unread.push(citations.inWords(data, sources));
    },
    ranking(data) {
      evidence.append(rankings(data, sources, actions));
    },
    done(data) {
      badge.hidden = false;
      badge.className = `badge by-${data.source || "nobody"}`;
      badge.textContent = { model: "Language model", extractive: "From the captions" }[data.source] || "Not explained";
      if (data.notice) remark(data.source ? "weak" : "none", data.source === "extractive" ? "Not written by the model" : data.source ? "Note" : "No explanation", data.notice);
      if (data.withheld) remark("weak", "Withheld", `${data.withheld} of the model’s sentences: no caption supports them.`);
      if (data.finish === "length") remark("weak", "Cut off", "The text reached its greatest length.");
      if (data.text) {
        evidence.prepend(sourceList(sources, text.cited(), actions, text.light));
        if (can("flag")) evidence.append(sentenceFlag(id, data.sentences, sources));
        if (data.source === "model") notice.append(element("p", { class: "aside" }, "Written by a language model from the captions below. It can be wrong: check it against its sources."));
      }
      unread.push(data.notice || (data.text ? "The explanation is complete." : ""));
      text.settle();
    },
  };

  return {
    nodes: [
      element("div", { class: "head" }, element("h3", { id: `${id}-title` }, "Explanation"), badge),
      said,
      spoken,
      notice,
      evidence,
    ],
    take: (name, data) => take[name]?.(data),
    stopped() {
      remark("weak", "Stopped", "The text ends where you stopped it.");
      if (text.cited().size) evidence.prepend(sourceList(sources, text.cited(), actions, text.light));
      announce("The explanation was stopped.");
    },
    failed: (nodes) => evidence.replaceChildren(...nodes),
    settle() {
      clearInterval(reading);
      read();
      said.setAttribute("aria-busy", "false");
      caret.remove();
    },
  };
}
