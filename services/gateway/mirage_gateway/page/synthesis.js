// A synthetic image of what was asked for: a button, and a panel that shows how far it is and then the image beside a real one.

import * as api from "./api.js";
import { announce, element } from "./elements.js";
import * as images from "./images.js";
import { badge, cutNotice, facts, figures, inWords, notice, previews, progress } from "./job_view.js";
import * as jobs from "./jobs.js";
import { making } from "./making.js";
import { failure } from "./states.js";
import * as tally from "./tally.js";
import { originMark } from "./vocabulary.js";

const following = new Set();
let count = 0;

// Ends what is being followed: the reader has gone on. The jobs go on, too.
export function leaveAll() {
  following.forEach((controller) => controller.abort());
}

// A query in words, as the server says it: "q without minus, with plus". Empty where it has none, as for an image.
export function promptOf(query) {
  if (query.similar || query.picture) return "";
  const terms = [
    { value: query.q, weight: 1 },
    { value: query.minus, weight: -1 },
    { value: query.plus, weight: 1 },
    ...query.terms.filter(({ kind }) => kind === "text"),
  ].filter(({ value, weight }) => value && weight);
  if (query.terms.some(({ kind }) => kind !== "text")) return "";
  const first = terms.findIndex(({ weight }) => weight > 0);
  if (first < 0) return "";
  const [base] = terms.splice(first, 1);
  const without = terms.filter(({ weight }) => weight < 0).map(({ value }) => `without ${value}`);
  const plus = terms.filter(({ weight }) => weight > 0).map(({ value }) => `with ${value}`);
  return `${base.value} ${[...without, ...plus].join(", ")}`.trim();
}

// `real` is the image of the atlas that is shown beside. Gives a button and a panel, which the caller places.
export function synthesis(prompt, real) {
  const id = `synthesis-${(count += 1)}`;
  const panel = element("section", { id, class: "synthesis", "aria-labelledby": `${id}-title`, hidden: true });
  const button = element("button", { type: "button", class: "button", "aria-expanded": "false", "aria-controls": id, hidden: true });
  let state = "idle";
  let job = null;
  let view = null;

  // One button throughout, so that the focus stays where it is.
  function set(next) {
    state = next;
    button.textContent = { idle: "Generate", sending: "Generate", making: "Cancel", stopping: "Cancelling", shown: "Hide image", hidden: "Show image", again: "Generate again" }[next];
    button.setAttribute("aria-label", next === "making" ? `Cancel the synthetic image: ${prompt}` : `${button.textContent}: ${prompt}`);
    button.setAttribute("aria-expanded", String(!["idle", "hidden"].includes(next)));
    panel.hidden = next === "idle" || next === "hidden";
  }

  button.addEventListener("click", () => {
    if (state === "making") cancel();
    else if (state === "shown") set("hidden");
    else if (state === "hidden") set("shown");
    else if (state === "idle" || state === "again") start();
  });

  async function start() {
    set("sending");
    view.begin();
    try {
      job = await jobs.create({ prompt, ...view.options.read() });
      jobs.remember(prompt, job.id);
      tally.refresh();
      await follow();
    } catch (error) {
      failed(error);
    }
  }

  async function follow() {
    const controller = new AbortController();
    following.add(controller);
    set("making");
    view.begin();
    view.show(job);
    try {
      for await (const { name, data } of jobs.watch(job.id, { signal: controller.signal })) {
        if (name === "preview") view.preview(data);
        else {
          job = data;
          view.show(job);
        }
      }
      set(job.state === "SUCCEEDED" ? "shown" : "again");
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    } finally {
      following.delete(controller);
      tally.refresh();
    }
  }

  async function cancel() {
    set("stopping");
    try {
      job = await jobs.cancel(job.id);
      if (jobs.ended(job)) view.show(job);
    } catch (error) {
      failed(error);
    }
  }

  function failed(error) {
    if (!(error instanceof api.Problem)) console.error(error);
    const problem = error instanceof api.Problem ? error : new api.Problem({ title: "This page failed", detail: "Reload it." });
    set("again");
    view.failed(failure(problem, start));
  }

  // After a reload the job that was made here goes on being shown.
  async function resume() {
    const known = jobs.recall(prompt);
    if (!known) return;
    try {
      job = await jobs.read(known);
    } catch (error) {
      if (error.status === 404) jobs.remember(prompt, "");
      return;
    }
    if (!jobs.ended(job)) await follow();
    else if (job.state === "SUCCEEDED") {
      view.begin();
      view.show(job);
      set("shown");
    }
  }

  set("idle");
  if (prompt)
    jobs.model().then((model) => {
      if (!model) return;
      view = parts(id, prompt, real, model, start);
      panel.replaceChildren(...view.nodes);
      button.hidden = false;
      resume();
    });
  return { button, panel };
}

function parts(id, prompt, real, model, again) {
  const options = making(model);
  const notices = element("div", { class: "notices" });
  const pair = element("div", { class: "pair" });
  const details = element("div", {});
  // What is read out: that it waits, that it runs, how it ended; not each step.
  const spoken = element("p", { class: "visually-hidden", "aria-live": "polite" });
  const repeat = element("button", { type: "button", class: "button quiet small", hidden: true, onclick: again }, "Generate another");
  let bar = null;
  let unfinished = null;
  let said = "";

  const beside = real && element(
    "figure",
    { class: "beside" },
    element("div", { class: "frame" }, thumbnail(real), element("span", { class: "mark" }, "From the atlas")),
    element("figcaption", {}, element("strong", {}, "Closest image of the atlas: "), real.caption, originMark(real.labels) && ` (${originMark(real.labels)})`),
  );

  return {
    options,
    nodes: [
      element("div", { class: "head" }, element("h3", { id: `${id}-title` }, "Synthetic image"), badge()),
      element("p", { class: "aside" }, `Made by a model for “${prompt}”. It shows no patient, and it can be wrong: compare it with the atlas. For education, not for diagnosis.`),
      spoken,
      notices,
      pair,
      details,
      options.node,
      element("p", {}, repeat),
    ],
    begin() {
      bar = progress(`Synthetic image: ${prompt}`);
      unfinished?.end();
      unfinished = previews();
      notices.replaceChildren();
      details.replaceChildren();
      repeat.hidden = true;
      said = "";
      pair.replaceChildren(...[element("div", { class: "place" }, unfinished.node, bar.node), beside].filter(Boolean));
    },
    show(job) {
      bar.show(job);
      if (said !== job.state) {
        said = job.state;
        spoken.textContent = job.state === "SUCCEEDED" ? "The synthetic image is ready." : inWords(job);
      }
      notices.replaceChildren(...[cutNotice(job), notice(job)].filter(Boolean));
      if (!jobs.ended(job)) return;
      unfinished.end();
      repeat.hidden = job.state !== "SUCCEEDED";
      pair.replaceChildren(...[...figures(job), job.state === "SUCCEEDED" && beside].filter(Boolean));
      details.replaceChildren(facts(job));
    },
    preview: (data) => unfinished.show(data),
    failed(nodes) {
      unfinished?.end();
      pair.replaceChildren();
      notices.replaceChildren(...nodes);
      announce("The synthetic image was not made.");
    },
  };
}

function thumbnail(result) {
  const picture = element("img", { alt: result.caption, width: 256, height: 256, decoding: "async" });
  images.show(picture, result.thumbnail_url);
  return picture;
}
