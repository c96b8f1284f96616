// Filters as chips: the chosen values, which can be taken away, and a menu for each facet with counts that follow.

import { useRef, useState } from "preact/hooks";
import type { Mode, Route } from "./address";
import { EMPTY } from "./address";
import { type Facet, json, parameters } from "./api";
import { useData } from "./data";
import { go } from "./router";
import { number, t } from "./text";
import { useDismiss } from "./ui";
import { facetName, valueName } from "./words";

const FIRST = ["modality", "body_part", "plane"];
const HIDDEN = new Set(["licence"]);

/** Returns the facets with counts for a filter; while those of another filter are read, the ones before. */
export function useFacets(route: Route): Facet[] {
  const asked = { ...EMPTY, where: route.where, collection: route.collection };
  const given = parameters(asked).toString();
  const { value } = useData<{ facets: Facet[] }>(`facets ${given}`, (signal) =>
    json(`/v1/facets?${given}`, { signal }),
  );
  const last = useRef<Facet[]>([]);
  if (value) last.current = value.facets;
  return last.current;
}

/** Returns a route whose filter has a value more or less. */
export function toggled(route: Route, facet: string, value: string): Route {
  const chosen = route.where[facet] ?? [];
  const values = chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value];
  const where = { ...route.where, [facet]: values };
  if (!values.length) delete where[facet];
  return { ...route, where };
}

export function Filters({ route }: { route: Route }) {
  const facets = useFacets(route);
  const shown = facets.filter(({ name }) => !HIDDEN.has(name));
  // Until they are read, their places are kept.
  const known = shown.length ? shown : FIRST.map((name) => ({ name, values: [], other: null }));
  const first = FIRST.flatMap((name) => known.filter((facet) => facet.name === name));
  const others = shown.filter((facet) => !first.includes(facet));
  const chosen = Object.entries(route.where).flatMap(([facet, values]) => values.map((value) => ({ facet, value })));
  return (
    <>
      {chosen.map(({ facet, value }) => (
        <button
          type="button"
          class="chip on"
          key={`${facet}=${value}`}
          onClick={() => go(toggled(route, facet, value))}
          aria-label={t("filter.remove", { value: `${facetName(facet)}: ${valueName(value)}` })}
        >
          {valueName(value)} <span aria-hidden="true">×</span>
        </button>
      ))}
      {first.map((facet) => (
        <Menu key={facet.name} name={facetName(facet.name)} facets={[facet]} route={route} />
      ))}
      <Menu name={t("filter.more")} facets={others} route={route} modes />
    </>
  );
}

interface MenuProps {
  name: string;
  facets: Facet[];
  route: Route;
  modes?: boolean;
}

function Menu({ name, facets, route, modes }: MenuProps) {
  const [open, setOpen] = useState(false);
  const place = useDismiss(open, () => setOpen(false));
  return (
    <div class="menu" ref={place}>
      <button type="button" class="chip" aria-expanded={open} onClick={() => setOpen(!open)}>
        {name} <span aria-hidden="true">▾</span>
      </button>
      {open && (
        <div class="sheet" role="group" aria-label={name}>
          {modes && <Modes route={route} />}
          {facets.map((facet) => (
            <Values key={facet.name} facet={facet} route={route} titled={facets.length > 1 || modes} />
          ))}
        </div>
      )}
    </div>
  );
}

function Values({ facet, route, titled }: { facet: Facet; route: Route; titled?: boolean }) {
  const chosen = route.where[facet.name] ?? [];
  const { values, other } = facet;
  if (!values.length) return null;
  return (
    <fieldset>
      <legend class={titled ? "" : "unseen"}>{facetName(facet.name)}</legend>
      {values.map(({ value, count, display }) => (
        <label key={value}>
          <input
            type="checkbox"
            checked={chosen.includes(value)}
            onChange={() => go(toggled(route, facet.name, value), { replace: true })}
          />
          <span>{valueName(value, display)}</span>
          <span class="soft">{number(count)}</span>
        </label>
      ))}
      {other && <p class="soft small">{t("filter.rare", { n: other.values.length })}</p>}
    </fieldset>
  );
}

const MODES: Mode[] = ["", "words", "images", "captions"];

function Modes({ route }: { route: Route }) {
  return (
    <fieldset>
      <legend>{t("mode")}</legend>
      {MODES.map((mode) => (
        <label key={mode}>
          <input
            type="radio"
            name="mode"
            checked={route.mode === mode}
            onChange={() => go({ ...route, mode }, { replace: true })}
          />
          <span>{t(`mode.${mode || "both"}`)}</span>
        </label>
      ))}
      <label>
        <input
          type="checkbox"
          checked={route.flat}
          onChange={() => go({ ...route, flat: !route.flat }, { replace: true })}
        />
        <span>{t("mode.flat")}</span>
      </label>
    </fieldset>
  );
}
