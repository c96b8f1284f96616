// Requests of the page, answered by the site's worker instead of a server.

import { here, root } from "../address";
import { maybe, t } from "../text";
import type { FromWorker, ToWorker } from "./worker";

/** The name of the worker's file, next to this script. */
declare const WORKER: string;

type Listener = (message: FromWorker) => void;

const address = new URL(WORKER, import.meta.url).href;
const listeners = new Set<Listener>();
const waiting = new Map<number, (response: Response | Promise<Response>) => void>();
let last = 0;
// What was sent before the worker's first word, for the one that may take its place.
let unheard: ToWorker[] | null = [];
// A worker of an address of its own would not have the page's policy; one of the page's own memory has. Without a network
// Firefox does not give the latter its script: then the service worker gives it to the former, with the policy.
const blob = new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" });
let isSecond = false;
let worker = started(URL.createObjectURL(blob));

function started(from: string): Worker {
  const made = new Worker(from, { type: "module" });
  made.addEventListener("message", hear);
  made.addEventListener("error", fail);
  return made;
}

export function send(message: ToWorker): void {
  unheard?.push(message);
  worker.postMessage(message);
}

export function listen(listener: Listener): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

interface Document {
  code: string;
  title: string;
  detail: string;
  metadata: Record<string, string>;
}

// The site's own failures in the reader's language.
function worded(body: unknown, status: number): unknown {
  const problem = body as Document;
  if (status < 400 || !problem.code.startsWith("SITE_")) return body;
  if (problem.code === "SITE_FAILED") console.error(problem.metadata.reason);
  const name = problem.code.toLowerCase().replace("site_", "site.").replace("model_failed", "model.failed");
  const detail = maybe(`${name}.detail`, t("site.failed.detail")).replace("{file}", problem.metadata.file ?? "");
  return { ...problem, title: maybe(name, t("site.failed")), detail };
}

function hear({ data }: MessageEvent<FromWorker>): void {
  unheard = null;
  for (const listener of listeners) listener(data);
  if (data.kind !== "reply" && data.kind !== "file") return;
  const settle = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.kind === "file") settle?.(fetch(here(data.path)));
  else settle?.(Response.json(worded(data.body, data.status), { status: data.status }));
}

function fail(): void {
  if (unheard && !isSecond) {
    isSecond = true;
    worker = started(address);
    for (const message of unheard) worker.postMessage(message);
    return;
  }
  for (const settle of waiting.values())
    settle(Response.json(worded({ code: "SITE_FAILED", metadata: {} }, 500), { status: 500 }));
  waiting.clear();
}

send({ kind: "open", root: root.href });

/** Answers a request. What an own image holds goes to the worker, and nowhere else. */
export function local(path: string, { body, signal }: RequestInit): Promise<Response> {
  last += 1;
  const id = last;
  return new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => {
      waiting.delete(id);
      reject(new DOMException("", "AbortError"));
    });
    waiting.set(id, resolve);
    send({ kind: "request", id, path, ...(typeof body === "string" ? { body: JSON.parse(body) } : {}) });
  });
}
