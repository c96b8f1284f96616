// The places where a record says what was asked for, as mirage_retriever.words.matches finds them.

import type { StoredRecord } from "../api";
import type { Token, Tokenizer } from "./tokens";
import { type Lexicon, type Pair, type Unit, type Way, type WordQuery, waysOf } from "./words";

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
  apart: Pair[];
}

/** The words of a text that are asked for; `whole` if it has no others, `denied` are the starts of words for what is not there. */
interface Said {
  text: string;
  found: Token[];
  whole: boolean;
  denied: Set<number>;
}

/** The first and last words of the places that say something. */
type Places = [Token, Token][];

/**
 * Looks for each thing, which is said where any of its ways is; `strongly` outside of the history, expressions as a whole. `apart`
 * are pairs of things that belong together and never stand so.
 */
export function find(lexicon: Lexicon, record: StoredRecord, things: Way[][], pairs: Pair[] = []): Matched {
  const { tokenizer, denials, together } = lexicon;
  const stems = new Set(things.flat().flatMap((way) => way.stems));
  const there = new Map<string, Said>();
  for (const [path, text] of texts(record)) {
    const words = tokenizer.tokens(text);
    const denied = denials.starts(text);
    const absent = words.filter(({ start }) => denied.has(start));
    const all = [...words, ...absent.map((token) => ({ ...token, stem: denials.stem(token.stem) }))];
    const found = all.filter(({ stem }) => stems.has(stem));
    if (!found.length) continue;
    const whole = words.every(({ compound, stem }) => compound || stems.has(stem));
    there.set(path, { text, found, whole, denied });
  }
  const everywhere = new Set([...there.values()].flatMap(({ found }) => found.map(({ stem }) => stem)));
  const marked = new Map<string, [number, number][]>();
  const mark = (path: string, places: [number, number][]) => marked.set(path, [...(marked.get(path) ?? []), ...places]);
  const said: boolean[] = [];
  const strong: Map<string, Places>[] = [];
  for (const ways of things) {
    const thing = new Map<string, Places>();
    let is = false;
    for (const way of ways) {
      const anywhere = !way.adjacent || way.stems.length === 1;
      is ||= anywhere && way.stems.every((stem) => everywhere.has(stem));
      for (const [path, each] of there) {
        const places = way.adjacent ? together.adjacent(each, way.stems) : together.together(each, way.stems);
        is ||= places.length > 0;
        const marks = anywhere
          ? each.found
              .filter(({ stem }) => way.stems.includes(stem))
              .map(({ start, end }): [number, number] => [start, end])
          : places.map(([first, last]): [number, number] => [first.start, last.end]);
        if (marks.length) mark(path, marks);
        const present = places.filter(([{ start, stem }]) => !each.denied.has(start) || denials.isDenied(stem));
        if (path !== "history" && present.length) thing.set(path, [...(thing.get(path) ?? []), ...present]);
      }
    }
    said.push(is);
    strong.push(thing);
  }
  const apart = pairs.filter(({ one, other, name }) => {
    const [first, second] = [strong[one], strong[other]];
    return first?.size && second?.size && !together.belong(there, first, second, name);
  });
  const spans = Object.fromEntries(
    [...marked].map(([path, places]) => [path, merged(places, there.get(path)?.text ?? "")]),
  );
  return { spans, said, strongly: strong.map(({ size }) => size > 0), apart };
}

export interface TogetherTables {
  near: number;
  named: string[];
  sentence_end: string;
  coordinated: string;
  of: string;
  inverted: string;
  end: string;
  apart_by: string;
}

// JavaScript's \b knows ASCII only.
const LETTER = "[\\p{L}\\p{N}_]";
const EDGE = `(?:(?<!${LETTER})(?=${LETTER})|(?<=${LETTER})(?!${LETTER}))`;
const pattern = (source: string, before = "", after = "") =>
  new RegExp(`${before}(?:${source.replaceAll("\\b", EDGE)})${after}`, "iu");

/** Says if words stand as one expression. */
export class Together {
  readonly named: Set<string>;
  readonly #near: number;
  readonly #sentenceEnd: RegExp;
  readonly #coordinated: RegExp;
  readonly #of: RegExp;
  readonly #inverted: RegExp;
  readonly #end: RegExp;
  readonly #apartBy: RegExp;

  constructor(tables: TogetherTables) {
    this.named = new Set(tables.named);
    this.#near = tables.near;
    this.#sentenceEnd = pattern(tables.sentence_end);
    this.#coordinated = pattern(tables.coordinated, "^", "$");
    this.#of = pattern(tables.of, "^", "$");
    this.#inverted = pattern(tables.inverted, "^", "$");
    this.#end = pattern(tables.end, "^");
    this.#apartBy = pattern(tables.apart_by);
  }

  /** True if two words of a query follow each other as those of one expression. */
  follow = (text: string, first: Token, next: Token): boolean => !this.#apartBy.test(text.slice(first.end, next.start));

  /** Returns the places that say the stems one after the other, in one sentence. */
  adjacent({ text, found }: Said, stems: string[]): Places {
    const at = new Map(found.map((token) => [`${token.position} ${token.stem}`, token]));
    return [...at.values()].flatMap((first): Places => {
      if (first.stem !== stems[0]) return [];
      const rest = stems.map((stem, number) => at.get(`${first.position + number} ${stem}`));
      const last = rest.at(-1);
      return rest.every(Boolean) && last && this.#inOneSentence(text, first, last) ? [[first, last]] : [];
    });
  }

  /** Returns the places that say the stems as one expression, also in another order: "abscess of the brain". */
  together(said: Said, stems: string[]): Places {
    const { text, found } = said;
    const places = this.adjacent(said, stems);
    if (stems.length === 2) {
      for (const one of found.filter(({ stem }) => stem === stems[0]))
        for (const other of found.filter(({ stem }) => stem === stems[1]))
          if (this.#isExpression(text, one, other)) places.push(one.start <= other.start ? [one, other] : [other, one]);
    } else if (stems.length > 2)
      for (const [number, first] of found.entries()) {
        const near = found
          .slice(number)
          .filter(
            (token) =>
              token.position - first.position < stems.length + this.#near && this.#inOneSentence(text, first, token),
          );
        const last = near.at(-1);
        const all = stems.every((stem) => near.some((token) => token.stem === stem));
        if (stems.includes(first.stem) && last && all) places.push([first, last]);
      }
    return places;
  }

  #isExpression(text: string, one: Token, other: Token): boolean {
    if (one.start < other.start) {
      const skips = !this.named.has(other.stem) && other.position - one.position === 2;
      if (skips && this.#inOneSentence(text, one, other)) return true;
      return this.#coordinated.test(text.slice(one.end, other.start));
    }
    const between = text.slice(other.end, one.start);
    return this.#of.test(between) || (this.#inverted.test(between) && this.#end.test(text.slice(one.end)));
  }

  /** True if two things stand near each other in a sentence, or one is a whole text; those of a name stand as an expression. */
  belong(there: Map<string, Said>, one: Map<string, Places>, other: Map<string, Places>, isName: boolean): boolean {
    if (!isName && [...one.keys(), ...other.keys()].some((path) => there.get(path)?.whole)) return true;
    return [...one].some(([path, places]) => {
      const text = there.get(path)?.text ?? "";
      return places.some(([first, last]) =>
        (other.get(path) ?? []).some(([second, end]) => {
          if (isName) {
            const follows = last.position + 1 === second.position && this.#inOneSentence(text, last, second);
            return follows || this.#isExpression(text, last, second);
          }
          const between = Math.max(first.position, second.position) - Math.min(last.position, end.position) - 1;
          const [before, after] = first.start <= second.start ? [first, second] : [second, first];
          return between <= this.#near && this.#inOneSentence(text, before, after);
        }),
      );
    });
  }

  readonly #inOneSentence = (text: string, first: Token, last: Token): boolean =>
    !this.#sentenceEnd.test(text.slice(first.end, Math.max(first.end, last.start)));
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
