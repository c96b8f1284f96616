// Where the reader is: the address bar, the history of the tab, and the scroll position of each of its entries.

import { useEffect, useState } from "preact/hooks";
import { isStatic, pathOf, type Route, readRoute, root } from "./address";

interface Entry {
  scroll?: number;
  /** The record whose card had the focus. */
  focus?: string;
  /** The search that an image was opened from, as the path of its link. */
  from?: string;
}

history.scrollRestoration = "manual";
const listeners = new Set<() => void>();
let restoring: Entry | null = readEntry();

function readEntry(): Entry {
  return typeof history.state === "object" && history.state ? (history.state as Entry) : {};
}

let current = readRoute();

export const route = (): Route => current;
export const entry = readEntry;
export const addressOf = (to: Route): string => root.pathname + (isStatic ? "#/" : "") + pathOf(to);
export const linkOf = (to: Route): string => new URL(addressOf(to), root).href;

interface Options {
  replace?: boolean;
  from?: string;
  focus?: string;
}

/** Shows a route: a new entry of the history, unless it replaces the present one or is the same. */
export function go(to: Route, { replace = false, from, focus }: Options = {}): void {
  const same = addressOf(to) === location.pathname + location.search + location.hash;
  const state: Entry = from === undefined ? {} : { from };
  if (replace || same) history.replaceState({ ...readEntry(), ...state }, "", addressOf(to));
  else {
    history.replaceState({ ...readEntry(), scroll: scrollY, ...(focus ? { focus } : {}) }, "");
    history.pushState(state, "", addressOf(to));
  }
  current = to;
  restoring = replace ? null : { scroll: 0 };
  for (const each of listeners) each();
}

/** True until a history entry's scroll position or focus is put back. */
export const restores = (): boolean => Boolean(restoring?.scroll || restoring?.focus);

/** Puts back the scroll position and the focus of a history entry, once what it shows is there again. */
export function settled(): void {
  if (!restoring) return;
  const { scroll = 0, focus } = restoring;
  restoring = null;
  scrollTo({ top: scroll, behavior: "instant" });
  if (focus) document.querySelector<HTMLElement>(`[data-id="${CSS.escape(focus)}"] a`)?.focus({ preventScroll: true });
}

addEventListener("popstate", () => {
  current = readRoute();
  restoring = readEntry();
  for (const each of listeners) each();
});
// A reload or a page that is left without a link keeps its position, too.
addEventListener("pagehide", () => history.replaceState({ ...readEntry(), scroll: scrollY }, ""));
let resting: ReturnType<typeof setTimeout> | undefined;
addEventListener("scroll", () => {
  clearTimeout(resting);
  resting = setTimeout(() => restoring || history.replaceState({ ...readEntry(), scroll: scrollY }, ""), 150);
});

let version = 0;

/** Draws everything again, as in another language or with another key. */
export function refresh(): void {
  version += 1;
  for (const each of listeners) each();
}

/** Returns the route, and a number that changes if everything is to be drawn again. */
export function useRoute(): { route: Route; version: number } {
  const [shown, show] = useState({ route: current, version });
  useEffect(() => {
    const listen = () => show({ route: current, version });
    listeners.add(listen);
    listen();
    return () => void listeners.delete(listen);
  }, []);
  return shown;
}
