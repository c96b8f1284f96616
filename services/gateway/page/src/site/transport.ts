// Requests of the page, answered by the site's worker instead of a server.

import { here, root } from "../address";
import { maybe, t } from "../text";
import type { FromWorker, ToWorker } from "./worker";

/** The name of the worker's file, next to this script. */
declare const WORKER: string;

type Listener = (message: FromWorker) => void;

// A worker of an address of its own would not have the page's policy; one of the page's own memory has.
function start(): Worker {
  const address = new URL(WORKER, import.meta.url).href;
  const blob = URL.createObjectURL(new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" }));
  return new Worker(blob, { type: "module" });
}

const worker = start();
const listeners = new Set<Listener>();
const waiting = new Map<number, (response: Response | Promise<Response>) => void>();
let last = 0;

export const send = (message: ToWorker): void => worker.postMessage(message);
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

worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
  for (const listener of listeners) listener(data);
  if (data.kind !== "reply" && data.kind !== "file") return;
  const settle = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.kind === "file") settle?.(fetch(here(data.path)));
  else settle?.(Response.json(worded(data.body, data.status), { status: data.status }));
});
worker.addEventListener("error", () => {
  for (const settle of waiting.values())
    settle(Response.json(worded({ code: "SITE_FAILED", metadata: {} }, 500), { status: 500 }));
  waiting.clear();
});
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
