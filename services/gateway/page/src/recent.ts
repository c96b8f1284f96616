// The reader's own recent searches, kept in this browser and nowhere else.

import { browser, listOf } from "./storage";

const KEY = "mirage-history";
const KEPT = 12;

interface Search {
  name: string;
  /** Its path from the site's root. */
  path: string;
}

const fits = (each: unknown): each is Search => {
  const search = each as Partial<Search> | null;
  return typeof search?.name === "string" && typeof search.path === "string" && search.path.startsWith("?");
};

export const recent = (): Search[] => listOf(browser, KEY, fits);
export const clearRecent = (): void => browser.remove(KEY);

/** Remembers a search under its name, which takes the place of an earlier one with the same name. */
export function remember(search: Search): void {
  if (!search.name || !fits(search)) return;
  const others = recent().filter((each) => each.name !== search.name && each.path !== search.path);
  browser.set(KEY, JSON.stringify([search, ...others].slice(0, KEPT)));
}
