// The first screen: one search box, images of this atlas, and the ways into it.

import { useLayoutEffect } from "preact/hooks";
import { useRights } from "./access";
import { EMPTY, parse, type Route } from "./address";
import { type Building, type Collection, type Facet, json, parameters, type StoredRecord, within } from "./api";
import { useData } from "./data";
import { useFacets } from "./filters";
import { Gate } from "./gate";
import { clearRecent, recent } from "./recent";
import { settled } from "./router";
import { SearchBox } from "./shell";
import { language, number, t } from "./text";
import { Failure, Link, Picture } from "./ui";
import { labelsOf, nameOf, valueName } from "./words";

const SHOWN = 9;
const DRAWN = 27;
const SUGGESTED = 6;
const LONG = 42;

// Others in each tab, the same after Back.
const seed = Math.floor(Math.random() * 2 ** 31);

/** Returns the images to show: as many kinds and places of the body as there are, in the order given. */
export function varied<T extends { labels: Record<string, string[]>; case_id?: string }>(
  records: T[],
  count: number,
): T[] {
  const rest = [...records];
  const chosen: T[] = [];
  const seen = new Map<string, number>();
  const kinds = (record: T) => [
    ...["modality", "body_part", "plane"].flatMap((facet) =>
      (record.labels[facet] ?? []).map((value) => `${facet}=${value}`),
    ),
    `case=${record.case_id ?? ""}`,
  ];
  const weight = (record: T) => {
    const all = kinds(record);
    return all.reduce((sum, kind) => sum + (seen.get(kind) ?? 0), 0) / all.length;
  };
  while (chosen.length < count && rest.length) {
    const best = rest.reduce((least, each) => (weight(each) < weight(least) ? each : least));
    rest.splice(rest.indexOf(best), 1);
    chosen.push(best);
    for (const kind of kinds(best)) seen.set(kind, (seen.get(kind) ?? 0) + 1);
  }
  return chosen;
}

// Questions that the atlas answers, and its commonest structures and findings.
function useSuggestions(route: Route, facets: Facet[]): { text: string; count?: number }[] {
  const { collection } = route;
  const { value } = useData<{ queries: string[] }>(`common ${collection}`, (signal) =>
    json(`/v1/common-queries${within(collection)}`, { signal }),
  );
  const common = (value?.queries ?? []).filter((text) => text.length <= LONG).map((text) => ({ text }));
  const named = ["finding", "structure"].flatMap((name) =>
    (facets.find((facet) => facet.name === name)?.values ?? [])
      .filter(({ value: text, count }) => text !== "none" && text.length <= LONG && count >= 3)
      .slice(0, 2)
      .map(({ value: text, count }) => ({ text: valueName(text), count })),
  );
  return value && facets.length ? [...common.slice(0, SUGGESTED - named.length), ...named] : [];
}

export function Home({ route }: { route: Route }) {
  const facets = useFacets(route);
  const given = parameters({ ...EMPTY, collection: route.collection }, { limit: DRAWN, order: "random", seed });
  const drawn = useData<{ records: StoredRecord[] }>(`home ${given}`, (signal) =>
    json(`/v1/records?${given}`, { signal }),
  );
  useLayoutEffect(() => {
    if (drawn.value) settled();
  }, [drawn.value]);
  return (
    <div class="home">
      <section class="hero">
        <h1>{t("home.title")}</h1>
        <Lead route={route} facets={facets} />
        <SearchBox route={route} large />
        <Suggestions found={useSuggestions(route, facets)} route={route} />
        <Doors route={route} />
      </section>
      {drawn.error ? (
        <Gate problem={drawn.error} again={drawn.again}>
          <Failure problem={drawn.error} again={drawn.again} />
        </Gate>
      ) : (
        <Mosaic records={drawn.value && varied(drawn.value.records, SHOWN)} route={route} />
      )}
      <Regions facets={facets} route={route} />
      <Recent />
    </div>
  );
}

function Lead({ route, facets }: { route: Route; facets: Facet[] }) {
  const path = route.collection ? `/v1/collections/${encodeURIComponent(route.collection)}` : "/v1/collection";
  const { value } = useData<Collection>(`atlas ${route.collection}`, (signal) => json(path, { signal }));
  const kinds = facets.find(({ name }) => name === "modality")?.values.slice(0, 3) ?? [];
  const list = new Intl.ListFormat(language).format(kinds.map((each) => valueName(each.value)));
  if (value?.records === 0 && !value.building) return <p class="lead">{t("home.none")}</p>;
  return (
    <>
      <p class="lead">{value ? t("home.lead", { n: value.records, kinds: list }) : "\u00a0"}</p>
      {value?.building && <Progress building={value.building} />}
    </>
  );
}

/** What is still being added to the atlas, and what could not be. */
function Progress({ building }: { building: Building }) {
  const { done, total, finished, fetching, missing, problem } = building;
  const parts = [
    !finished && total ? t("building.adding", { done, total }) : "",
    fetching && t("building.fetching", { name: fetching }),
    ...[missing, problem].map((each) => each && `${each}.`),
  ];
  return (
    <p class="soft small" role="status">
      {parts.filter(Boolean).join(" ")}
    </p>
  );
}

function Suggestions({ found, route }: { found: { text: string; count?: number }[]; route: Route }) {
  return (
    <ul class="chips suggestions" aria-label={t("home.suggestions")}>
      {found.map(({ text, count }) => (
        <li key={text}>
          <Link class="chip" to={{ ...EMPTY, q: text, collection: route.collection }}>
            {text} {count && <span class="soft">{number(count)}</span>}
          </Link>
        </li>
      ))}
    </ul>
  );
}

function Doors({ route }: { route: Route }) {
  const rights = useRights();
  const { collection } = route;
  const doors = [
    { name: t("door.compare"), text: t("door.compare.text"), to: { ...EMPTY, view: "compare" as const, collection } },
    {
      name: t("door.change"),
      text: t("door.change.text"),
      to: { ...EMPTY, view: "compare" as const, tab: "shift" as const, collection },
    },
    ...(rights.can("read")
      ? [{ name: t("read"), text: t("door.read.text"), to: { ...EMPTY, view: "read" as const, collection } }]
      : []),
    { name: t("door.browse"), text: t("door.browse.text"), to: { ...EMPTY, browse: true, collection } },
  ];
  return (
    <ul class="doors">
      {doors.map(({ name, text, to }) => (
        <li key={name}>
          <Link class="door" to={to}>
            <strong>{name}</strong>
            <span class="soft">{text}</span>
          </Link>
        </li>
      ))}
    </ul>
  );
}

function Mosaic({ records, route }: { records?: StoredRecord[]; route: Route }) {
  if (records && !records.length) return <div class="mosaic" />;
  return (
    <ul class="mosaic" aria-label={t("home.images")} aria-busy={!records}>
      {(records ?? Array.from({ length: SHOWN }, () => null)).map((record, index) => (
        <li key={record?.id ?? index} data-id={record?.id}>
          {record && (
            <Link
              class="shot"
              to={{ ...EMPTY, view: "image", id: record.id, collection: route.collection }}
              focus={record.id}
              aria-label={nameOf(record)}
              title={labelsOf(record)
                .map(({ text }) => text)
                .join(" · ")}
            >
              <Picture
                url={record.thumbnail_url}
                larger={{ url: record.image_url, width: record.width }}
                alt=""
                width={256}
                height={256}
              />
            </Link>
          )}
        </li>
      ))}
    </ul>
  );
}

function Regions({ facets, route }: { facets: Facet[]; route: Route }) {
  const facet = facets.find(({ name }) => name === "body_part") ?? facets.find(({ name }) => name === "modality");
  if (!facet) return <section class="regions" />;
  return (
    <section class="regions" aria-labelledby="regions">
      <h2 id="regions">{facet.name === "body_part" ? t("home.regions") : t("home.kinds")}</h2>
      <ul class="chips">
        {facet.values
          .filter(({ count }) => count >= 3)
          .map(({ value, count }) => (
            <li key={value}>
              <Link class="chip" to={{ ...EMPTY, where: { [facet.name]: [value] }, collection: route.collection }}>
                {valueName(value)} <span class="soft">{number(count)}</span>
              </Link>
            </li>
          ))}
      </ul>
    </section>
  );
}

function Recent() {
  const kept = recent();
  if (!kept.length) return null;
  const clear = (event: MouseEvent) => {
    clearRecent();
    (event.currentTarget as HTMLElement).closest("section")?.remove();
  };
  return (
    <section class="recent" aria-labelledby="recent-title">
      <h2 id="recent-title">{t("recent")}</h2>
      <ul class="chips">
        {kept.map(({ name, path }) => (
          <li key={path}>
            <Link class="chip" to={parse("", path)}>
              {name}
            </Link>
          </li>
        ))}
      </ul>
      <button type="button" class="link" onClick={clear}>
        {t("recent.clear")}
      </button>
    </section>
  );
}
