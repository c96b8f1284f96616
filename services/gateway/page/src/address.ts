// The state of the page that a link carries: what is shown, of which atlas, and how it was asked for.

export const TERMS_MAX = 12;
export const WEIGHT_MAX = 2;

export interface Term {
  kind: "text" | "id";
  value: string;
  weight: number;
}

export type Where = Record<string, string[]>;
export type Mode = "" | "words" | "images" | "captions";
export type View =
  | "search"
  | "image"
  | "compare"
  | "read"
  | "generated"
  | "quality"
  | "rate"
  | "about"
  | "docs"
  | "lost";

export interface Route {
  view: View;
  id: string;
  q: string;
  similar: string;
  /** The key of an own image, which stays in this browser. */
  own: string;
  mode: Mode;
  where: Where;
  browse: boolean;
  /** Every image on its own, not one of each case. */
  flat: boolean;
  tab: "pair" | "shift";
  a: string;
  b: string;
  minus: string;
  plus: string;
  terms: Term[];
  collection: string;
  region: string;
}

export const EMPTY: Route = {
  view: "search",
  id: "",
  q: "",
  similar: "",
  own: "",
  mode: "",
  where: {},
  browse: false,
  flat: false,
  tab: "pair",
  a: "",
  b: "",
  minus: "",
  plus: "",
  terms: [],
  collection: "",
  region: "",
};

// The script is in the folder `page` of the site, which may be below a path of another server.
export const root = new URL("../", import.meta.url);

/** True for a static site: its host knows one address only, so that what is shown is in the part after #. */
export const isStatic = document.documentElement.dataset?.site !== undefined;

/** Returns an address of the gateway, such as /v1/search, as one of this site. */
export const here = (path: string): string => new URL(path.replace(/^\//, ""), root).href;

const PLACES: Record<string, View> = {
  "": "search",
  compare: "compare",
  read: "read",
  generated: "generated",
  quality: "quality",
  about: "about",
  docs: "docs",
};
const MODES: readonly string[] = ["words", "images", "captions"];
const TEXTS = ["q", "similar", "own", "a", "b", "minus", "plus", "collection", "region"] as const;

/** Returns the route of a path below the root and a query. */
export function parse(path: string, query: string): Route {
  const given = new URLSearchParams(query);
  const route: Route = { ...EMPTY, where: {}, terms: [] };
  const [, folder, id] = /^(i|rate)\/([^/]+)$/.exec(path) ?? [];
  route.view = folder ? (folder === "i" ? "image" : "rate") : (PLACES[path] ?? "lost");
  if (id) route.id = decoded(id);
  if (route.view === "read") route.id = (given.get("id") ?? "").trim();
  for (const name of TEXTS) route[name] = (given.get(name) ?? "").trim();
  const mode = given.get("mode") ?? "";
  if (MODES.includes(mode)) route.mode = mode as Mode;
  route.browse = given.has("browse");
  route.flat = given.has("flat");
  for (const each of given.getAll("where")) {
    const cut = each.indexOf("=");
    const facet = each.slice(0, cut);
    if (cut > 0 && cut < each.length - 1) route.where[facet] = [...(route.where[facet] ?? []), each.slice(cut + 1)];
  }
  route.terms = given.getAll("term").flatMap(readTerm).slice(0, TERMS_MAX);
  // Links of earlier versions.
  if (route.view === "search" && given.get("view") === "compare") route.view = "compare";
  if (route.view === "compare" && (route.q || route.minus || route.plus || route.terms.length)) route.tab = "shift";
  if (given.get("tab") === "shift") route.tab = "shift";
  return route;
}

/** Returns the route of the address bar. */
export function readRoute(): Route {
  if (isStatic) {
    const [path = "", ...query] = location.hash.replace(/^#\/?/, "").split("?");
    return parse(path, query.join("?"));
  }
  const below = location.pathname.startsWith(root.pathname) ? location.pathname.slice(root.pathname.length) : "";
  return parse(below, location.search);
}

// A path may hold what is not an escape.
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// A term as weight|kind|value, such as -0.5|text|axial or 1|id|demo-axial-p08-t1.
function readTerm(text: string): Term[] {
  const [weight = "", kind, ...rest] = text.split("|");
  const value = rest.join("|").trim();
  const amount = Number(weight);
  const fits = value && weight !== "" && Number.isFinite(amount) && Math.abs(amount) <= WEIGHT_MAX;
  return fits && (kind === "text" || kind === "id") ? [{ kind, value, weight: amount }] : [];
}

/** Returns a route as the query of a link, with its question mark; empty if there is nothing to say. */
export function queryOf(route: Route): string {
  const parameters = new URLSearchParams();
  if (route.view === "read" && route.id) parameters.set("id", route.id);
  for (const name of TEXTS) if (route[name]) parameters.set(name, route[name]);
  if (route.mode) parameters.set("mode", route.mode);
  if (route.browse) parameters.set("browse", "");
  if (route.flat) parameters.set("flat", "");
  for (const { weight, kind, value } of route.terms) parameters.append("term", `${weight}|${kind}|${value}`);
  for (const [facet, values] of Object.entries(route.where))
    for (const value of values) parameters.append("where", `${facet}=${value}`);
  if (
    route.view === "compare" &&
    route.tab === "shift" &&
    !route.q &&
    !route.minus &&
    !route.plus &&
    !route.terms.length
  )
    parameters.set("tab", "shift");
  const text = parameters.toString();
  return text && `?${text}`;
}

/** Returns the path of a link to a route, from the site's root. */
export function pathOf(route: Route): string {
  const id = encodeURIComponent(route.id);
  const place = { search: "", lost: "", image: `i/${id}`, rate: `rate/${id}` }[route.view as "search"] ?? route.view;
  return `${place}${queryOf(route)}`;
}

/** True for a search that asks for something: words, an image, or a filter to browse by. */
export const asks = (route: Route): boolean =>
  Boolean(
    route.q || route.similar || route.own || route.terms.length || route.browse || Object.keys(route.where).length,
  );
