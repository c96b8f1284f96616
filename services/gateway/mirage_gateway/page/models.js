// The models in use: what they are, how close they come to their originals, and how their judgements were calibrated.

import * as api from "./api.js";
import { element } from "./elements.js";
import { facetName, valueName } from "./vocabulary.js";

const TASKS = {
  encode: "Finds images: text and images in one space",
  describe: "Explains what was found, from the captions",
  generate: "Makes synthetic images of a text, marked as such",
};

export async function models(signal) {
  const [{ models: found }, collection] = await Promise.all([api.models({ signal }), api.collection()]);
  return [
    element("h2", {}, "Models in use"),
    element(
      "p",
      { class: "hint" },
      "Everything below comes from the bundles that this server runs. A fingerprint changes with anything that changes a number; ",
      `the atlas of ${collection.records.toLocaleString("en")} images was embedded with ${collection.fingerprint.slice(0, 12)}.`,
    ),
    ...found.map(card),
  ];
}

function card(model) {
  return element(
    "article",
    { class: "model" },
    element("h3", {}, model.name),
    element("p", {}, TASKS[model.task] || model.task),
    element(
      "dl",
      {},
      ...[
        ["Source", model.source],
        ["Licence", model.licence],
        ["Precision", model.precision],
        ["Runs in", model.engine],
        ["Dimension", model.dimension],
        ["Context", model.context_length && `${model.context_length} tokens`],
        ["Image side", model.image_size && `${model.image_size} pixels`],
        ["Fingerprint", model.fingerprint],
      ].flatMap(([name, value]) => (value ? [element("dt", {}, name), element("dd", {}, String(value))] : [])),
    ),
    ...[{ describe: likeness, generate: sameness }[model.task]?.(model.manifest) ?? parity(model.manifest), match(model.manifest), gate(model.manifest)].filter(Boolean),
  );
}

function table(caption, columns, rows, note) {
  return element(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, columns.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, rows.map(([first, ...rest]) => element("tr", {}, element("th", { scope: "row" }, first), rest.map((text) => element("td", {}, text))))),
    ),
    note && element("p", { class: "aside" }, note),
  );
}

const number = (value, digits = 4) => (typeof value === "number" ? value.toFixed(digits) : "–");

function parity(manifest) {
  const rows = Object.entries(manifest.variants || {}).flatMap(([variant, { parity: towers = {}, quantisation = {} }]) =>
    Object.entries(towers).map(([tower, each]) => [
      `${variant}, ${tower}`,
      quantisation[tower] || "",
      number(each.cosine_min),
      number(each.cosine_mean),
      number(each.overlap_at_10, 3),
      String(each.items ?? ""),
    ]),
  );
  const columns = ["Tower", "Held as", "Least cosine", "Mean cosine", "Top-10 kept", "Inputs"];
  return rows.length ? table("Parity with the original in PyTorch", columns, rows, "Measured when the bundle was built.") : null;
}

// The same of a language model: how often it would write the original's next token.
function likeness(manifest) {
  const rows = Object.entries(manifest.variants || {}).map(([variant, { parity: each = {}, quantisation = {} }]) => [
    variant,
    quantisation.decoder || "",
    number(each.agreement, 3),
    number(each.perplexity_ratio, 3),
    String(each.tokens ?? ""),
  ]);
  const columns = ["Precision", "Held as", "Same next token", "Perplexity ratio", "Tokens"];
  return rows.length ? table("Parity with the original in PyTorch", columns, rows, [...(manifest.remarks || []), "Measured when the bundle was built."].join("; ")) : null;
}

// The same of an image generator: how alike its images are to the original's of the same noise.
function sameness(manifest) {
  const rows = Object.entries(manifest.variants || {}).map(([variant, { parity: each = {}, quantisation = {} }]) => [
    variant,
    quantisation.unet || "",
    number(each.latents?.at(-1)),
    number(each.ssim, 3),
    String(each.images ?? ""),
  ]);
  const columns = ["Precision", "Held as", "Cosine of the latents", "Likeness (SSIM)", "Images"];
  return rows.length ? table("Parity with the original in PyTorch", columns, rows, "Measured when the bundle was built.") : null;
}

function match(manifest) {
  const kinds = ["text", "image", "arithmetic"].filter((kind) => manifest.match?.[kind]);
  if (!kinds.length) return null;
  const measured = manifest.match.measured || {};
  const rows = kinds.map((kind) => [
    kind,
    number(manifest.match[kind].good, 3),
    number(manifest.match[kind].weak, 3),
    number(measured[kind]?.in_atlas_good, 2),
    number(measured[kind]?.off_atlas_good, 2),
  ]);
  const columns = ["Query", "Good from", "Weak from", "Queries of the atlas called good", "Others called good"];
  return table("How “good match” is told", columns, rows, "Cosine of the best result; shares of queries that took no part in setting the bars.");
}

function gate(manifest) {
  const facets = Object.entries(manifest.gate?.facets || {});
  if (!facets.length) return null;
  const rows = facets.map(([facet, { values }]) => {
    const sure = Object.entries(values).filter(([, each]) => each.sure_from !== null && each.sure_from !== undefined);
    return [facetName(facet), Object.keys(values).map(valueName).join(", "), sure.map(([value]) => valueName(value)).join(", ") || "none"];
  });
  return table("What is guessed of an uploaded image", ["Facet", "Values", "Can be sure of"], rows, "Zero-shot; a guess without proof on enough images never counts as sure.");
}
