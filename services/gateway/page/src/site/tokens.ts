// Text to words, as the retriever reads them (mirage_retriever.words.tokens), by the tables that it exports.

import snowball from "wink-porter2-stemmer";

/** The tables by which words are read; see mirage_retriever.words.site. */
export interface Tables {
  stop_words: string[];
  fillers: string[];
  units: Record<string, string>;
  spellings: [string, string][];
  irregular: Record<string, string>;
  endings: [string, string][];
}

export interface Token {
  start: number;
  end: number;
  word: string;
  stem: string;
  position: number;
  compound: boolean;
}

const WORD_CHARS = 40;
const HYPHENS = "\\-\\u2010\\u2011\\u2013";
const HIDDEN = "\\u00ad\\u200b-\\u200f\\u2060\\ufeff";
const ANY = "\\p{L}\\p{N}_";
const LETTER = "[\\p{L}\\p{Nl}\\p{No}]";
const HYPHEN = new RegExp(`^[${HYPHENS}]`, "u");
const WHOLE = /\d|itis$|osis$|oma$|sis$/;
const ASCII = /^[\0-\x7f]*$/;

const eitherCase = (text: string): string => text.replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);

function patternOf(units: Record<string, string>): RegExp {
  const names = Object.keys(units)
    .sort((a, b) => b.length - a.length)
    .map(eitherCase)
    .join("|");
  const not = (word: string) => `(?<!(?<![${ANY}])${word})`;
  const plain = `(?<plain>${LETTER}+)(?![${ANY}'\\u2019\\u0300-\\u036f${HIDDEN}])${not("non")}${not("Non")}${not("NON")}`;
  const number =
    `(?<number>\\p{Nd}+(?:[.,]\\p{Nd}+)?)[\\s${HYPHENS}]?` +
    `(?:(?<unit>${names})(?![${ANY}])|(?<tesla>[Tt](?![${ANY}${HYPHENS}])))`;
  const level = `(?<level>[CDTLScdtls]\\p{Nd}{1,2})[${HYPHENS}\\/](?<to>[CDTLScdtls]?\\p{Nd}{1,2})(?![${ANY}])`;
  const of = `(?:non|Non|NON)[\\s${HYPHENS}]+(?<of>${LETTER}[${ANY}${HIDDEN}]*)`;
  const decimal = `(?<decimal>\\p{Nd}+[.,]\\p{Nd}+)(?![${ANY}])`;
  const word = `(?<word>[\\p{L}\\p{N}](?:[\\p{L}\\p{N}]|[${HIDDEN}\\u0300-\\u036f]|['\\u2019](?=${LETTER}))*)`;
  return new RegExp([plain, number, level, of, decimal, word].join("|"), "gu");
}

type Rule = [RegExp, string];
const rulesOf = (pairs: [string, string][]): Rule[] => pairs.map(([source, form]) => [new RegExp(source, "g"), form]);

const TEXTS_KEPT = 4000;

/** Returns a function that keeps what it read in texts: labels and captions are the same again and again. */
export function kept<T>(read: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    const found = known.get(text) ?? read(text);
    if (known.size >= TEXTS_KEPT) known.clear();
    known.set(text, found);
    return found;
  };
}

/** Reads texts. */
export class Tokenizer {
  readonly fillers: Set<string>;
  readonly #stops: Set<string>;
  readonly #pattern: RegExp;
  readonly #spellings: Rule[];
  readonly #endings: Rule[];
  readonly #units: Map<string, string>;
  readonly #irregular: Map<string, string>;
  readonly #stems = new Map<string, string>();
  readonly #known = new Map<string, [string, string, boolean]>();

  constructor(tables: Tables) {
    this.fillers = new Set(tables.fillers);
    this.#stops = new Set(tables.stop_words);
    this.#pattern = patternOf(tables.units);
    this.#spellings = rulesOf(tables.spellings);
    this.#endings = rulesOf(tables.endings);
    this.#units = new Map(Object.entries(tables.units));
    this.#irregular = new Map(Object.entries(tables.irregular));
  }

  /** Returns the words of a text in their order, without stop words; places count UTF-16 units. */
  readonly tokens = kept((text) => this.#tokens(text));

  #tokens(text: string): Token[] {
    const found: Token[] = [];
    let position = -1;
    let before = { word: "", start: -1, end: -1, position: -1 };
    for (const match of text.matchAll(this.#pattern)) {
      const [raw] = match;
      const groups = match.groups ?? {};
      const start = match.index;
      const end = start + raw.length;
      if (groups.plain !== undefined || groups.word !== undefined) {
        const [word, stem, isStop] = this.#read(raw);
        if (!isStop) position += 1;
        if (start === before.end + 1 && HYPHEN.test(text.slice(before.end))) {
          const joined = before.word + word;
          if (/^\p{L}+$/u.test(joined) && joined.length <= WORD_CHARS)
            found.push(token(before.start, end, joined, this.stem(joined), before.position, true));
        }
        before = { word, start, end, position };
        if (!isStop) found.push(token(start, end, word, stem, position));
        continue;
      }
      before = { ...before, end: -1 };
      position = this.#special(groups, start, end, position + 1, found);
    }
    return found;
  }

  // Numbers with units, vertebral levels, "non-" words and decimals. Returns the position of the last word.
  #special(groups: Record<string, string>, start: number, end: number, first: number, found: Token[]): number {
    const add = (word: string, from = start, at = first, to = end) =>
      found.push(token(from, to, word, this.stem(word), at));
    if (groups.to !== undefined) {
      const level = (groups.level ?? "").toLowerCase();
      const to = groups.to.toLowerCase();
      add(level, start, first, start + level.length);
      add(/^[a-z]/.test(to) ? to : level.charAt(0) + to, end - to.length, first + 1);
      return first + 1;
    }
    if (groups.of !== undefined) add(`non${this.normalise(groups.of)}`);
    else if (groups.decimal !== undefined) add(groups.decimal.replaceAll(",", "."));
    else {
      const unit = groups.unit === undefined ? "tesla" : (this.#units.get(groups.unit.toLowerCase()) ?? "");
      add((groups.number ?? "").replaceAll(",", ".") + unit);
    }
    return first;
  }

  #read(raw: string): [string, string, boolean] {
    const kept = this.#known.get(raw);
    if (kept) return kept;
    const word = this.normalise(raw);
    const isStop = !word || word.length > WORD_CHARS || (this.#stops.has(word) && raw !== "US");
    const read: [string, string, boolean] = [word, this.stem(word), isStop];
    this.#known.set(raw, read);
    return read;
  }

  /** Returns a word in lower case and American spelling, without accents and a possessive "'s". */
  normalise(raw: string): string {
    const folded = raw.toLowerCase().replaceAll("ß", "ss").replaceAll("ς", "σ").normalize("NFKD");
    const kept = folded.replace(/[^\p{L}\p{N}'\u2019.]/gu, "");
    const word = kept.replace(/['\u2019](s$)?/g, "");
    return this.#spellings.reduce((spelt, [pattern, form]) => spelt.replace(pattern, form), word);
  }

  /** Takes over the stem of a word of the collection: versions of the stemmer differ in a few. */
  learn(word: string, stem: string): void {
    this.#stems.set(word, stem);
  }

  /** Returns the form in which a normalised word is compared. */
  stem(given: string): string {
    const kept = this.#stems.get(given);
    if (kept !== undefined) return kept;
    const found = this.#stem(given);
    this.#stems.set(given, found);
    return found;
  }

  #stem(given: string): string {
    const irregular = this.#irregular.get(given);
    if (irregular !== undefined) return irregular;
    let word = given;
    for (const [pattern, form] of this.#endings) {
      const changed = word.replace(pattern, form);
      if (changed === word) continue;
      word = changed;
      break;
    }
    if ([...word].length <= 3 || !ASCII.test(word) || WHOLE.test(word)) return word;
    const singular = word.endsWith("omas") ? word.slice(0, -1) : word;
    if (WHOLE.test(singular)) return singular;
    return this.#irregular.get(singular) ?? snowball(word);
  }

  /** Returns the stems of an expression, compounds by their parts. */
  stemsOf(text: string): string[] {
    return this.tokens(text)
      .filter(({ compound }) => !compound)
      .map(({ stem }) => stem);
  }
}

const token = (start: number, end: number, word: string, stem: string, position: number, compound = false): Token => ({
  start,
  end,
  word,
  stem,
  position,
  compound,
});

/** Returns a text without control and format characters; runs of spaces become one. */
export const clean = (text: string): string =>
  text
    .replace(/\p{Cc}/gu, " ")
    .replace(/\p{C}/gu, "")
    .split(/\s+/)
    .filter(Boolean)
    .join(" ");
