// The reader's own recent queries, kept in this browser and nowhere else.

const KEY = "mirage-history";
const KEPT = 12;

export function list() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) || "[]");
    return Array.isArray(kept) ? kept.filter((each) => typeof each?.link === "string" && each.link.startsWith("/?") && typeof each.title === "string") : [];
  } catch {
    return []; // storage is switched off, or holds something else
  }
}

export function remember(link, title) {
  if (!title || !link.startsWith("/?")) return;
  const kept = [{ link, title }, ...list().filter((each) => each.link !== link)].slice(0, KEPT);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // a full or closed storage only means that nothing is remembered
  }
}

export function clear() {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // as above
  }
}
