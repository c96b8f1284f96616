// What a search found: filters, a line on how it was understood, and the images.

import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { useRights } from "./access";
import { EMPTY, pathOf, type Route } from "./address";
import {
  type Facet,
  json,
  type Problem,
  problemOf,
  recordPath,
  type SearchReply,
  type Shown,
  type StoredRecord,
} from "./api";
import { Card, extraOf, FIRST_SCREEN, Skeletons } from "./card";
import { useData } from "./data";
import { Description } from "./describe";
import { Filters, toggled, useFacets } from "./filters";
import { Gate } from "./gate";
import { Generation, promptOf, useGenerator } from "./generate";
import { insist } from "./own";
import { OwnPanel } from "./own_panel";
import { remember } from "./recent";
import { go, restores, settled } from "./router";
import { type Found, useSearch } from "./search";
import { number, t } from "./text";
import { Failure, HowGood, Link, Notice, Picture, useRoving, Waiting } from "./ui";
import { nameOf, originOf, valueName } from "./words";

/** Returns the name of a search: its words and its filter. */
export function titleOf(route: Route): string {
  const terms = route.terms.map(({ weight, value }) => `${weight < 0 ? "−" : "+"} ${value}`);
  const base = route.q || (route.similar && t("title.similar")) || (route.own && t("title.own")) || "";
  const asked = [base, ...terms].filter(Boolean).join(" ");
  const labels = Object.values(route.where)
    .flat()
    .map((value) => valueName(value));
  return [asked, ...labels].filter(Boolean).join(" · ") || t("title.all");
}

export function Results({ route }: { route: Route }) {
  const [stopped, setStopped] = useState(false);
  const search = useSearch(stopped ? EMPTY : route);
  const { value } = search;
  useEffect(() => setStopped(false), [route]);
  useLayoutEffect(() => {
    if (!value) return;
    settled();
    if (!route.own) remember({ name: titleOf(route), path: pathOf(route) });
  }, [value === undefined, route]);
  const title = titleOf(route);
  return (
    <div class={route.own ? "results with-own" : "results"}>
      <h1 class="unseen">{t("results.title", { title })}</h1>
      {route.own && <OwnPanel route={route} />}
      {route.similar && <Anchor route={route} />}
      <Body route={route} search={search} stopped={stopped} stop={setStopped} />
    </div>
  );
}

type Panel = "" | "describe" | "generate";

interface BodyProps {
  route: Route;
  search: ReturnType<typeof useSearch>;
  stopped: boolean;
  stop: (stopped: boolean) => void;
}

function Body({ route, search, stopped, stop }: BodyProps) {
  const { value, error } = search;
  const [panel, show] = useState<Panel>("");
  const generator = useGenerator(value !== undefined);
  const prompt = promptOf(route);
  useEffect(() => show(""), [route]);
  return (
    <div class="found">
      <Toolbar route={route} count={value ? countOf(value) : ""}>
        {value && (
          <Actions route={route} found={value} panel={panel} show={show} generates={Boolean(generator && prompt)} />
        )}
      </Toolbar>
      {panel === "describe" && value && <Description route={route} sources={value.results} />}
      {panel === "generate" && generator && <Generation prompt={prompt} model={generator} real={value?.results[0]} />}
      {stopped ? (
        <Stopped again={() => stop(false)} />
      ) : error ? (
        <Refusal route={route} problem={error} again={search.again} />
      ) : value ? (
        <Answer route={route} found={value} more={search.more} />
      ) : (
        <Loading stop={() => stop(true)} />
      )}
    </div>
  );
}

interface ActionsProps {
  route: Route;
  found: Found;
  panel: Panel;
  show: (panel: Panel) => void;
  generates: boolean;
}

// Browsing by a filter alone has no question that could be explained or judged.
const asksFor = (route: Route): boolean => Boolean(route.q || route.similar || route.own || route.terms.length);

function Actions({ route, found: { reply, results }, panel, show, generates }: ActionsProps) {
  const rights = useRights();
  const toggle = (name: Panel) => () => show(panel === name ? "" : name);
  // First, since it comes late: the others keep their places at the right.
  return (
    <>
      {generates && (
        <button type="button" class="button" aria-expanded={panel === "generate"} onClick={toggle("generate")}>
          {t("generate")}
        </button>
      )}
      {route.q && (
        <Link class="button" to={{ ...EMPTY, view: "compare", a: route.q, collection: route.collection }}>
          {t("compare.with")}
        </Link>
      )}
      {asksFor(route) && reply.match !== "none" && results.length > 0 && rights.can("describe") && (
        <button type="button" class="button" aria-expanded={panel === "describe"} onClick={toggle("describe")}>
          {t("explain")}
        </button>
      )}
    </>
  );
}

function Stopped({ again }: { again: () => void }) {
  return (
    <div class="failure">
      <h2>{t("stopped")}</h2>
      <button type="button" class="button" onClick={again}>
        {t("stopped.again")}
      </button>
    </div>
  );
}

// A fast answer comes before anything moves: what stands in for it appears late.
function Loading({ stop }: { stop: () => void }) {
  return (
    <>
      <Waiting stop={stop} />
      <Skeletons />
    </>
  );
}

function Refusal({ route, problem, again }: { route: Route; problem: Problem; again: () => void }) {
  if (problem.code === "IMAGE_NOT_MEDICAL" && route.own) {
    const search = () => insist(route.own).then(again);
    return (
      <div class="failure" role="alert">
        <h2>{t("own.declined")}</h2>
        <p>{t("own.declined.text")}</p>
        <button type="button" class="button" onClick={search}>
          {t("own.anyway")}
        </button>
      </div>
    );
  }
  return (
    <Gate problem={problem} again={again}>
      <Failure problem={problem} again={again}>
        <p>
          <Link to={{ ...EMPTY, collection: route.collection }}>{t("home.back")}</Link>
        </p>
      </Failure>
    </Gate>
  );
}

interface ToolbarProps {
  route: Route;
  count: string;
  children?: preact.ComponentChildren;
}

function Toolbar({ route, count, children }: ToolbarProps) {
  const roving = useRoving(".toolbar > .chip, .toolbar > .menu > .chip, .toolbar > .button, .toolbar > a.button");
  return (
    <div class="toolbar" role="group" aria-label={t("toolbar")} {...roving}>
      <Filters route={route} />
      <p class="count" role="status">
        {count}
      </p>
      {children}
    </div>
  );
}

function countOf({ results, token, reply }: Found): string {
  const said = results.filter((each) => extraOf(each).section === "words");
  const n = results.length;
  if (reply.match === "none") return said.length ? t("count.some", { n: said.length }) : "";
  if (typeof reply.total === "number") return t("count.all", { n: reply.total });
  if (said.length && !(token && said.length === n)) return t("count.said", { n: said.length });
  return token ? t("count.first", { n }) : t("count.all", { n });
}

function Answer({ route, found, more }: { route: Route; found: Found; more: () => Promise<void> }) {
  const { results, reply } = found;
  return (
    <>
      <Readings route={route} reply={reply} />
      <Rendered records={results} />
      {results.length ? <Sections route={route} found={found} /> : <Nothing route={route} />}
      {found.token && <More more={more} />}
      {asksFor(route) && results.length > 0 && <How reply={reply} />}
    </>
  );
}

// Said once, and a dot on each image.
function Rendered({ records }: { records: Shown[] }) {
  const kinds = [...new Set(records.map(originOf).filter(Boolean))];
  if (!kinds.length) return null;
  return (
    <p class="rendered">
      <span class="origin" /> {t("origin", { kind: kinds.join(", ") })}
    </p>
  );
}

// How the words were read: what was corrected, what none of the first results shows. Nothing if there is no doubt.
function Readings({ route, reply }: { route: Route; reply: SearchReply }) {
  const { corrected = [], labels = [] } = reply.words ?? {};
  const quoted = (word: string) => {
    const at = route.q.toLowerCase().indexOf(word.toLowerCase());
    const q =
      at < 0
        ? `"${word}"`
        : `${route.q.slice(0, at)}"${route.q.slice(at, at + word.length)}"${route.q.slice(at + word.length)}`;
    return { ...route, q };
  };
  const doubt = doubtOf(route, reply);
  if (!corrected.length && !labels.length && !doubt && !reply.query.truncated) return null;
  return (
    <Notice>
      {doubt && <p>{t(doubt)}</p>}
      {reply.query.truncated && <p>{t("query.cut")}</p>}
      {corrected.map(({ given, used }) => (
        <p key={given}>
          {t("corrected", { used })} <Link to={quoted(given)}>{t("corrected.not", { given })}</Link>
        </p>
      ))}
      {labels.map(({ facet, value, count }) => (
        <p key={facet + value}>
          {t("label.none", { value: valueName(value) })}{" "}
          {count > 0 ? (
            <Link to={toggled(route, facet, value)}>{t("label.only", { value: valueName(value), n: count })}</Link>
          ) : (
            t("label.absent")
          )}
        </p>
      ))}
    </Notice>
  );
}

// What is said of a match that is weak or not judged. Labels that are missing say more than a weak match.
function doubtOf(route: Route, { match, match_pending, results, words }: SearchReply) {
  if (match === "weak") return words?.labels?.length ? null : "match.weak";
  if (match || !results.length || !asksFor(route)) return null;
  return match_pending ? "match.pending" : "match.unknown";
}

function Sections({ route, found }: { route: Route; found: Found }) {
  const said = found.results.filter((each) => extraOf(each).section === "words");
  const alike = found.results.filter((each) => extraOf(each).section !== "words");
  const none = found.reply.match === "none";
  if (!said.length && !none) return <Grid records={alike} route={route} />;
  return (
    <>
      {none && <Absent route={route} />}
      {said.length > 0 && <Grid records={said} route={route} />}
      {alike.length > 0 && (
        <details class="alike" open={!none}>
          <summary>
            <h2>{t("alike", { n: alike.length })}</h2>
          </summary>
          <p class="soft">{none ? t("alike.unrelated") : t("alike.text")}</p>
          <Grid records={alike} route={route} />
        </details>
      )}
    </>
  );
}

// The first screen is drawn before the rest, so that it is seen sooner.
function Grid({ records, route }: { records: Shown[]; route: Route }) {
  const [whole, draw] = useState(restores);
  useEffect(() => draw(true), []);
  const roving = useRoving("a.shot", true);
  return (
    <ul class="grid" {...roving}>
      {(whole ? records : records.slice(0, FIRST_SCREEN)).map((record, index) => (
        <Card key={record.id} record={record} index={index} from={route} />
      ))}
    </ul>
  );
}

// No image answers the question: what the atlas does have, and how to ask better.
function Absent({ route }: { route: Route }) {
  const facets = useFacets({ ...EMPTY, collection: route.collection });
  const parts = facets.find(({ name }: Facet) => name === "body_part")?.values.slice(0, 8) ?? [];
  return (
    <div class="absent">
      <h2>{route.q ? t("none.title", { words: route.q }) : t("none.image")}</h2>
      <p>{t("none.how")}</p>
      {parts.length > 0 && (
        <ul class="chips" aria-label={t("none.has")}>
          {parts.map(({ value, count }) => (
            <li key={value}>
              <Link class="chip" to={{ ...EMPTY, where: { body_part: [value] }, collection: route.collection }}>
                {valueName(value)} <span class="soft">{number(count)}</span>
              </Link>
            </li>
          ))}
        </ul>
      )}
      <HowGood />
    </div>
  );
}

function Nothing({ route }: { route: Route }) {
  const filtered = Object.keys(route.where).length > 0;
  return (
    <div class="absent">
      <h2>{filtered ? t("nothing.filtered") : t("nothing")}</h2>
      {filtered && (
        <button
          type="button"
          class="button"
          onClick={() => go({ ...route, where: {}, browse: !route.q && !route.similar && !route.own })}
        >
          {t("filter.clear")}
        </button>
      )}
    </div>
  );
}

function More({ more }: { more: () => Promise<void> }) {
  const [state, setState] = useState<{ busy: boolean; problem?: Problem }>({ busy: false });
  const load = () => {
    setState({ busy: true });
    more().then(
      () => setState({ busy: false }),
      (error: unknown) => setState({ busy: false, problem: problemOf(error) }),
    );
  };
  return (
    <p class="more">
      {state.problem && <span role="alert">{`${state.problem.title}. ${state.problem.message} `}</span>}
      <button type="button" class="button" disabled={state.busy} onClick={load}>
        {t("more")}
      </button>
    </p>
  );
}

// The numbers, for those who ask for them.
function How({ reply }: { reply: SearchReply }) {
  const { timings, query, words } = reply;
  const expanded = (words?.expanded ?? []).map(({ given, others }) => `${given} = ${others.slice(0, 4).join(", ")}`);
  const best = reply.results.find(({ cosine }) => typeof cosine === "number");
  return (
    <details class="how">
      <summary>{t("how")}</summary>
      <ul class="soft">
        {expanded.length > 0 && <li>{t("how.expanded", { list: expanded.join("; ") })}</li>}
        <li>{t(`how.match.${reply.match ?? (reply.match_pending ? "pending" : "unknown")}`)}</li>
        {best && <li>{t("how.cosine", { value: (best.cosine ?? 0).toFixed(2) })}</li>}
        {query.terms.length > 1 &&
          query.terms.map(({ label, share }) => (
            <li key={label}>{t("how.share", { label, share: Math.round(share * 100) })}</li>
          ))}
        <li>{t(timings?.cached ? "how.cached" : "how.time", { ms: Math.round(timings?.total_ms ?? 0) })}</li>
      </ul>
    </details>
  );
}

// The image that one asked from.
function Anchor({ route }: { route: Route }) {
  const { value } = useData<StoredRecord>(`record ${route.collection} ${route.similar}`, (signal) =>
    json(recordPath(route.similar, route.collection), { signal }),
  );
  if (!value) return <div class="anchor" />;
  return (
    <div class="anchor">
      <Link
        class="shot"
        to={{ ...EMPTY, view: "image", id: value.id, collection: route.collection }}
        aria-label={nameOf(value)}
      >
        <Picture url={value.thumbnail_url} alt="" width={96} height={96} />
      </Link>
      <p>
        <strong>{t("title.similar")}</strong>
        <br />
        {nameOf(value)}
      </p>
    </div>
  );
}
