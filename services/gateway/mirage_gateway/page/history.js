// The reader's own recent queries, kept in this browser and nowhere else.

import { browser } from "./storage.js";

const KEY = "mirage-history";
const KEPT = 12;

export function list() {
  const kept = browser.json(KEY, []);
  return Array.isArray(kept) ? kept.filter((each) => typeof each?.link === "string" && each.link.startsWith("?") && typeof each.title === "string") : [];
}

export function remember(link, title) {
  if (!title || !link.startsWith("?")) return;
  const kept = [{ link, title }, ...list().filter((each) => each.link !== link)].slice(0, KEPT);
  browser.set(KEY, JSON.stringify(kept));
}

export const clear = () => browser.remove(KEY);
