// What differs between two images, and what a change of a query did to what it finds, told from the labels.

import type { CompareReply, Shown } from "./api";
import { t } from "./text";
import { facetName, valueName } from "./words";

const FACETS = ["plane", "sequence", "modality", "body_part", "side", "finding"];
const LISTED = 6;

export interface Difference {
  facet: string;
  sides: [string[], string[]];
}

/** Returns the facets in which two records differ, each with the values that only one of them has. */
export function differences(a: Shown, b: Shown): Difference[] {
  return [...FACETS, "structure"].flatMap((facet) => {
    const [first, second] = [a.labels[facet] ?? [], b.labels[facet] ?? []];
    const only = (these: readonly string[], those: readonly string[]) =>
      these.filter((value) => !those.includes(value));
    const sides: [string[], string[]] = [only(first, second), only(second, first)];
    if (!sides[0].length && !sides[1].length) return [];
    return [{ facet, sides: facet === "structure" ? [sides[0].slice(0, LISTED), sides[1].slice(0, LISTED)] : sides }];
  });
}

// The value that most records carry, if it is clearly most of them.
function leading(records: readonly Shown[], facet: string): { value: string; count: number } | null {
  const counts = new Map<string, number>();
  for (const { labels } of records)
    for (const value of labels[facet] ?? []) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [best] = [...counts].sort((a, b) => b[1] - a[1]);
  return best && best[1] > records.length / 2 ? { value: best[0], count: best[1] } : null;
}

const SAME = 0.75;

/** Returns one sentence on what a change did: what turned into what, and what stayed. */
export function effect({ base, shifted }: CompareReply): string {
  const before = new Set(base.results.map(({ id }) => id));
  const kept = shifted.results.filter(({ id }) => before.has(id)).length;
  const n = shifted.results.length;
  if (!n) return t("nothing");
  const turned: string[] = [];
  const stayed: string[] = [];
  for (const facet of FACETS) {
    const [from, to] = [leading(base.results, facet), leading(shifted.results, facet)];
    if (!from || !to || (from.value === to.value && to.value === "none")) continue;
    if (from.value === to.value)
      stayed.push(t("effect.stayed.one", { facet: facetName(facet), value: valueName(to.value) }));
    else
      turned.push(
        t(to.count === n ? "effect.all" : "effect.some", {
          n: to.count,
          of: n,
          from: valueName(from.value),
          to: valueName(to.value),
        }),
      );
  }
  if (!turned.length && kept >= n * SAME) return t("effect.nothing");
  const first = turned.length ? turned.join(" ") : t("effect.others", { n: n - kept, of: n });
  return stayed.length ? `${first} ${t("effect.stayed", { list: stayed.join(", ") })}` : first;
}
