// The records of a site in memory: filters, facets, cases, orders, vectors.

import type { Facet, StoredRecord } from "../api";
import { Failure } from "./failure";
import type { SiteHead } from "./server";

export type Filter = Record<string, string[]>;

export interface Among {
  where: Filter;
  not: Filter;
  exclude: Set<string>;
}

const NAMES = ["modality", "plane", "body_part", "structure", "sequence", "finding", "side", "licence", "synthetic"];
const FACET_CHARS = 64;
const RARE = 3;
const FEW = 10;

const facetValue = (text: string): string => {
  const value = text.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
  return value.length <= FACET_CHARS ? value : `${value.slice(0, FACET_CHARS - 1).trimEnd()}…`;
};

/** Returns a filter in the words of the vocabulary. */
export function filterOf(given: Record<string, string | string[]> = {}): Filter {
  const found: Filter = {};
  for (const [name, values] of Object.entries(given)) {
    const facet = name.toLowerCase().replace(/[\s-]+/g, "_");
    if (!NAMES.includes(facet)) throw new Failure("FACET_UNKNOWN", { field: name, known: NAMES.join(", ") });
    found[facet] = [...(found[facet] ?? []), ...[values].flat().map(facetValue)];
  }
  return found;
}

/** Returns 32 bits that the text decides: FNV-1a with a last mix. */
function chance(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export class Atlas {
  readonly records: StoredRecord[];
  readonly #displays: Record<string, Record<string, string>>;
  readonly #places: Map<string, number>;
  readonly #facets: Filter[];
  readonly #cases = new Map<string, number[]>();
  readonly #all = new Map<string, Map<string, number>>();

  constructor(records: StoredRecord[], head: Pick<SiteHead, "displays" | "images">) {
    for (const record of records) {
      const ending = head.images[record.image_type];
      const address = record.thumbnail_url.replace("/thumbnails/", "/images/").replace(/webp$/, ending ?? "bin");
      record.image_url = Object.keys(head.images).length ? address : record.thumbnail_url;
      record.regions = [];
    }
    this.records = records;
    this.#displays = head.displays;
    this.#places = new Map(records.map(({ id }, place) => [id, place]));
    this.#facets = records.map(({ labels, licence }) =>
      licence && !labels.licence ? { ...labels, licence: [facetValue(licence)] } : labels,
    );
    for (const [place, { case_id }] of records.entries())
      if (case_id) this.#cases.set(case_id, [...(this.#cases.get(case_id) ?? []), place]);
  }

  /** Takes what a list of records does not show. */
  complete(details: Partial<StoredRecord>[]): void {
    for (const [place, record] of this.records.entries()) Object.assign(record, details[place]);
  }

  at(place: number): StoredRecord {
    const record = this.records[place];
    if (!record) throw new Failure("RECORD_NOT_FOUND", { id: place });
    return record;
  }

  /** Returns the place of a record; raises RECORD_NOT_FOUND. */
  placeOf(id: string): number {
    const place = this.#places.get(id);
    if (place === undefined) throw new Failure("RECORD_NOT_FOUND", { id });
    return place;
  }

  find = (id: string): number | undefined => this.#places.get(id);
  facetsOf = (place: number): Filter => this.#facets[place] ?? {};

  // Made once for many places.
  #test({ where, not, exclude }: Among): (place: number) => boolean {
    const [wanted, unwanted] = [Object.entries(where), Object.entries(not)];
    if (!wanted.length && !unwanted.length && !exclude.size) return () => true;
    return (place) => {
      const facets = this.facetsOf(place);
      const has = ([name, values]: [string, string[]]) => (facets[name] ?? []).some((value) => values.includes(value));
      return wanted.every(has) && !unwanted.some(has) && !exclude.has(this.at(place).id);
    };
  }

  passes = (place: number, filter: Among): boolean => this.#test(filter)(place);

  /** Returns the places that pass, in the order of the site: newest first. */
  among(filter: Among): number[] {
    const test = this.#test(filter);
    const places: number[] = [];
    for (let place = 0; place < this.records.length; place += 1) if (test(place)) places.push(place);
    return places;
  }

  ordered(filter: Among, order: string, seed: number): number[] {
    const places = this.among(filter);
    const caseOf = (place: number) => this.at(place).case_id || this.at(place).id;
    if (order === "case")
      return places.sort(
        (a, b) => compare(caseOf(a), caseOf(b)) || (this.at(a).position ?? 0) - (this.at(b).position ?? 0) || a - b,
      );
    if (order !== "random") return places;
    const chances = new Map(places.map((place) => [place, chance(`${seed}/${this.at(place).id}`)]));
    return places.sort((a, b) => (chances.get(a) ?? 0) - (chances.get(b) ?? 0) || a - b);
  }

  /** Returns the records of a case by position; raises CASE_NOT_FOUND. */
  case(id: string): Record<string, unknown> {
    const places = this.#cases.get(id);
    if (!places) throw new Failure("CASE_NOT_FOUND", { id });
    const records = places
      .map((place) => this.at(place))
      .sort((a, b) => (a.position ?? 0) - (b.position ?? 0) || compare(a.id, b.id));
    const first = (name: "title" | "history") => records.find((record) => record[name])?.[name] ?? "";
    return { id, title: first("title"), history: first("history"), images: records.length, records };
  }

  /** Returns how many records of a case pass. */
  imagesOf = (id: string, filter: Among): number =>
    (this.#cases.get(id) ?? []).filter((place) => this.passes(place, filter)).length;

  #counts(name: string, filter: Among): Map<string, number> {
    const counts = new Map<string, number>();
    for (const place of this.among(filter))
      for (const value of this.facetsOf(place)[name] ?? []) counts.set(value, (counts.get(value) ?? 0) + 1);
    return counts;
  }

  /** Returns how many records carry each value; a facet's own part of the filter does not count for it. */
  facets(filter: Among, limit: number): Facet[] {
    const without = (name: string): Among => {
      const [where, not] = [filter.where, filter.not].map((side) =>
        Object.fromEntries(Object.entries(side).filter(([other]) => other !== name)),
      ) as [Filter, Filter];
      return { ...filter, where, not };
    };
    return NAMES.flatMap((name): Facet[] => {
      const everywhere = this.#everywhere(name);
      const found = [...this.#counts(name, without(name))].sort((a, b) => b[1] - a[1] || compare(a[0], b[0]));
      const chosen = filter.where[name] ?? [];
      const isRare = (value: string) =>
        everywhere.size > FEW && (everywhere.get(value) ?? 0) < RARE && !chosen.includes(value);
      const rare = found.filter(([value]) => isRare(value));
      const values = found
        .filter(([value]) => !isRare(value))
        .slice(0, limit)
        .map(([value, count]) => ({ value, count, display: this.#displays[name]?.[value] ?? "" }));
      const count = rare.reduce((sum, [, each]) => sum + each, 0);
      const other = rare.length ? { other: { values: rare.map(([value]) => value).sort(compare), count } } : {};
      return found.length ? [{ name, values, ...other } as Facet] : [];
    });
  }

  // Of all records: counted once.
  #everywhere(name: string): Map<string, number> {
    const counts = this.#all.get(name) ?? this.#counts(name, { where: {}, not: {}, exclude: new Set() });
    this.#all.set(name, counts);
    return counts;
  }

  /** Returns how many records carry a value of a facet. */
  countOf = (name: string, value: string): number => this.#everywhere(name).get(value) ?? 0;
  uses = (name: string): boolean => this.#everywhere(name).size > 0;
}

/** Returns half-precision numbers as float32. */
export function widened(file: ArrayBuffer): Float32Array {
  const halves = new Uint16Array(file);
  const table = new Float32Array(2 ** 16);
  for (let half = 0; half < table.length; half += 1) {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    table[half] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }
  return Float32Array.from(halves, (half) => table[half] ?? 0);
}

/** Returns the cosines of a unit vector with each row. */
export function cosines(rows: Float32Array, vector: Float32Array): Float32Array {
  const dimension = vector.length;
  const out = new Float32Array(rows.length / dimension);
  // Four sums side by side: each addition waits for the one before it.
  const whole = dimension - (dimension % 4);
  for (let row = 0, at = 0; row < out.length; row += 1) {
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    let k = 0;
    for (; k < whole; k += 4, at += 4) {
      a += (rows[at] as number) * (vector[k] as number);
      b += (rows[at + 1] as number) * (vector[k + 1] as number);
      c += (rows[at + 2] as number) * (vector[k + 2] as number);
      d += (rows[at + 3] as number) * (vector[k + 3] as number);
    }
    for (; k < dimension; k += 1, at += 1) a += (rows[at] as number) * (vector[k] as number);
    out[row] = a + b + (c + d);
  }
  return out;
}
