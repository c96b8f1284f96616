// The atlas's labels in words for readers.

import type { Shown } from "./api";
import { maybe, t } from "./text";

const ORDER = ["modality", "body_part", "plane", "sequence", "side", "finding"];
const REAL = new Set(["", "no", "none", "false", "real"]);

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");

export const facetName = (name: string): string => maybe(`facet.${name}`, sentence(name));
export const valueName = (value: string, display?: string): string =>
  maybe(`value.${value.toLowerCase()}`, display || sentence(value));

export interface Label {
  facet: string;
  value: string;
  text: string;
}

/** Returns the labels that a card shows: licence and origin have places of their own, and "finding: none" says nothing. */
export function labelsOf(record: Shown): Label[] {
  return ORDER.flatMap((facet) =>
    (record.labels[facet] ?? [])
      .filter((value) => value !== "none")
      .map((value) => ({ facet, value, text: valueName(value) })),
  );
}

/** Returns the mark of an image that is not a photograph of a patient, or an empty string. */
export function originOf(record: Shown): string {
  const origin = (record.labels.synthetic ?? []).find((value) => !REAL.has(value));
  return origin ? valueName(origin) : "";
}

const NAME_CHARS = 90;

/** Returns a short name of a record: its title, or the first clause of its caption. */
export function nameOf(record: Shown): string {
  if (record.title) return record.title;
  const first = record.caption.split(/(?<=[.;:])\s|\n/)[0] ?? "";
  return first.length > NAME_CHARS
    ? `${first.slice(0, NAME_CHARS).replace(/\s\S*$/, "")} …`
    : first.replace(/[.;:]$/, "") || record.id;
}

/** Returns the text to quote a record by: what it is, where it comes from, its licence and the names that it asks for. */
export function citationOf(record: Shown, link: string): string {
  const licence = record.licence ? t("cite.licence", { licence: record.licence }) : t("cite.nolicence");
  const parts = [nameOf(record), record.source || t("source.unknown"), record.attribution, licence, link];
  return parts
    .filter(Boolean)
    .map((part) => part.replace(/[.\s]+$/, ""))
    .join(". ")
    .concat(".");
}
