// The query in the page's address, so that a link shows what its sender saw. An image stays out of it.

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
    similar: parameters.get("similar") || "",
    view: parameters.get("view") === "compare" ? "compare" : "results",
    vectors: SPACES.includes(vectors) ? vectors : "image",
    where,
    picture: null,
  };
}

export function write(query) {
  const parameters = new URLSearchParams();
  for (const name of ["q", "minus", "plus", "similar"]) if (query[name]) parameters.set(name, query[name]);
  if (query.view === "compare") parameters.set("view", "compare");
  if (query.vectors !== "image") parameters.set("vectors", query.vectors);
  for (const [facet, value] of Object.entries(query.where)) if (value) parameters.append("where", `${facet}=${value}`);
  const text = parameters.toString();
  return text ? `/?${text}` : "/";
}

export const isEmpty = (query) => !(query.q || query.minus || query.plus || query.similar || query.picture);
