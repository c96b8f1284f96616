// A request that is sent by one script and answered to another.

import { here } from "./address";
import { key } from "./storage";

interface Early {
  path: string;
  body: string;
  answer: Promise<Response>;
}

declare global {
  var mirageEarly: Early | undefined;
}

/** Returns the headers of a request: the key if there is one, and the type of the body. */
export const headersOf = (body: boolean): Record<string, string> => ({
  ...(key.get() ? { authorization: `Bearer ${key.get()}` } : {}),
  ...(body ? { "content-type": "application/json" } : {}),
});

/** Sends a request whose answer `taken` hands out. */
export function send(path: string, body: string): void {
  const answer = fetch(here(path), { method: "POST", headers: headersOf(true), body });
  // Who takes it hears of a failure.
  answer.catch(() => {});
  globalThis.mirageEarly = { path, body, answer };
}

/** Returns the answer to a request that was sent early, once; undefined if it was another one. */
export function taken(path: string, body: unknown): Promise<Response> | undefined {
  const early = globalThis.mirageEarly;
  if (early?.path !== path || early.body !== body) return undefined;
  globalThis.mirageEarly = undefined;
  return early.answer;
}
