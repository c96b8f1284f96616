// The atlas's labels in words for readers.

const FACETS = {
  modality: "Modality",
  plane: "Plane",
  body_part: "Body part",
  sequence: "Sequence",
  finding: "Finding",
  side: "Side",
  licence: "Licence",
  synthetic: "Origin",
};
const VALUES = {
  "x-ray": "X-ray",
  ct: "CT",
  mr: "MR",
  us: "Ultrasound",
  nm: "Nuclear medicine",
  t1: "T1",
  t2: "T2",
  flair: "FLAIR",
  none: "none",
  "template-rendering": "Template rendering",
};
const REAL = new Set(["", "no", "none", "false", "real"]);

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");

export const facetName = (name) => FACETS[name] || sentence(name);
export const valueName = (value) => VALUES[value] || sentence(value);

// What a card shows: licence and origin have places of their own, and "finding: none" says nothing.
export function shownLabels(labels) {
  const order = Object.keys(FACETS).filter((name) => name !== "licence" && name !== "synthetic");
  return order.flatMap((name) =>
    (labels[name] || []).filter((value) => value !== "none").map((value) => ({ name, value: valueName(value) })),
  );
}

// The mark of an image that is no photograph of a patient, or null.
export function originMark(labels) {
  const origin = (labels.synthetic || []).find((value) => !REAL.has(value));
  return origin ? valueName(origin) : null;
}
