// What a text says is not there ("no effusion"), as mirage_core.denials finds it.

import { kept } from "./tokens";

export interface DenialTables {
  negators: string[];
  afterwards: string[];
  needs: Record<string, string[]>;
  scope_ends: string[];
  resumes: string[];
  changes: string[];
  uncertain: string[];
  seen: string[];
  back: number;
  near: number;
  /** What the stem of a word begins with if a text says that it is not there. */
  no: string;
  /** Words that say nothing in a denial: "no evidence of". */
  empty: string[];
}

const PIECE = /[\p{L}\p{N}]+|[^\p{L}\p{N}_\s]|[\r\n]/gu;

export class Denials {
  readonly #tables: DenialTables;
  readonly #negators: Set<string>;
  readonly #scopeEnds: Set<string>;

  constructor(tables: DenialTables) {
    this.#tables = tables;
    this.#negators = new Set(tables.negators);
    this.#scopeEnds = new Set(tables.scope_ends);
  }

  /** The stem of a word for something that a text says is not there: "no effusion". */
  stem = (stem: string): string => this.#tables.no + stem;

  /** True for what `stem` returns. */
  isDenied = (stem: string): boolean => stem.startsWith(this.#tables.no);

  /** The stem of the word itself. */
  plain = (stem: string): string => (this.isDenied(stem) ? stem.slice(this.#tables.no.length) : stem);

  isNegator = (word: string): boolean => this.#negators.has(word);

  isEmpty = (word: string): boolean => this.#tables.empty.includes(word);

  /** Returns where the words start that a text says are not there. */
  readonly starts = kept((text): Set<number> => {
    const pieces = [...text.matchAll(PIECE)];
    const words = pieces.map(([piece]) => (/[\r\n]/.test(piece) ? "." : piece.toLowerCase()));
    return new Set([...this.#places(words)].map((place) => pieces[place]?.index ?? -1));
  });

  #places(words: string[]): Set<number> {
    const { afterwards, needs, uncertain, seen, near } = this.#tables;
    const isTerm = (word: string) => /^\p{L}+$/u.test(word) && !this.#scopeEnds.has(word);
    const denied = new Set<number>();
    let until = 0;
    words.forEach((word, place) => {
      const follows = words[place + 1] ?? "";
      const ahead =
        this.#negators.has(word) &&
        (needs[word]?.includes(follows) ?? true) &&
        !(word === "absent" && follows !== "of" && !isTerm(follows)) &&
        !words.slice(place + 1, place + near).some((each) => uncertain.includes(each));
      if (ahead && place >= until) {
        const scope = this.#scope(words, place);
        until = (scope.at(-1) ?? place - 1) + 1;
        for (const each of scope) denied.add(each);
      }
      const unsure =
        word === "excluded" && words.slice(Math.max(0, place - near), place).some((each) => this.#negators.has(each));
      if ((afterwards.includes(word) && !ahead && !unsure) || (word === "not" && seen.includes(follows)))
        for (const each of this.#before(words, place)) denied.add(each);
    });
    return denied;
  }

  #scope(words: string[], place: number): number[] {
    const { resumes, changes } = this.#tables;
    const found: number[] = [];
    for (let index = place + 1; index < words.length; index += 1) {
      const word = words[index] as string;
      const next = words[index + 1];
      if (this.#scopeEnds.has(word) || (word === "," && words[place] === "absent")) break;
      if (word === "," && next !== undefined && (resumes.includes(next) || this.#scopeEnds.has(next))) break;
      found.push(index);
      if (changes.includes(word)) break;
    }
    return found;
  }

  #before(words: string[], place: number): number[] {
    const found: number[] = [];
    for (let index = place - 1; index > Math.max(-1, place - this.#tables.back); index -= 1) {
      if (this.#scopeEnds.has(words[index] as string)) break;
      found.push(index);
    }
    return found;
  }
}
