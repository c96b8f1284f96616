// The query in the page's address, so that a link shows what its sender saw. An image stays out of it.

export const TERMS_MAX = 12;
export const WEIGHT_MAX = 2;
const VIEWS = ["models", "jobs"];
const SPACES = ["image", "caption", "fused"];

export function read(search = location.search) {
  const parameters = new URLSearchParams(search);
  const where = {};
  for (const each of parameters.getAll("where")) {
    const cut = each.indexOf("=");
    if (cut > 0) where[each.slice(0, cut)] = each.slice(cut + 1);
  }
  const vectors = parameters.get("vectors");
  return {
    q: (parameters.get("q") || "").trim(),
    minus: (parameters.get("minus") || "").trim(),
    plus: (parameters.get("plus") || "").trim(),
    terms: parameters.getAll("term").map(readTerm).filter(Boolean).slice(0, TERMS_MAX),
    similar: parameters.get("similar") || "",
    show: VIEWS.includes(parameters.get("show")) ? parameters.get("show") : "",
    view: parameters.get("view") === "compare" ? "compare" : "results",
    vectors: SPACES.includes(vectors) ? vectors : "",
    where,
    picture: null,
    acceptAny: false,
  };
}

// A further term as weight|kind|value, such as -0.5|text|axial or 1|id|demo-axial-p08-t1.
function readTerm(text) {
  const [weight, kind, ...rest] = text.split("|");
  const value = rest.join("|").trim();
  const number = Number(weight);
  const usable = value && (kind === "text" || kind === "id") && weight !== "" && Math.abs(number) <= WEIGHT_MAX;
  return usable ? { kind, value, weight: number } : null;
}

export function write(query) {
  const parameters = new URLSearchParams();
  for (const name of ["q", "minus", "plus", "similar"]) if (query[name]) parameters.set(name, query[name]);
  for (const { weight, kind, value } of query.terms || []) parameters.append("term", `${weight}|${kind}|${value}`);
  if (query.show) parameters.set("show", query.show);
  if (query.view === "compare") parameters.set("view", "compare");
  if (query.vectors) parameters.set("vectors", query.vectors);
  for (const [facet, value] of Object.entries(query.where)) if (value) parameters.append("where", `${facet}=${value}`);
  const text = parameters.toString();
  return text ? `?${text}` : "./";
}

export const isEmpty = (query) => !(query.q || query.minus || query.plus || query.similar || query.picture || query.terms?.length);
