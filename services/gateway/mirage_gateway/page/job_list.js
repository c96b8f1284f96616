// The reader's jobs, as the server keeps them: they survive a reload, and end with their time.

import { announce, element } from "./elements.js";
import { badge, cutNotice, facts, figures, inWords, notice, progress } from "./job_view.js";
import * as jobs from "./jobs.js";
import * as tally from "./tally.js";

const PERIOD_MS = 2000;

export async function jobList(signal) {
  const page = await jobs.list({ signal });
  const list = element("ol", { class: "jobs" });
  const shown = new Map();
  const place = (job) => {
    const known = shown.get(job.id);
    if (known) return known.update(job);
    const made = row(job);
    shown.set(job.id, made);
    return made.node;
  };
  list.append(...page.jobs.map(place));
  const empty = element("p", { class: "hint", hidden: page.jobs.length > 0 }, "None yet. Search for a concept and choose “Generate” beside the results.");
  let token = page.next_page_token;
  const more = element("button", { type: "button", class: "button quiet more", hidden: !token }, "Load more");
  more.addEventListener("click", async () => {
    more.disabled = true;
    const next = await jobs.list({ token, signal }).catch(() => null);
    more.disabled = false;
    if (!next) return;
    list.append(...next.jobs.map(place));
    token = next.next_page_token;
    more.hidden = !token;
  });
  keepUp(shown, list, place, empty, signal);
  return [
    element("h2", {}, "Synthetic images"),
    element("p", { class: "hint" }, "Made by a model for you, newest first. None shows a patient. The server removes each after the time that stands below it."),
    empty,
    list,
    more,
  ];
}

// Asks again while something is unfinished and the page is looked at.
async function keepUp(shown, list, place, empty, signal) {
  const renew = async (id) => {
    try {
      place(await jobs.read(id, { signal }));
    } catch (error) {
      // Another failure may pass; a job that is gone does not come back.
      if (error.status !== 404) return;
      shown.get(id).node.remove();
      shown.delete(id);
    }
  };
  for (;;) {
    await new Promise((done) => setTimeout(done, PERIOD_MS));
    if (signal.aborted) return;
    if (document.hidden || ![...shown.values()].some(({ open }) => open())) continue;
    const page = await jobs.list({ signal }).catch(() => null);
    if (signal.aborted) return;
    if (!page) continue;
    const fresh = page.jobs.filter((job) => !shown.has(job.id));
    page.jobs.filter((job) => shown.has(job.id)).forEach(place);
    list.prepend(...fresh.map(place));
    // What was loaded beyond the first page is asked for one by one, as long as it is unfinished.
    const listed = new Set(page.jobs.map(({ id }) => id));
    await Promise.all([...shown].filter(([id, { open }]) => open() && !listed.has(id)).map(([id]) => renew(id)));
    if (signal.aborted) return;
    empty.hidden = shown.size > 0;
    tally.refresh();
  }
}

function row(first) {
  let job = first;
  const prompt = job.request.prompt;
  const title = element("h3", { tabindex: -1 }, prompt);
  const sign = badge();
  const bar = progress(`Synthetic image: ${prompt}`);
  const body = element("div", { class: "pair" });
  const notices = element("div", { class: "notices" });
  const rest = element("div", {});
  const cancel = element("button", { type: "button", class: "button quiet small", "aria-label": `Cancel: ${prompt}` }, "Cancel");
  const search = element("a", { href: `?${new URLSearchParams({ q: prompt })}` }, "Search this");
  const node = element("li", { class: "job", "data-id": job.id }, element("div", { class: "head" }, title, sign), bar.node, notices, body, rest, element("p", { class: "side" }, cancel, search));
  let drawn = "";

  cancel.addEventListener("click", async () => {
    cancel.disabled = true;
    try {
      update(await jobs.cancel(job.id));
      announce(jobs.ended(job) ? "Cancelled." : "It stops after this step.");
      if (jobs.ended(job)) title.focus();
    } catch (error) {
      announce(error.message);
    }
    cancel.disabled = false;
  });

  function update(next) {
    job = next;
    bar.show(job);
    cancel.hidden = jobs.ended(job);
    sign.hidden = job.state !== "SUCCEEDED";
    if (drawn === job.state) return node;
    if (drawn) announce(`${prompt}: ${inWords(job)}`);
    drawn = job.state;
    notices.replaceChildren(...[cutNotice(job), notice(job)].filter(Boolean));
    body.replaceChildren(...figures(job));
    rest.replaceChildren(facts(job));
    return node;
  }

  update(first);
  return { node, update, open: () => !jobs.ended(job) };
}
