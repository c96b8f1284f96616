// A query's words, as the retriever reads them (mirage_retriever.words), and which records say them, by BM25.

import { Denials, type DenialTables } from "./denials";
import { Together, type TogetherTables } from "./matches";
import { clean, type Tables, type Token, Tokenizer } from "./tokens";

type Group = [string, [string, string[], boolean][]];

/** The head of the file of words; the postings follow it. */
export interface Head extends Tables {
  stems: string[];
  /** How many records use a word, and its stem. */
  forms: Record<string, [number, string]>;
  groups: Group[];
  stops: string[];
  listed: string[];
  closed: string[];
  labels: [string, string, string[]][];
  denials: DenialTables;
  together: TogetherTables;
}

export interface Way {
  stems: string[];
  adjacent: boolean;
}

/** Two things, by number, that belong together; a `name` is one of anatomy. */
export interface Pair {
  one: number;
  other: number;
  name: boolean;
}

interface Expression {
  text: string;
  stems: string[];
  oneWay: boolean;
}

export interface Unit {
  text: string;
  literal: Way[];
  others: Expression[];
  weights: number[];
  quoted: boolean;
  /** It follows the thing before as the next word of an expression. */
  joined: boolean;
}

export interface WordQuery {
  /** What is left for an encoder. */
  text: string;
  units: Unit[];
  without: Way[];
  corrected: { given: string; used: string }[];
}

const EXPANDED = 0.7;
const APART = 0.35;
const UNITS_MAX = 48;
const SHORTEST = 5;
const TWO_FROM = 9;
// "z = -32 mm" and "T-score -2.5" are numbers below zero, not words that must not be said.
const PARTS =
  /(?:(?<=\s)|^)(?<minus>-)?"(?<phrase>[^"]*)"|(?:(?<=\s)|^)-(?!\p{Nd}+(?:[.,]\p{Nd}+)?(?:[mc]m|ml|HU|hu)?(?![\p{L}\p{N}]))(?<without>[\p{L}\p{N}][^\s"]*)/gu;

const asOne = (stems: string[]): string => stems.join("_");
export const waysOf = (unit: Unit): Way[] => [
  ...unit.literal,
  ...unit.others.map(({ stems }) => ({ stems, adjacent: true })),
];

/** Words of the collection and lists of synonyms; the postings of each stem. */
export class Lexicon {
  readonly tokenizer: Tokenizer;
  readonly denials: Denials;
  readonly together: Together;
  readonly head: Head;
  readonly records: number;
  readonly #number: Map<string, number>;
  readonly #offsets: Uint32Array;
  readonly #places: Uint32Array;
  readonly #weights: Float32Array;
  readonly #groups = new Map<string, Expression[]>();
  readonly #keys = new Map<string, string[]>();
  readonly #listed: Set<string>;
  readonly #stops: Set<string>;
  readonly #known = new Set<string>();
  readonly #words: string[];
  readonly #stems = new Map<string, number>();
  #longest = 1;

  constructor(file: ArrayBuffer, records: number) {
    const length = new DataView(file).getUint32(0, true);
    this.head = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 4, length)));
    this.records = records;
    this.tokenizer = new Tokenizer(this.head);
    this.denials = new Denials(this.head.denials);
    this.together = new Together(this.head.together);
    this.#number = new Map(this.head.stems.map((stem, number) => [stem, number]));
    const count = this.head.stems.length + 1;
    this.#offsets = new Uint32Array(file, 4 + length, count);
    const postings = this.#offsets[count - 1] ?? 0;
    this.#places = new Uint32Array(file, 4 + length + 4 * count, postings);
    this.#weights = new Float32Array(file, 4 + length + 4 * (count + postings), postings);
    this.#listed = new Set(this.head.listed);
    this.#stops = new Set(this.head.stops);
    for (const [key, expressions] of this.head.groups) this.#add(key, expressions);
    this.#words = Object.keys(this.head.forms).filter((word) => /^\p{L}+$/u.test(word));
    for (const [word, [n, stem]] of Object.entries(this.head.forms)) {
      this.tokenizer.learn(word, stem);
      this.#stems.set(stem, (this.#stems.get(stem) ?? 0) + n);
    }
  }

  #add(key: string, expressions: [string, string[], boolean][]): void {
    this.#groups.set(
      key,
      expressions.map(([text, stems, oneWay]) => ({ text, stems, oneWay })),
    );
    for (const [, stems] of expressions) {
      const name = stems.join(" ");
      this.#keys.set(name, [...(this.#keys.get(name) ?? []), key]);
      this.#longest = Math.max(this.#longest, stems.length);
      for (const stem of stems) this.#known.add(stem);
    }
  }

  /** True if the collection has a word for everything that is asked. */
  knows = (query: WordQuery): boolean =>
    query.units.every((unit) =>
      waysOf(unit).some((way) => way.stems.every((stem) => this.#stems.has(this.denials.plain(stem)))),
    );

  isListed = (stems: string[]): boolean => stems.length > 1 && this.#listed.has(asOne(stems));

  /** Calls for each record that says a stem, with the weight that it has there. */
  each(stem: string, call: (place: number, weight: number) => void): void {
    const number = this.#number.get(stem);
    if (number === undefined) return;
    for (let at = this.#offsets[number] ?? 0; at < (this.#offsets[number + 1] ?? 0); at += 1)
      call(this.#places[at] ?? 0, this.#weights[at] ?? 0);
  }

  /** Returns by place 1 for each record that may say a way of every thing, else 0. */
  sayingAll(things: Way[][]): Uint8Array {
    const all = new Uint8Array(this.records).fill(1);
    for (const said of things.map((ways) => this.saying(ways)))
      for (let place = 0; place < all.length; place += 1) if (!said[place]) all[place] = 0;
    return all;
  }

  /** Returns how rare a stem is, as the engine counts it. */
  rarityOf(stem: string): number {
    const number = this.#number.get(stem) ?? -1;
    const count = number < 0 ? 0 : (this.#offsets[number + 1] ?? 0) - (this.#offsets[number] ?? 0);
    return Math.log((this.records - count + 0.5) / (count + 0.5) + 1);
  }

  #rarity(stems: string[]): number {
    if (!stems.every((stem) => this.#stems.has(stem))) return 0;
    const counts = stems.map((stem) => Math.min(this.#stems.get(stem) ?? 0, this.records));
    return Math.max(...counts.map((count) => Math.log((this.records - count + 0.5) / (count + 0.5) + 1)));
  }

  #others(stems: string[]): Expression[] {
    const found = new Map<string, Expression>();
    for (const key of this.#keys.get(stems.join(" ")) ?? [])
      for (const each of this.#groups.get(key) ?? []) {
        const name = each.stems.join(" ");
        if (!each.oneWay && name !== stems.join(" ") && !found.has(name)) found.set(name, each);
      }
    return [...found.values()];
  }

  /** Returns the units that belong together. */
  pairs = (query: WordQuery): Pair[] =>
    query.units.flatMap(({ joined, literal }, at) => {
      const name = literal[0]?.stems.every((stem) => this.together.named.has(stem)) ?? false;
      return joined ? [{ one: at - 1, other: at, name }] : [];
    });

  /** Returns facets and values that an expression names. */
  named = (stems: string[]): [string, string][] =>
    (this.#keys.get(stems.join(" ")) ?? []).flatMap((key): [string, string][] => {
      const cut = key.indexOf("=");
      return cut < 0 ? [] : [[key.slice(0, cut), key.slice(cut + 1)]];
    });

  /** Returns other expressions of the collection that are searched too. */
  expanded(query: WordQuery): { given: string; others: string[] }[] {
    return query.units
      .map((unit) => ({
        given: unit.text,
        others: unit.others
          .filter(
            ({ stems }) =>
              stems.every((stem) => this.#stems.has(stem)) &&
              !unit.literal.some((way) => way.stems.every((stem) => stems.includes(stem))),
          )
          .map(({ text }) => text),
      }))
      .filter(({ others }) => others.length);
  }

  /** Returns the words of a query as typed: words, "phrases", and -words without which it is meant. */
  read(given: string): WordQuery {
    const text = clean(given.replace(/[“”„‟«»]/g, '"'));
    const query: WordQuery = { text: "", units: [], without: [], corrected: [] };
    const shown: string[] = [];
    for (const [piece, kind] of pieces(text)) {
      if (kind === "plain") {
        shown.push(this.#plain(piece, query));
        continue;
      }
      const stems = this.tokenizer.stemsOf(piece);
      if (stems.length && kind === "without") query.without.push({ stems, adjacent: true });
      else if (kind === "phrase") shown.push(piece);
      if (stems.length && kind === "phrase")
        query.units.push({
          text: piece,
          literal: [{ stems, adjacent: true }],
          others: [],
          weights: [],
          quoted: true,
          joined: false,
        });
    }
    const seen = new Map<string, Unit>();
    let isAfter = false;
    for (const unit of query.units) {
      const word = unit.text.toLowerCase();
      const name = JSON.stringify(unit.literal);
      const isNew = !this.tokenizer.fillers.has(word) && !this.#stops.has(word) && !seen.has(name);
      if (isNew) seen.set(name, { ...unit, joined: unit.joined && isAfter });
      isAfter = isNew;
    }
    query.units = [...seen.values()].slice(0, UNITS_MAX);
    query.text = shown.join(" ").split(/\s+/).filter(Boolean).join(" ");
    return query;
  }

  // Adds the units of plain words; returns the text with corrections.
  #plain(piece: string, query: WordQuery): string {
    let text = piece.replaceAll('"', " ");
    const found = this.tokenizer.tokens(text);
    const corrected: WordQuery["corrected"] = [];
    for (const token of this.#words.length ? [...found].reverse() : []) {
      const { word, stem, start, end } = token;
      const known = this.#stems.has(stem) || this.#known.has(stem) || this.tokenizer.fillers.has(word);
      const used = token.compound || known ? null : this.#meant(word);
      if (used === null) continue;
      corrected.unshift({ given: text.slice(start, end), used });
      text = text.slice(0, start) + used + text.slice(end);
    }
    query.corrected.push(...corrected);
    this.#divide(text, corrected.length ? this.tokenizer.tokens(text) : found, query);
    return text;
  }

  // Divides words into units: the longest expressions that the lists know, compounds, and single words.
  #divide(text: string, found: Token[], query: WordQuery): void {
    const words = found.filter(({ compound }) => !compound);
    const compounds = new Map(found.filter(({ compound }) => compound).map((each) => [each.position, each]));
    const denied = this.denials.starts(text);
    for (let start = 0; start < words.length; ) {
      let length = this.#longestFrom(words, start);
      const first = words[start] as Token;
      const isEmpty = denied.has(first.start) && this.denials.isEmpty(first.word);
      if (denied.size && length === 1 && (isEmpty || this.denials.isNegator(first.word))) {
        start += 1;
        continue;
      }
      let last = words[start + length - 1] as Token;
      let stems = words.slice(start, start + length).map(({ stem }) => stem);
      const compound = compounds.get(first.position);
      const second = words[start + 1];
      if (length === 1 && compound && second && compound.end === second.end) {
        length = 2;
        last = second;
        stems = [first.stem, second.stem];
      }
      const literal: Way[] =
        compound && compound.end <= last.end && length === 2
          ? [
              { stems: [compound.stem], adjacent: false },
              { stems, adjacent: true },
            ]
          : [{ stems, adjacent: false }];
      const before = words[start - 1];
      const joined = before !== undefined && this.together.follow(text, before, first);
      const unit = this.#unit(text.slice(first.start, last.end), literal);
      query.units.push({ ...(denied.has(first.start) ? this.#denied(unit) : unit), joined });
      start += length;
    }
  }

  // The unit of something that is not there.
  #denied(unit: Unit): Unit {
    const denied = <T extends { stems: string[] }>(each: T): T => ({
      ...each,
      stems: each.stems.map(this.denials.stem),
    });
    return { ...unit, literal: unit.literal.map(denied), others: unit.others.map(denied) };
  }

  #unit(text: string, literal: Way[]): Unit {
    const own = new Set(literal.map(({ stems }) => stems.join(" ")));
    const others = new Map<string, Expression>();
    for (const way of literal)
      for (const other of this.#others(way.stems)) {
        const name = other.stems.join(" ");
        if (!own.has(name) && !others.has(name)) others.set(name, other);
      }
    const typed = Math.max(...literal.map((way) => this.#rarity(way.stems)));
    const weights = [...others.values()].map(({ stems }) => {
      const rarity = this.#rarity(stems);
      return EXPANDED * (typed && rarity ? Math.min(1, typed / rarity) : 1);
    });
    return { text, literal, others: [...others.values()], weights, quoted: false, joined: false };
  }

  #longestFrom(words: Token[], start: number): number {
    for (let length = Math.min(this.#longest, words.length - start); length > 1; length -= 1) {
      const stems = words.slice(start, start + length).map(({ stem }) => stem);
      if (this.#keys.has(stems.join(" "))) return length;
    }
    return 1;
  }

  // The word of the collection that a misspelt one was meant to be; null if none is near.
  #meant(word: string): string | null {
    if (word.length < SHORTEST || !/^\p{L}+$/u.test(word)) return null;
    const limit = word.length >= TWO_FROM ? 2 : 1;
    const best = new Map<string, [number, number, string]>();
    for (const other of this.#words) {
      if (Math.abs(other.length - word.length) > limit) continue;
      const distance = edits(word, other);
      if (distance > limit) continue;
      if (other[0] !== word[0] && (distance > 1 || word.length < TWO_FROM - 2)) continue;
      const rank: [number, number, string] = [distance, -(this.head.forms[other]?.[0] ?? 0), other];
      const stem = this.tokenizer.stem(other);
      const before = best.get(stem);
      if (!before || compareRanks(rank, before) < 0) best.set(stem, rank);
    }
    return [...best.values()].sort(compareRanks)[0]?.[2] ?? null;
  }

  // The words by which a record may be known to say it: more may say them than say it, none less.
  #idsOf = (way: Way): string[] => (way.adjacent && this.isListed(way.stems) ? [asOne(way.stems)] : way.stems);

  /** Returns by place 1 for each record that may say one of the ways, else 0. */
  saying(ways: Way[]): Uint8Array {
    const said = new Uint8Array(this.records);
    for (const way of ways) {
      const stems = new Set(this.#idsOf(way));
      const found = new Uint8Array(this.records);
      let wanted = 0;
      for (const stem of stems) {
        this.each(stem, (place) => {
          if (found[place] === wanted) found[place] = wanted + 1;
        });
        wanted += 1;
      }
      for (let place = 0; place < found.length; place += 1) if (found[place] === wanted) said[place] = 1;
    }
    return said;
  }

  /** Returns the query as stems with weights. */
  weightsOf(query: WordQuery): Map<string, number> {
    const found = new Map<string, number>();
    const heavier = (stem: string, weight: number) => found.set(stem, Math.max(weight, found.get(stem) ?? 0));
    const weigh = (stems: string[], given: number, apart: number) => {
      let weight = given;
      if (this.isListed(stems)) {
        heavier(asOne(stems), weight);
        weight *= apart;
      }
      if (weight) for (const stem of stems) heavier(stem, weight);
    };
    for (const unit of query.units) {
      for (const way of unit.literal) weigh(way.stems, 1, APART);
      unit.others.forEach(({ stems }, at) => {
        weigh(stems, unit.weights[at] ?? 0, 0);
      });
    }
    return found;
  }
}

const compareRanks = (a: [number, number, string], b: [number, number, string]): number =>
  a[0] - b[0] || a[1] - b[1] || (a[2] < b[2] ? -1 : 1);

function* pieces(text: string): Generator<[string, "plain" | "without" | "phrase"]> {
  let start = 0;
  for (const match of text.matchAll(PARTS)) {
    const groups = match.groups ?? {};
    if (match.index > start) yield [text.slice(start, match.index), "plain"];
    if (groups.without !== undefined) yield [groups.without, "without"];
    else yield [groups.phrase ?? "", groups.minus ? "without" : "phrase"];
    start = match.index + match[0].length;
  }
  if (start < text.length) yield [text.slice(start), "plain"];
}

// Letters too many, too few, another, or two swapped.
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1);
      next.push(least);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
