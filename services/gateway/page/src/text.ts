// The page's words, in the language of the browser or the one that the reader chose.

import { browser } from "./storage";
import { en } from "./strings/en";
import { es } from "./strings/es";

export type Key = keyof typeof en;
export const languages = { en: { name: "English", strings: en }, es: { name: "Español", strings: es } };
export type Language = keyof typeof languages;

const KEY = "mirage-language";
const known = (code: string | null): code is Language => code !== null && Object.hasOwn(languages, code);

function preferred(): Language {
  const chosen = browser.get(KEY);
  if (known(chosen)) return chosen;
  return navigator.languages.map((each) => each.slice(0, 2)).find(known) ?? "en";
}

export let language: Language;
let plural: Intl.PluralRules;

function use(code: Language): void {
  language = code;
  plural = new Intl.PluralRules(code);
  document.documentElement.lang = code;
}

use(preferred());

/** Keeps the choice; what is drawn from now on is in this language. */
export function choose(code: Language): void {
  browser.set(KEY, code);
  use(code);
}

export const number = (value: number): string => value.toLocaleString(language);

/** Returns a text with its {names} filled in; of "one | many" the part that fits {n}. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const parts = languages[language].strings[key].split(" | ");
  const one = parts.length > 1 && plural.select(Number(values.n)) === "one";
  const part = (one ? parts[0] : parts.at(-1)) ?? key;
  return part.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name] ?? "";
    return typeof value === "number" ? number(value) : value;
  });
}

/** Returns the text of a key that may not exist, such as a label's, or the alternative. */
export const maybe = (key: string, otherwise: string): string => (Object.hasOwn(en, key) ? t(key as Key) : otherwise);
