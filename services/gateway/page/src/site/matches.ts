// The places where a record says what was asked for, as mirage_retriever.words.matches finds them.

import type { StoredRecord } from "../api";
import type { Token, Tokenizer } from "./tokens";
import { type Unit, type Way, type WordQuery, waysOf } from "./words";

export type Spans = Record<string, [number, number][]>;

const PART = /(?=[A-Za-z]*\d)[A-Za-z\d]{3,}/g;
const PMC = /\bPMC\d{3,}\b/gi;

/** Yields the searched texts of a record with their paths. Of ids and the source only what is a number is searched. */
export function* texts(record: StoredRecord): Generator<[string, string]> {
  for (const name of ["title", "caption", "findings", "impression", "history"] as const)
    if (record[name]) yield [name, record[name] ?? ""];
  for (const [at, keyword] of (record.keywords ?? []).entries()) yield [`keywords.${at}`, keyword];
  for (const [name, values] of Object.entries(record.labels))
    for (const [at, value] of values.entries()) yield [`labels.${name}.${at}`, value];
  for (const [name, form] of [
    ["id", PART],
    ["case_id", PART],
    ["source", PMC],
  ] as const) {
    const text = record[name] ?? "";
    const kept = [...text.matchAll(form)];
    if (!kept.length) continue;
    const blank = Array.from({ length: text.length }, () => " ");
    for (const match of kept) blank.splice(match.index, match[0].length, ...match[0].split(""));
    yield [name, blank.join("")];
  }
}

export interface Matched {
  spans: Spans;
  said: boolean[];
  strongly: boolean[];
}

/** Looks for each thing, which is said where any of its ways is; `strongly` is outside of the history. */
export function find(tokenizer: Tokenizer, record: StoredRecord, things: Way[][]): Matched {
  const stems = new Set(things.flat().flatMap((way) => way.stems));
  const there = new Map<string, Token[]>();
  const lengths = new Map<string, string>();
  for (const [path, text] of texts(record)) {
    const found = tokenizer.tokens(text).filter(({ stem }) => stems.has(stem));
    if (found.length) there.set(path, found);
    lengths.set(path, text);
  }
  const within = (paths: (path: string) => boolean) =>
    new Set([...there].filter(([path]) => paths(path)).flatMap(([, found]) => found.map(({ stem }) => stem)));
  const everywhere = within(() => true);
  const outside = within((path) => path !== "history");
  const marked = new Map<string, [number, number][]>();
  const mark = (path: string, places: [number, number][]) => marked.set(path, [...(marked.get(path) ?? []), ...places]);
  const said: boolean[] = [];
  const strongly: boolean[] = [];
  for (const ways of things) {
    let [is, strong] = [false, false];
    for (const way of ways) {
      const loose = !way.adjacent || way.stems.length === 1;
      if (loose) {
        is ||= way.stems.every((stem) => everywhere.has(stem));
        strong ||= way.stems.every((stem) => outside.has(stem));
      }
      for (const [path, found] of there) {
        const places = loose
          ? found.filter(({ stem }) => way.stems.includes(stem)).map(({ start, end }): [number, number] => [start, end])
          : adjacent(found, way.stems);
        if (!places.length) continue;
        mark(path, places);
        if (loose) continue;
        is = true;
        strong ||= path !== "history";
      }
    }
    said.push(is);
    strongly.push(strong);
  }
  const spans = Object.fromEntries(
    [...marked].map(([path, places]) => [path, merged(places, lengths.get(path) ?? "")]),
  );
  return { spans, said, strongly };
}

function adjacent(found: Token[], stems: string[]): [number, number][] {
  const at = new Map(found.map((token) => [`${token.position} ${token.stem}`, token]));
  return found.flatMap((first): [number, number][] => {
    if (first.stem !== stems[0]) return [];
    const rest = stems.map((stem, number) => at.get(`${first.position + number} ${stem}`));
    const last = rest.at(-1);
    return rest.every(Boolean) && last ? [[first.start, last.end]] : [];
  });
}

// In characters, as the page marks them.
function merged(places: [number, number][], text: string): [number, number][] {
  const result: [number, number][] = [];
  for (const [start, end] of [...places].sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    const last = result.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else result.push([start, end]);
  }
  const characters = (at: number) => [...text.slice(0, at)].length;
  return /[\ud800-\udfff]/.test(text) ? result.map(([start, end]) => [characters(start), characters(end)]) : result;
}

const PLACES = [
  ["left", "right"],
  ["upper", "middle", "lower"],
  ["superior", "inferior"],
  ["anterior", "posterior"],
];

/** Returns the structures whose names say something that is asked for, those only that say the most of it. */
export function namedRegions(
  tokenizer: Tokenizer,
  regions: NonNullable<StoredRecord["regions"]>,
  query: WordQuery | null,
): NonNullable<StoredRecord["regions"]> {
  const groups = PLACES.map((words) => new Set(words.map((word) => tokenizer.stem(word))));
  const all = new Set(groups.flatMap((group) => [...group]));
  const isPlace = (unit: Unit) => unit.literal.every((way) => way.stems.every((stem) => all.has(stem)));
  const units = query ? query.units.filter((unit) => !isPlace(unit)) : [];
  if (!query || !units.length || !regions.length) return [];
  const asked = new Set(query.units.flatMap((unit) => waysOf(unit).flatMap((way) => way.stems)));
  const whole = (name: Set<string>, stems: string[]) =>
    [...name].every((stem) => all.has(stem) || stems.includes(stem));
  const says = (name: Set<string>, { literal, others }: Unit) =>
    literal.some(({ stems }) => stems.every((stem) => name.has(stem))) ||
    others.some(({ stems }) => stems.every((stem) => name.has(stem)) && whole(name, stems));
  const found = regions.flatMap((region) => {
    const name = new Set(tokenizer.tokens(region.name).map(({ stem }) => stem));
    const other = groups.some((group) => {
      const [wanted, has] = [asked, name].map((stems) => [...group].filter((stem) => stems.has(stem)));
      return wanted?.length && has?.length && !has.some((stem) => wanted.includes(stem));
    });
    const said = units.flatMap((unit, at) => (says(name, unit) ? [at] : []));
    return other || !said.length ? [] : [{ region, said }];
  });
  const less = (a: number[], b: number[]) => a.length < b.length && a.every((each) => b.includes(each));
  return found.filter(({ said }) => !found.some((other) => less(said, other.said))).map(({ region }) => region);
}
