// The gateway's JSON. A failure is a Problem: the catalogue's code and text, as the server gave them.

import { EventParser } from "./events.js";
import { tab } from "./storage.js";

const KEY = "mirage-key";
export const PAGE_SIZE = 12;

export class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title || "Something failed.");
    this.code = document.code || "INTERNAL";
    this.title = document.title || "Error";
    this.status = document.status || 0;
    this.metadata = document.metadata || {};
    this.requestId = document.request_id || "";
    this.retryAfter = document.retry_after_s;
  }
}

export const key = {
  get: () => tab.get(KEY) || "",
  set: (value) => tab.set(KEY, value),
};

// An address of the gateway as one of this page's: the page may be served below a path, with which the gateway's begin no more.
export const here = (path) => path.replace(/^\//, "");

export async function request(path, { method = "GET", body, signal, accept } = {}) {
  const headers = accept ? { accept } : {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(here(path), { method, headers, body: typeof body === "object" ? JSON.stringify(body) : body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!navigator.onLine)
      throw new Problem({ code: "OFFLINE", title: "You are offline", detail: "This device has no connection at the moment." });
    throw new Problem({
      code: "UNREACHABLE",
      title: "No connection",
      detail: "The server does not answer. Is it running?",
    });
  }
  if (!response.ok) throw new Problem(await response.json().catch(() => ({ status: response.status })));
  return response;
}

async function json(path, options) {
  return (await request(path, options)).json();
}

// A query of the page is { q, minus, plus, picture (base64), vectors, where }.

function options(query) {
  const where = Object.fromEntries(Object.entries(query.where).filter(([, value]) => value));
  return { k: PAGE_SIZE, ...(query.vectors ? { vectors: query.vectors } : {}), ...(query.acceptAny ? { accept_any_image: true } : {}), ...(Object.keys(where).length ? { where } : {}) };
}

function termsOf(query) {
  const terms = [];
  if (query.q) terms.push({ text: query.q });
  if (query.picture) terms.push({ image: query.picture });
  if (query.minus) terms.push({ text: query.minus, weight: -1 });
  if (query.plus) terms.push({ text: query.plus, weight: 1 });
  terms.push(...further(query));
  return terms;
}

export function search(query, { token, signal }) {
  const body = { terms: termsOf(query), ...options(query), ...(token ? { page_token: token } : {}) };
  return json("/v1/search", { method: "POST", body, signal });
}

// The events of an explanation, { name, data }. `query.similar` asks for one of a record.
export async function* describe(query, { signal }) {
  const terms = query.similar ? [{ id: query.similar }] : termsOf(query);
  const body = { terms, ...options(query), k: 3 };
  yield* events("/v1/describe", { method: "POST", body, signal });
}

// The events of a stream up to `done`, as { name, data }. `heard` is called at each, and at a silent server's signs of life.
export async function* events(path, { heard = () => {}, ...options }) {
  const response = await request(path, { ...options, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const broken = { code: "UNREACHABLE", title: "No connection", detail: "The connection broke off." };
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new Problem(broken);
      });
      if (done) throw new Problem(broken);
      for (const { name, data } of parser.feed(value)) {
        heard();
        if (!name) continue;
        const event = { name, data: exact(data) };
        if (name === "error") throw new Problem(event.data.problem);
        yield event;
        if (name === "done") return;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Seeds go beyond what a JavaScript number holds exactly: they become strings here, and stay so. A quotation mark within a
// string of JSON is escaped, so that only a field's name is found.
export const exact = (text) => JSON.parse(text.replace(/"seed":(\d{16,})/g, '"seed":"$1"'));

export function compare(query, { signal }) {
  const body = options(query);
  if (query.q) body.text = query.q;
  if (query.picture) body.image = query.picture;
  if (query.minus) body.minus = query.minus;
  if (query.plus) body.plus = query.plus;
  if (query.terms.length) body.terms = further(query);
  return json("/v1/compare", { method: "POST", body, signal });
}

const further = (query) => query.terms.map(({ kind, value, weight }) => ({ [kind]: value, weight }));

export function similar(id, query, { token, signal }) {
  const parameters = filter(query.where);
  parameters.set("k", PAGE_SIZE);
  if (token) parameters.set("page_token", token);
  return json(`/v1/records/${encodeURIComponent(id)}/similar?${parameters}`, { signal });
}

export const record = (id, { signal } = {}) => json(`/v1/records/${encodeURIComponent(id)}`, { signal });
export const classify = (picture, { signal } = {}) =>
  json("/v1/classify", { method: "POST", body: { image: picture }, signal });
export const flag = (id, body) => json(`/v1/records/${encodeURIComponent(id)}/flags`, { method: "POST", body });
export const commonQueries = () => json("/v1/common-queries");
export const access = () => json("/v1/access");
export const models = () => json("/v1/models");
export const collection = () => json("/v1/collection");
export const facets = (where = {}) => json(`/v1/facets?${filter(where)}`);

function filter(where) {
  const parameters = new URLSearchParams();
  for (const [facet, value] of Object.entries(where)) if (value) parameters.append("where", `${facet}=${value}`);
  return parameters;
}
