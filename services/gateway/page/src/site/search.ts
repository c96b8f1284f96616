// Searches of a site, as mirage_retriever.search answers them.

import type { CompareReply, SearchReply, StoredRecord } from "../api";
import { type Among, type Atlas, cosines, filterOf } from "./atlas";
import type { EncodedText } from "./encoder";
import { Failure } from "./failure";
import { find, namedRegions, type Spans } from "./matches";
import { type Lexicon, type Way, type WordQuery, waysOf } from "./words";

type Kind = "text" | "image" | "arithmetic" | "caption";
type Match = "good" | "weak" | "none" | null;

export interface Calibration {
  trusted: boolean;
  good: number | null;
  weak: number | null;
}

export interface Term {
  text?: string;
  image?: string;
  id?: string;
  weight?: number;
}

export interface Body extends Term {
  terms?: Term[];
  mode?: "hybrid" | "words" | "images" | "captions";
  vectors?: "image" | "caption" | "fused";
  k?: number;
  where?: Record<string, string | string[]>;
  not?: Record<string, string | string[]>;
  min_score?: number | null;
  group_by?: "none" | "case";
  order?: string;
  seed?: number | string;
  page_token?: string;
  exclude?: string[];
}

export interface CompareBody extends Body {
  a?: Body;
  b?: Body;
  minus?: string | string[];
  plus?: string | string[];
}

/** One of the server's answers: place, score, cosine, section and places of words of each result. */
type Result = [number, number, number | null, "words" | "likeness" | undefined, Spans];

export interface Answer {
  results: Result[];
  /** The first of each case, and if these are all. */
  cases: Result[] | null;
  all_cases: boolean;
  match: Match;
  query: SearchReply["query"];
  words: SearchReply["words"];
}

/** What searches need; each part is downloaded when it is first asked for. */
export interface Parts {
  atlas: Atlas;
  fingerprint: string;
  kinds: Record<string, Calibration>;
  lexicon(): Promise<Lexicon>;
  vectors(space: "image" | "caption"): Promise<Float32Array>;
  text(text: string): Promise<EncodedText>;
  image(base64: string): Promise<Float32Array>;
  answers(): Promise<Record<string, Answer>>;
}

interface Resolved {
  label: string;
  weight: number;
  vector: Float32Array;
  tokens: number;
  truncated: boolean;
}

interface Combination {
  vector: Float32Array;
  shift: number;
  shares: number[];
}

interface Found {
  place: number;
  score: number;
  cosine: number | null;
  tier: 0 | 1 | 2;
  matched?: Spans;
  said: number;
}

interface Asked {
  body: Body;
  among: Among;
  terms: (Term & { weight: number })[];
  k: number;
  offset: number;
  byCase: boolean;
  mode: "hybrid" | "words" | "images" | "captions" | "fused";
}

const K_MAX = 100;
const TERMS_MAX = 16;
const TEXT_CHARS = 2000;
const FUSION_DEPTH = 200;
const FUSION_K = 60;
const FIRST = 5;
const CANCELS_BELOW = 1e-3;
const MODES = { image: "images", caption: "captions", fused: "fused" } as const;

function checked(body: Body): Asked {
  const own: Term[] = (["text", "image", "id"] as const).flatMap((name) =>
    body[name] ? [{ [name]: body[name] }] : [],
  );
  const terms = [...own, ...(body.terms ?? [])].map((term) => ({ ...term, weight: term.weight ?? 1 }));
  if (terms.length > TERMS_MAX) throw new Failure("TOO_MANY_TERMS", { max: TERMS_MAX, given: terms.length });
  for (const { text, image, id, weight } of terms) {
    if (!image && !id && !text?.trim()) throw new Failure("TERM_EMPTY");
    const length = [...(text ?? "")].length;
    if (length > TEXT_CHARS) throw new Failure("TEXT_TOO_LONG", { max: TEXT_CHARS, given: length });
    if (!Number.isFinite(weight)) throw new Failure("WEIGHT_NOT_FINITE");
  }
  if (terms.length && !terms.some(({ weight }) => weight)) throw new Failure("WEIGHTS_ALL_ZERO");
  const k = body.k ?? 10;
  if (!(k >= 1 && k <= K_MAX)) throw new Failure("K_OUT_OF_RANGE", { field: "k", min: 1, max: K_MAX, given: k });
  const token = body.page_token ?? "";
  if (token && !/^\d{1,6}$/.test(token)) throw new Failure("PAGE_TOKEN_INVALID");
  return {
    body,
    terms,
    k,
    offset: Number(token),
    among: { where: filterOf(body.where), not: filterOf(body.not), exclude: new Set(body.exclude) },
    byCase: body.group_by === "case",
    mode: body.vectors ? MODES[body.vectors] : (body.mode ?? "hybrid"),
  };
}

const normal = (text: string): string => text.toLowerCase().split(/\s+/).filter(Boolean).join(" ");

const textOf = ({ terms }: Asked): string | null => {
  const [first, ...others] = terms;
  return first?.text !== undefined && !others.length && first.weight === 1 ? first.text : null;
};

function kindOf({ terms, mode }: Asked): Kind {
  if (mode === "captions") return "caption";
  const counted = terms.filter(({ weight }) => weight);
  if (counted.length !== 1) return "arithmetic";
  return counted[0]?.text === undefined ? "image" : "text";
}

/** Returns the weighted sum of unit vectors, normalised; raises QUERY_CANCELS_OUT. */
export function combine(terms: { vector: Float32Array; weight: number }[]): Combination {
  const largest = Math.max(...terms.map(({ weight }) => Math.abs(weight)));
  const weights = terms.map(({ weight }) => weight / largest);
  const total = new Float64Array(terms[0]?.vector.length ?? 0);
  terms.forEach(({ vector }, number) => {
    for (let at = 0; at < total.length; at += 1)
      total[at] = (total[at] ?? 0) + (weights[number] ?? 0) * (vector[at] ?? 0);
  });
  const length = Math.hypot(...total);
  if (length < CANCELS_BELOW * weights.reduce((sum, weight) => sum + Math.abs(weight), 0))
    throw new Failure("QUERY_CANCELS_OUT");
  const query = total.map((component) => component / length);
  const found = terms.map(({ vector }) => vector.reduce((sum, component, at) => sum + component * (query[at] ?? 0), 0));
  return {
    vector: Float32Array.from(query),
    shift: Math.max(-1, Math.min(1, found[0] ?? 0)),
    shares: found.map((cosine, number) => ((weights[number] ?? 0) * cosine) / length),
  };
}

export class Search {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async search(body: Body): Promise<SearchReply> {
    return (await this.#answer(body)).reply;
  }

  async #answer(body: Body): Promise<{ reply: SearchReply; vector: Float32Array | null }> {
    const started = performance.now();
    const asked = checked(body);
    if (!asked.terms.length) return { reply: this.#list(asked), vector: null };
    const known = await this.#known(asked);
    if (known) return { reply: known, vector: null };
    const text = textOf(asked);
    const isWords = text !== null && (asked.mode === "hybrid" || asked.mode === "words");
    if (asked.mode === "words" && !isWords)
      throw new Failure("REQUEST_MALFORMED", { field: "mode: words takes one text" });
    if (isWords) return this.#byWords(asked, text, started);
    const terms = await this.#resolve(asked);
    const combination = combine(terms);
    const reply = await this.#reply(asked, await this.#ranked(asked, combination.vector), {
      terms,
      combination,
      started,
    });
    return { reply, vector: combination.vector };
  }

  async compare(body: CompareBody): Promise<CompareReply> {
    const cosine = (a: Float32Array, b: Float32Array) => Math.max(-1, Math.min(1, cosines(a, b)[0] ?? 0));
    if (body.a && body.b) {
      const [first, second] = [await this.#answer(body.a), await this.#answer(body.b)];
      const shift = first.vector && second.vector ? cosine(first.vector, second.vector) : 0;
      return { base: first.reply, shifted: second.reply, shift };
    }
    const { minus, plus, terms: more, ...base } = body;
    const phrases = (given: string | string[] | undefined, weight: number) =>
      [given ?? []].flat().map((text) => ({ text, weight }));
    const terms = [...phrases(minus, -1), ...phrases(plus, 1), ...(more ?? [])];
    if (!terms.length) throw new Failure("REQUEST_MALFORMED", { field: "minus, plus" });
    const mode = { vectors: body.vectors ?? (body.mode === "captions" ? ("caption" as const) : ("image" as const)) };
    const { mode: _, ...rest } = base;
    const first = await this.#answer({ ...rest, ...mode });
    const second = await this.#answer({ ...rest, ...mode, terms });
    if (!first.vector || !second.vector) throw new Failure("EMPTY_QUERY");
    return { base: first.reply, shifted: second.reply, shift: cosine(first.vector, second.vector) };
  }

  /** Returns the nearest to a record, from the neighbours that the export found: before the vectors are there. */
  neighbours(id: string, near: [number, number][], body: Body): Promise<SearchReply> {
    const asked = checked({ ...body, id, vectors: "image", exclude: [id] });
    const found = near
      .filter(([place]) => this.#parts.atlas.passes(place, asked.among))
      .map(([place, score]): Found => ({ place, score, cosine: score, tier: 2, said: 0 }));
    return this.#reply(asked, found, { terms: [], combination: null, started: performance.now() });
  }

  #list({ body, among, k, offset, byCase }: Asked): SearchReply {
    const { atlas } = this.#parts;
    const seed = Number(body.seed ?? 0);
    const places = atlas.ordered(among, body.order ?? "newest", seed);
    const shown = byCase ? firsts(places, (place) => atlas.at(place).case_id) : places;
    const page = shown.slice(offset, offset + k);
    return {
      results: page.map((place) => ({
        ...shownRecord(atlas.at(place)),
        score: 0,
        cosine: null,
        ...this.#caseOf(place, among, byCase),
      })),
      match: null,
      query: { tokens: 0, truncated: false, shift: 1, terms: [] },
      total: places.length,
      fingerprint: this.#parts.fingerprint,
      next_page_token: offset + k < shown.length ? String(offset + k) : "",
    } as unknown as SearchReply;
  }

  #caseOf(place: number, among: Among, byCase: boolean): { case?: { id: string; images: number } } {
    if (!byCase) return {};
    const id = this.#parts.atlas.at(place).case_id ?? "";
    return { case: { id, images: id ? this.#parts.atlas.imagesOf(id, among) : 1 } };
  }

  // The server's own answer to a common query, if the page that is wanted is in it.
  async #known(asked: Asked): Promise<SearchReply | null> {
    const text = textOf(asked);
    const { where, not, exclude } = asked.among;
    const plain = !Object.keys(where).length && !Object.keys(not).length && !exclude.size;
    const min = asked.body.min_score;
    if (text === null || asked.mode !== "hybrid" || !plain || (min !== undefined && min !== null)) return null;
    const answers = await this.#parts.answers();
    const name = Object.keys(answers).find((each) => normal(each) === normal(text));
    const answer = name === undefined ? undefined : answers[name];
    if (!answer) return null;
    const { atlas } = this.#parts;
    const { kept, whole } = this.#kept(answer, asked.byCase);
    if (!whole && kept.length <= asked.offset + asked.k) return null;
    const results = kept
      .slice(asked.offset, asked.offset + asked.k)
      .map(([place, score, cosine, section, matched]) => ({
        ...shownRecord(atlas.at(place)),
        score,
        cosine,
        ...(section ? { section, matched } : {}),
        ...this.#caseOf(place, asked.among, asked.byCase),
      }));
    return {
      ...answer,
      results,
      timings: { queue_ms: 0, inference_ms: 0, search_ms: 0, total_ms: 0, cached: true },
      fingerprint: this.#parts.fingerprint,
      next_page_token: kept.length > asked.offset + asked.k ? String(asked.offset + asked.k) : "",
    } as unknown as SearchReply;
  }

  // The results of a common query that are known, and if there are no more.
  #kept({ results, cases, all_cases }: Answer, byCase: boolean): { kept: Result[]; whole: boolean } {
    const { atlas } = this.#parts;
    const all = results.length >= atlas.records.length;
    if (!byCase) return { kept: results, whole: all };
    if (cases) return { kept: cases, whole: all_cases };
    return { kept: firsts(results, ([place]) => atlas.at(place).case_id), whole: all };
  }

  async #resolve({ terms, mode }: Asked): Promise<Resolved[]> {
    const found: Resolved[] = [];
    for (const { text, image, id, weight } of terms) {
      const plain = { weight, tokens: 0, truncated: false };
      if (text !== undefined) found.push({ label: text, weight, ...(await this.#parts.text(text)) });
      else if (image !== undefined) found.push({ label: "image", ...plain, vector: await this.#parts.image(image) });
      else {
        const place = this.#parts.atlas.placeOf(id ?? "");
        const rows = await this.#parts.vectors(mode === "captions" ? "caption" : "image");
        const dimension = rows.length / this.#parts.atlas.records.length;
        found.push({ label: id ?? "", ...plain, vector: rows.slice(place * dimension, (place + 1) * dimension) });
      }
    }
    return found;
  }

  async #ranked(asked: Asked, vector: Float32Array): Promise<Found[]> {
    const { atlas } = this.#parts;
    const rank = async (space: "image" | "caption") => {
      const scores = cosines(await this.#parts.vectors(space), vector);
      const places = atlas.among(asked.among).map((place): Found => {
        const score = scores[place] ?? 0;
        return { place, score, cosine: score, tier: 2, said: 0 };
      });
      return places.sort(this.#order);
    };
    const min = asked.body.min_score ?? -2;
    if (asked.mode !== "fused")
      return (await rank(asked.mode === "captions" ? "caption" : "image")).filter(({ score }) => score >= min);
    const [images, captions] = [await rank("image"), await rank("caption")];
    const fused = new Map<number, number>();
    for (const list of [images, captions])
      list.slice(0, FUSION_DEPTH).forEach(({ place }, at) => {
        fused.set(place, (fused.get(place) ?? 0) + 1 / (FUSION_K + at + 1));
      });
    return images
      .filter(({ place, score }) => fused.has(place) && score >= min)
      .map((each) => ({ ...each, score: fused.get(each.place) ?? 0 }))
      .sort(this.#order);
  }

  readonly #order = (a: Found, b: Found): number => {
    if (a.score !== b.score) return b.score - a.score;
    return this.#parts.atlas.at(a.place).id < this.#parts.atlas.at(b.place).id ? -1 : 1;
  };

  async #byWords(given: Asked, text: string, started: number) {
    const lexicon = await this.#parts.lexicon();
    const words = lexicon.read(text);
    if (!words.text) throw new Failure("TERM_EMPTY");
    const encoded = given.mode === "hybrid" ? await this.#parts.text(words.text).catch(withoutModel) : null;
    const asked: Asked = encoded ? given : { ...given, mode: "words" };
    const terms: Resolved[] = encoded ? [{ label: text, weight: 1, ...encoded }] : [];
    const combination = encoded && combine(terms);
    const scores = combination ? cosines(await this.#parts.vectors("image"), combination.vector) : null;
    const found = this.#tiers(asked, lexicon, words, scores);
    const named = this.#named(text, lexicon, words);
    if (named !== null) {
      const rest = found.filter(({ place }) => place !== named);
      found.splice(
        0,
        found.length,
        { place: named, score: 1e6, cosine: scores?.[named] ?? null, tier: 0, said: 1 },
        ...rest,
      );
    }
    const reply = await this.#reply(asked, found, { terms, combination, started, words, lexicon, named });
    return { reply, vector: combination?.vector ?? null };
  }

  // The record whose id the text is, if it is more than a word.
  #named(text: string, lexicon: Lexicon, words: WordQuery): number | null {
    return lexicon.knows(words) ? null : (this.#parts.atlas.find(text.trim()) ?? null);
  }

  // Records that say everything, then those that say some of it if likeness says nothing, then those that look like it.
  #tiers(asked: Asked, lexicon: Lexicon, words: WordQuery, scores: Float32Array | null): Found[] {
    const { atlas } = this.#parts;
    const every = lexicon.sayingAll(words.units.map(waysOf));
    const required = lexicon.sayingAll(words.units.filter(({ quoted }) => quoted).map(({ literal }) => literal));
    const banned = lexicon.saying(words.without.filter(({ stems }) => stems.length === 1));
    const bm25 = this.#scores(lexicon, words);
    const trusted = this.#parts.kinds.text?.trusted ?? false;
    const some = words.units.length > 1 && (asked.mode === "words" || !trusted);
    const tiers: Found[][] = [[], [], []];
    for (const place of atlas.among(asked.among)) {
      if (banned[place]) continue;
      const cosine = scores ? (scores[place] ?? 0) : null;
      const score = bm25[place] ?? 0;
      if (words.units.length && every[place]) tiers[0]?.push({ place, score, cosine, tier: 0, said: 0 });
      else if (some && score) {
        if (required[place]) tiers[1]?.push({ place, score, cosine, tier: 1, said: 0 });
      } else if (cosine !== null && cosine >= (asked.body.min_score ?? -2))
        tiers[2]?.push({ place, score: cosine, cosine, tier: 2, said: 0 });
    }
    return tiers.flatMap((tier) => this.#sifted(tier.sort(this.#order), lexicon, words));
  }

  // Phrases are known by the texts alone.
  #sifted(found: Found[], lexicon: Lexicon, words: WordQuery): Found[] {
    const phrases = words.units.filter(({ quoted }) => quoted).map(({ literal }) => literal);
    if (![...words.without, ...phrases.flat()].some(({ stems }) => stems.length > 1)) return found;
    return found.filter(({ place, tier }) => {
      const record = this.#parts.atlas.at(place);
      const without = words.without.map((way): Way[] => [way]);
      if (find(lexicon, record, without).said.some(Boolean)) return false;
      return tier === 2 || find(lexicon, record, phrases).said.every(Boolean);
    });
  }

  // By place; 0 if a record says none of it.
  #scores(lexicon: Lexicon, words: WordQuery): Float64Array {
    const scores = new Float64Array(lexicon.records);
    for (const [stem, weight] of lexicon.weightsOf(words)) {
      const scale = weight * lexicon.rarityOf(stem);
      lexicon.each(stem, (place, each) => {
        scores[place] = (scores[place] ?? 0) + scale * each;
      });
    }
    return scores;
  }

  async #reply(asked: Asked, found: Found[], how: How): Promise<SearchReply> {
    const { atlas } = this.#parts;
    const { words, lexicon } = how;
    const listed = asked.byCase ? firsts(found, ({ place }) => atlas.at(place).case_id) : found;
    const marked = (each: Found) => (words && lexicon ? this.#marked(each, words, lexicon, how.named) : each);
    const page = listed.slice(asked.offset, asked.offset + asked.k).map(marked);
    const top = asked.offset ? listed.slice(0, asked.k).map(marked) : page;
    const labels = words && lexicon ? this.#unlabelled(words, lexicon, top) : [];
    const naming = words ?? (await this.#naming(asked));
    const tokenizer = lexicon?.tokenizer ?? (naming ? (await this.#parts.lexicon()).tokenizer : null);
    const total = performance.now() - how.started;
    return {
      results: page.map((each) => {
        const record = atlas.at(each.place);
        return {
          ...shownRecord(record),
          ...(tokenizer && record.regions?.length ? { regions: namedRegions(tokenizer, record.regions, naming) } : {}),
          score: each.score,
          cosine: each.cosine,
          ...(each.matched ? { matched: each.matched, section: each.tier === 2 ? "likeness" : "words" } : {}),
          ...this.#caseOf(each.place, asked.among, asked.byCase),
        };
      }),
      match: this.#judge(asked, top, labels.length > 0, words, lexicon),
      query: {
        tokens: how.terms.reduce((sum, { tokens }) => sum + tokens, 0),
        truncated: how.terms.some(({ truncated }) => truncated),
        shift: how.combination?.shift ?? 0,
        terms: how.terms.map(({ label, weight, tokens, truncated }, at) => {
          return { label, weight, tokens, truncated, share: how.combination?.shares[at] ?? 0 };
        }),
      },
      ...(words && lexicon ? { words: { expanded: lexicon.expanded(words), corrected: words.corrected, labels } } : {}),
      timings: { queue_ms: 0, inference_ms: 0, search_ms: total, total_ms: total, cached: false },
      fingerprint: this.#parts.fingerprint,
      total: null,
      next_page_token: listed.length > asked.offset + asked.k ? String(asked.offset + asked.k) : "",
    } as unknown as SearchReply;
  }

  // The words by which structures of a result are chosen.
  async #naming({ terms }: Asked): Promise<WordQuery | null> {
    const texts = terms.flatMap(({ text, weight }) => (text !== undefined && weight > 0 ? [text] : []));
    return texts.length ? (await this.#parts.lexicon()).read(texts.join(", ")) : null;
  }

  #marked(found: Found, words: WordQuery, lexicon: Lexicon, named?: number | null): Found {
    const record = this.#parts.atlas.at(found.place);
    if (found.place === named) return { ...found, matched: { id: [[0, record.id.length]] }, said: 1 };
    if (!words.units.length) return { ...found, matched: {} };
    const things = words.units.map(waysOf);
    const { spans, strongly, apart } = find(lexicon, record, things, lexicon.pairs(words));
    return { ...found, matched: spans, said: (strongly.filter(Boolean).length - apart.length) / strongly.length };
  }

  // Labels that the query names and none of the first results has.
  #unlabelled(words: WordQuery, lexicon: Lexicon, results: Found[]) {
    const { atlas } = this.#parts;
    const named = namedLabels(words, lexicon, atlas).filter(({ facet }) => atlas.uses(facet));
    const first = results.slice(0, FIRST).map(({ place }) => atlas.facetsOf(place));
    const has = (facet: string, value: string) =>
      first.some(
        (labels) =>
          labels[facet]?.includes(value) ||
          (facet === "side" && labels.structure?.some((each) => each.split(/\s+/).includes(value))),
      );
    const there = new Set(named.filter(({ facet, value }) => has(facet, value)).map(({ facet }) => facet));
    return named.filter(({ facet }) => !there.has(facet));
  }

  #judge(asked: Asked, results: Found[], unlabelled: boolean, words?: WordQuery, lexicon?: Lexicon): Match {
    const kind = kindOf(asked);
    const known = results.flatMap(({ cosine }) => (cosine === null ? [] : [cosine]));
    let match = judged(known.length ? Math.max(...known) : null, this.#parts.kinds[kind]);
    if (!words || !lexicon) return match;
    const said = Math.max(0, ...results.slice(0, FIRST).map((each) => each.said));
    const hasEvery = results.some(({ tier }) => tier === 0);
    if (said === 1) match = "good";
    else if (match === "good" && (words.corrected.length || hasEvery || !lexicon.knows(words))) match = "weak";
    else if (said >= 0.5 || hasEvery) match = match === "good" ? "good" : "weak";
    return match === "good" && unlabelled ? "weak" : match;
  }
}

// A browser that cannot run the model searches by words.
function withoutModel(error: unknown): null {
  if (error instanceof Failure && error.code === "SITE_NO_SIMD") return null;
  throw error;
}

interface How {
  terms: Resolved[];
  combination: Combination | null;
  started: number;
  words?: WordQuery;
  lexicon?: Lexicon;
  named?: number | null;
}

function judged(best: number | null, kind?: Calibration): Match {
  if (!kind || kind.good === null || kind.weak === null) return null;
  if (best === null || best < kind.weak) return "none";
  return best >= kind.good && kind.trusted ? "good" : "weak";
}

// A search shows the structures that its words name.
const shownRecord = (record: StoredRecord): StoredRecord => ({ ...record, regions: [] });

/** Returns the first of each case; a record without a case is one by itself. */
function firsts<T>(found: T[], caseOf: (each: T) => string | undefined): T[] {
  const seen = new Set<string>();
  return found.filter((each) => {
    const id = caseOf(each);
    if (id && seen.has(id)) return false;
    if (id) seen.add(id);
    return true;
  });
}

function namedLabels(words: WordQuery, lexicon: Lexicon, atlas: Atlas) {
  const { closed, labels } = lexicon.head;
  const found = new Map<string, { facet: string; value: string; count: number }>();
  const add = (facet: string, value: string, isKept: (count: number) => boolean) => {
    const count = atlas.countOf(facet, value);
    if (isKept(count) && !found.has(`${facet}=${value}`)) found.set(`${facet}=${value}`, { facet, value, count });
  };
  for (const unit of words.units) {
    for (const way of waysOf(unit))
      for (const [facet, value, stems] of labels)
        if (!closed.includes(facet) && stems.join(" ") === way.stems.join(" ")) add(facet, value, () => true);
    for (const way of unit.literal)
      for (const [facet, value] of lexicon.named(way.stems)) add(facet, value, (n) => n > 0 || closed.includes(facet));
  }
  return [...found.values()];
}
