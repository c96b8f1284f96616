// The page: from a query to an answer, and from the address to a query.

import * as access from "./access.js";
import * as address from "./address.js";
import * as api from "./api.js";
import { comparison } from "./comparison.js";
import { announce, byId, element } from "./elements.js";
import { stopAll } from "./explanation.js";
import * as filters from "./filters.js";
import * as form from "./form.js";
import * as gate from "./gate.js";
import * as history_ from "./history.js";
import { jobList } from "./job_list.js";
import { models as modelsPage } from "./models.js";
import * as picture from "./picture.js";
import { results } from "./results.js";
import * as states from "./states.js";
import { leaveAll } from "./synthesis.js";
import * as tally from "./tally.js";
import * as terms from "./terms.js";
import * as viewer from "./viewer.js";

let current = address.read();
let running = null;
let records = 0;

const actions = {
  use: (id) => {
    terms.add({ kind: "id", value: id, weight: 1 });
    announce("The record is a term of the query now. Set its weight and search.");
  },
  open: (found, index) => viewer.open(found, index, actions),
  // In quotes a word is searched as it is typed.
  ask: (word) => go({ ...current, q: quoted(current.q, word) }),
  narrow: (facet, value) => go({ ...current, where: { ...current.where, [facet]: value } }),
  similar: (id) => {
    picture.clear();
    go({ ...address.read(""), similar: id, where: current.where });
    byId("answer").focus({ preventScroll: true });
    scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  },
};

function quoted(text, word) {
  const at = text.toLowerCase().indexOf(word.toLowerCase());
  return at < 0 ? `"${word}"` : `${text.slice(0, at)}"${text.slice(at, at + word.length)}"${text.slice(at + word.length)}`;
}

// Shows a query: form, address and answer.
function go(query, { replace = false } = {}) {
  current = { ...address.read(""), ...query };
  form.put(current);
  filters.recount(current.where);
  const link = address.write(current);
  if (replace || link === (location.search || "./")) history.replaceState(null, "", link);
  else history.pushState(null, "", link);
  return answer();
}

async function answer() {
  running?.abort();
  stopAll();
  leaveAll();
  const query = current;
  document.title = [query.show ? { models: "Models", jobs: "Synthetic images" }[query.show] : query.q || (query.similar && `similar to ${query.similar}`), "MIRAGE"].filter(Boolean).join(" · ");
  if (address.isEmpty(query) && !query.show) {
    states.put(states.welcome((given) => go(given), records));
    // Not on a touch screen, where it would bring up the keyboard.
    if (matchMedia("(hover: hover)").matches) form.focus();
    return;
  }
  const own = new AbortController();
  running = own;
  const stop = () => {
    own.abort();
    states.put(states.stopped(answer));
  };
  let loading = null;
  // A fast answer comes before anything moves.
  const wait = setTimeout(() => {
    loading = states.loading(stop);
    states.put(loading.nodes, { busy: true });
  }, 120);
  try {
    const shown = await ask(query, own.signal);
    if (running === own) states.put(shown);
  } catch (error) {
    if (running === own && error.name !== "AbortError") fail(error);
  } finally {
    clearTimeout(wait);
    loading?.end();
  }
}

async function ask(query, signal) {
  if (query.show === "models") return modelsPage(signal);
  if (query.show === "jobs") return jobList(signal);
  const shifts = query.minus || query.plus || query.terms.length;
  if (query.view === "compare" && shifts && (query.q || query.picture)) {
    const reply = await api.compare(query, { signal });
    if (!query.picture) history_.remember(address.write(query), title(query));
    announce(`Comparison: ${reply.base.results.length} and ${reply.shifted.results.length} images`);
    return comparison(reply, query, actions);
  }
  const find = query.similar
    ? (token) => api.similar(query.similar, query, { token, signal })
    : (token) => api.search(query, { token, signal });
  const reply = await find();
  if (!query.picture) history_.remember(address.write(query), title(query));
  if (!reply.results.length) {
    announce("Nothing found");
    return states.nothing(query, () => go({ ...query, where: {} }));
  }
  announce(`${reply.results.length} images, match ${reply.match || "not judged"}`);
  const more = (token) => find(token).catch((error) => fail(error));
  return results(reply, { title: title(query), actions, more, query });
}

function title(query) {
  if (query.similar) return `Similar to ${query.similar}`;
  const base = query.q || (query.picture ? "Your image" : "");
  const further = query.terms.map(({ weight, value }) => `${weight < 0 ? "−" : "+"} ${Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} × `}${value}`);
  const parts = [base, query.minus && `− ${query.minus}`, query.plus && `+ ${query.plus}`, ...further];
  return parts.filter(Boolean).join(" ").replace(/^\+ /, "");
}

function fail(error) {
  const problem = error instanceof api.Problem ? error : new api.Problem({ title: "This page failed", detail: "Reload it." });
  if (!(error instanceof api.Problem)) console.error(error);
  if (problem.code === "IMAGE_NOT_MEDICAL" && picture.value()) {
    states.put(gate.declined(Number(problem.metadata.score) || 0, insist, removePicture));
    return;
  }
  states.put(states.failure(problem, start));
}

function insist() {
  picture.insist();
  submitted({ quiet: true });
}

function removePicture() {
  picture.clear();
  submitted({ quiet: true });
}

// An image is looked at before it is searched.
async function pictureChanged() {
  const image = picture.value();
  const guess = image && (await gate.look(image));
  if (image !== picture.value()) return; // another one came meanwhile
  gate.show(guess, (facet, value) => go({ ...form.read(), where: { ...current.where, [facet]: value } }));
  if (guess?.kind === "not_medical") {
    running?.abort();
    states.put(gate.declined(guess.medical_score, insist, removePicture));
    return;
  }
  submitted({ quiet: true });
}

function submitted({ quiet = false } = {}) {
  const query = form.read();
  if (current.similar && quiet && !query.q && !query.picture) query.similar = current.similar;
  if (address.isEmpty(query) && !quiet) {
    announce("Type a concept or add an image first.");
    form.focus();
  }
  const compares = query.view === "compare" && (query.minus || query.plus || query.terms.length);
  if (query.view === "compare" && !compares && !address.isEmpty(query)) announce("Fill in what to take away or to add to compare.");
  go(query);
}

async function describe() {
  try {
    const [{ models }, collection] = await Promise.all([api.models(), api.collection()]);
    records = collection.records;
    const cards = models.map((model) => `${model.name} (${model.precision}, ${model.engine}, ${model.licence})`);
    byId("models").textContent = `${records.toLocaleString("en")} images · ${cards.join(" · ")}`;
    byId("models").title = models.map((model) => `${model.source} ${model.fingerprint}`).join("\n");
  } catch {
    byId("models").textContent = "";
  }
}

async function suggest() {
  const common = await api.commonQueries().catch(() => ({ queries: [] }));
  const texts = new Set([...history_.list().map(({ title: text }) => text), ...common.queries]);
  byId("suggestions").replaceChildren(...[...texts].slice(0, 60).map((value) => element("option", { value })));
}

async function start() {
  // At once: what a reader types while the rest loads must stay.
  form.put(current);
  byId("filters").open = Object.keys(current.where).length > 0 || matchMedia("(min-width: 60rem)").matches;
  suggest();
  await Promise.all([access.load(), filters.load(current.where), describe()]);
  byId("visitor").hidden = !access.isVisitor();
  tally.refresh();
  await answer();
}

form.listen(submitted);
byId("use-key").addEventListener("click", () => {
  running?.abort();
  states.put(states.askForKey({}, start));
  byId("key").focus();
});
picture.listen(
  pictureChanged,
  (problem) => states.put(states.failure(new api.Problem(problem))),
);
addEventListener("online", () => byId("answer").querySelector(".problem") && answer());
addEventListener("popstate", () => {
  picture.clear();
  current = address.read();
  form.put(current);
  filters.recount(current.where);
  answer();
});
start();
