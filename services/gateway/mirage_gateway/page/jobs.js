// Jobs of image generation: the gateway's calls, and what this tab remembers of them.

import { can } from "./access.js";
import { Problem, events, exact, models, request } from "./api.js";
import { tab } from "./storage.js";

const KEY = "mirage-jobs";
const REMEMBERED = 20;
const LOST_MS = 60_000;
const AGAIN_MS = 1000;
const ENDED = ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"];

export const ended = (job) => ENDED.includes(job.state);
export const imageName = (job, index) => `mirage-synthetic-${job.id}-${index}.png`;

let known = null;

// The generator's model, or null where none serves or the reader may not use it; asked for once while it is there.
export async function model() {
  if (!can("create_job")) return null;
  known ||= models().then(({ models: found }) => found.find((each) => each.task === "generate") || null);
  const found = await known.catch(() => null);
  if (!found) known = null;
  return found;
}

// `seed` is a string of digits: as a number it could lose its last ones. What is sent twice, because the connection broke, makes
// one job.
export async function create({ seed, ...given }) {
  const text = JSON.stringify({ ...given, request_id: token() });
  const body = seed ? `${text.slice(0, -1)},"seed":${BigInt(seed)}}` : text;
  const send = () => request("/v1/jobs", { method: "POST", body });
  return job(
    await send().catch(async (error) => {
      if (error.code !== "UNREACHABLE") throw error;
      await pause();
      return send();
    }),
  );
}

const token = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const pause = () => new Promise((done) => setTimeout(done, AGAIN_MS));

export async function read(id, options) {
  return job(await request(path(id), options));
}

export async function cancel(id) {
  return job(await request(`${path(id)}/cancel`, { method: "POST" }));
}

export async function list({ states = [], token = "", limit = 20, signal } = {}) {
  const parameters = new URLSearchParams({ limit });
  if (states.length) parameters.set("state", states.join(","));
  if (token) parameters.set("page_token", token);
  return job(await request(`/v1/jobs?${parameters}`, { signal }));
}

// A job until it has ended, as { name, data }; a connection that breaks is made again, for a minute of trouble. A job that waits
// in silence is none.
export async function* watch(id, { signal }) {
  let troubleSince = null;
  const heard = () => (troubleSince = null);
  for (;;) {
    try {
      for await (const event of events(`${path(id)}/events`, { signal, heard })) yield event;
      return;
    } catch (error) {
      const passing = error instanceof Problem && [0, 429, 503, 504].includes(error.status);
      troubleSince ??= performance.now();
      if (!passing || performance.now() - troubleSince > LOST_MS) throw error;
    }
    await pause();
    signal.throwIfAborted();
  }
}

const path = (id) => `/v1/jobs/${encodeURIComponent(id)}`;
const job = async (response) => exact(await response.text());

// Which job was made for a prompt in this tab, so that a reload finds it again.

export function recall(prompt) {
  return kept().find((each) => each.prompt === prompt)?.id || "";
}

export function remember(prompt, id) {
  const others = kept().filter((each) => each.prompt !== prompt);
  tab.set(KEY, JSON.stringify(id ? [{ prompt, id }, ...others].slice(0, REMEMBERED) : others));
}

function kept() {
  const found = tab.json(KEY, []);
  return Array.isArray(found) ? found.filter((each) => typeof each?.prompt === "string" && typeof each.id === "string") : [];
}
