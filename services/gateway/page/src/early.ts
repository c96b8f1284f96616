// A request that is sent by one script and answered to another.

import { here } from "./address";
import { key } from "./storage";

interface Early {
  path: string;
  body: string;
  answer: Promise<Response>;
  controller: AbortController;
}

declare global {
  /** What was sent; null once the page's script runs, which sends its requests itself. */
  var mirageEarly: Early | null | undefined;
}

/** Returns the headers of a request: the key if there is one, and the type of the body. */
export const headersOf = (body: boolean): Record<string, string> => ({
  ...(key.get() ? { authorization: `Bearer ${key.get()}` } : {}),
  ...(body ? { "content-type": "application/json" } : {}),
});

/** Sends a request whose answer `taken` hands out, unless the page's script was faster. */
export function send(path: string, body: string): void {
  if (globalThis.mirageEarly !== undefined) return;
  const controller = new AbortController();
  const asked = { method: "POST", headers: headersOf(true), body, signal: controller.signal };
  const answer = fetch(here(path), asked);
  // Who takes it hears of a failure.
  answer.catch(() => {});
  globalThis.mirageEarly = { path, body, answer, controller };
}

/** Returns the answer to a request that was sent early, once. If the page asks for something else there, it is given up. */
export function taken(path: string, body: unknown, signal?: AbortSignal | null): Promise<Response> | undefined {
  const early = globalThis.mirageEarly;
  globalThis.mirageEarly ??= null;
  if (early?.path !== path) return undefined;
  globalThis.mirageEarly = null;
  if (early.body !== body) {
    early.controller.abort();
    return undefined;
  }
  signal?.addEventListener("abort", () => early.controller.abort());
  return early.answer;
}
