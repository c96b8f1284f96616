// One image at its own address: large and dark, with its case, its text, and the ways on from it.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useRights } from "./access";
import { EMPTY, here, parse, type Route } from "./address";
import { json, recordPath, type Shown, type StoredRecord, within } from "./api";
import { extraOf } from "./card";
import { useData } from "./data";
import { Report } from "./flag";
import { Gate } from "./gate";
import { Keys } from "./keys";
import { Legend, Outlines, Quiz, quizOrder, regionsOf, useMap } from "./regions";
import { entry, go, linkOf, settled } from "./router";
import { useSearch } from "./search";
import { type Look, PLAIN, pressed, Stage, Tools, windowsOf } from "./stage";
import { t } from "./text";
import { Copy, Failure, isTyping, Labels, Link, Marked, Picture, save, Waiting } from "./ui";
import { citationOf, facetName, nameOf, originOf } from "./words";

interface Case {
  id: string;
  title?: string;
  history?: string;
  records: Shown[];
}

export function ImageView({ route }: { route: Route }) {
  const { value, error, again } = useData<StoredRecord>(`record ${route.collection} ${route.id}`, (signal) =>
    json(recordPath(route.id, route.collection), { signal }),
  );
  const last = useRef<StoredRecord | undefined>(undefined);
  if (value) last.current = value;
  // While a neighbour is read, the image before it stays.
  const record = value ?? (error ? undefined : last.current);
  if (error)
    return (
      <Gate problem={error} again={again}>
        <Failure problem={error} again={again} whole>
          <p>
            <Link to={{ ...EMPTY, collection: route.collection }}>{t("home.back")}</Link>
          </p>
        </Failure>
      </Gate>
    );
  if (!record) return <Waiting />;
  return <Viewer record={record} route={route} />;
}

function useCase(record: Shown, route: Route) {
  const id = record.case_id ?? "";
  const path = `/v1/cases/${encodeURIComponent(id)}${within(route.collection)}`;
  const { value, error } = useData<Case>(id && `case ${route.collection} ${id}`, (signal) => json(path, { signal }));
  // What is below the image waits for the first case, whose other images would move it.
  const placed = useRef(false);
  placed.current ||= !id || Boolean(value || error);
  return { case_: value, records: value?.records ?? [], placed: placed.current };
}

/** The neighbours of an image: first those of its case, then the results that it was opened from. */
export function neighbours(record: Shown, records: readonly Shown[], results: readonly Shown[]): [Shown?, Shown?] {
  const inCase = records.findIndex(({ id }) => id === record.id);
  const same = (other: Shown) =>
    other.id === record.id || (Boolean(record.case_id) && records.length > 1 && other.case_id === record.case_id);
  const first = results.findIndex(same);
  const last = results.findLastIndex(same);
  return [
    records[inCase - 1] ?? (first > 0 ? results[first - 1] : undefined),
    (inCase >= 0 ? records[inCase + 1] : undefined) ?? (last >= 0 ? results[last + 1] : undefined),
  ];
}

function Viewer({ record, route }: { record: StoredRecord; route: Route }) {
  const from = entry().from;
  const context = from === undefined ? EMPTY : parse("", from);
  const results = useSearch(context).value?.results ?? [];
  const { case_, records, placed } = useCase(record, route);
  const [previous, next] = neighbours(record, records, results);
  const [look, change] = useState<Look>(PLAIN);
  const [hidden, hide] = useState(false);
  const found = results.find(({ id }) => id === record.id);
  const matched = extraOf(found ?? record).matched ?? {};
  const show = (other?: Shown) =>
    other && go({ ...EMPTY, view: "image", id: other.id, collection: route.collection }, { replace: true, from });
  useFresh(record, change);
  useLayoutEffect(() => {
    if (placed) settled();
  }, [placed]);
  useEffect(() => {
    document.title = `${hidden ? t("hidden") : nameOf(record)} · MIRAGE`;
  }, [record.id, hidden]);
  // A search reply has the structures that its words name.
  const structures = useStructures(
    record,
    route.region ? [route.region] : (found?.regions ?? []).map(({ name }) => name),
  );
  const fullScreen = useRef<HTMLDivElement>(null);
  useKeys({
    look,
    change,
    previous: () => show(previous),
    next: () => show(next),
    hide: () => hide(!hidden),
    structures,
    fullScreen,
  });
  return (
    <article class="viewer">
      <div class="left" ref={fullScreen}>
        <Where record={record} case_={case_} from={from} />
        <div class="frame">
          <Stage record={record} look={look} change={change} swipe={(by) => show(by > 0 ? next : previous)}>
            {structures.map && <Outlines {...structures} map={structures.map} lit={structures.marked} />}
          </Stage>
          {structures.label && !hidden && <p class="pointer">{structures.label}</p>}
          <Turn by={-1} to={previous} show={show} />
          <Turn by={1} to={next} show={show} />
        </div>
        {placed && (
          <div class="under">
            <Strip record={record} records={records} show={show} />
            <Tools record={record} look={look} change={change} />
            <button type="button" class="chip" onClick={() => toggleFull(fullScreen.current)}>
              {t("full")}
            </button>
          </div>
        )}
      </div>
      {placed && <Panel {...{ record, route, case_, matched, hidden, hide, structures }} />}
    </article>
  );
}

// Another image begins plain, but in the window that its reader chose if it has the same.
function useFresh(record: Shown, change: (set: (look: Look) => Look) => void) {
  useEffect(() => {
    change(({ window, invert }) => {
      const kept = windowsOf(record).find((each) => each.center === window?.center && each.width === window.width);
      return { ...PLAIN, invert, window: kept ?? null };
    });
  }, [record.id]);
}

function useStructures(record: StoredRecord, asked: string[]) {
  const regions = regionsOf(record);
  const map = useMap(record);
  const [shown, show] = useState(false);
  const [chosen, choose] = useState(asked);
  const [pointed, hover] = useState("");
  const [quiz, setQuiz] = useState<{ at: number; told: boolean } | null>(null);
  useEffect(() => {
    choose(asked);
    setQuiz(null);
  }, [record.id, asked.join()]);
  const question = quiz && quizOrder(regions)[quiz.at];
  return {
    regions,
    map,
    shown: shown && !quiz,
    toggle: () => show(!shown),
    chosen,
    choose,
    hover,
    quiz,
    ask: () => setQuiz(quiz ? null : { at: 0, told: false }),
    tell: () => setQuiz(quiz && { ...quiz, told: true }),
    next: () => setQuiz(quiz && { at: quiz.at + 1, told: false }),
    marked: quiz ? [question?.name ?? ""] : pointed ? [pointed] : chosen,
    label: quiz ? "" : pointed,
  };
}

type Structures = ReturnType<typeof useStructures>;

interface KeysOf {
  look: Look;
  change: (look: Look) => void;
  previous: () => void;
  next: () => void;
  hide: () => void;
  structures: Structures;
  fullScreen: { current: HTMLElement | null };
}

const back = () => (entry().from === undefined ? go(EMPTY) : history.back());

function toggleFull(place: HTMLElement | null) {
  if (document.fullscreenElement) document.exitFullscreen();
  else place?.requestFullscreen?.();
}

function useKeys(of: KeysOf) {
  const latest = useRef(of);
  latest.current = of;
  useLayoutEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (isTyping(event) || event.defaultPrevented) return;
      const { look, change, structures, fullScreen, ...acts } = latest.current;
      const changed = pressed(look, event);
      const others: Record<string, () => void> = {
        ArrowLeft: acts.previous,
        ArrowRight: acts.next,
        h: acts.hide,
        H: acts.hide,
        f: () => toggleFull(fullScreen.current),
        Escape: () => document.fullscreenElement || back(),
        ...(structures.regions.length ? { o: structures.toggle, q: structures.ask, Q: structures.ask } : {}),
      };
      const act = changed ? () => change(changed) : others[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
}

function leave(event: Event) {
  event.preventDefault();
  back();
}

function Where({ record, case_, from }: { record: Shown; case_?: Case; from?: string }) {
  const at = case_?.records.findIndex(({ id }) => id === record.id) ?? -1;
  return (
    <p class="where">
      {from === undefined ? (
        <Link to={EMPTY}>{t("image.home")}</Link>
      ) : (
        <a href={here(from)} onClick={leave}>
          {t("image.results")}
        </a>
      )}
      {record.case_id && <span> · {t("image.case", { id: record.case_id })}</span>}
      {case_ && at >= 0 && <span> · {t("image.of", { n: at + 1, of: case_.records.length })}</span>}
      <Keys />
    </p>
  );
}

function Turn({ by, to, show }: { by: 1 | -1; to?: Shown; show: (record?: Shown) => void }) {
  if (!to) return null;
  return (
    <button
      type="button"
      class={by > 0 ? "turn next" : "turn"}
      aria-label={by > 0 ? t("image.next") : t("image.previous")}
      onClick={() => show(to)}
    >
      {by > 0 ? "›" : "‹"}
    </button>
  );
}

const THUMBS = 12;

function Strip({ record, records, show }: { record: Shown; records: Shown[]; show: (record?: Shown) => void }) {
  if (records.length < 2) return null;
  const at = records.findIndex(({ id }) => id === record.id);
  if (records.length > THUMBS)
    return (
      <input
        class="sections"
        type="range"
        min={1}
        max={records.length}
        value={at + 1}
        aria-label={t("image.section")}
        aria-valuetext={t("image.of", { n: at + 1, of: records.length })}
        onInput={(event) => show(records[Number(event.currentTarget.value) - 1])}
      />
    );
  return (
    <ul class="strip" aria-label={t("image.strip")}>
      {records.map((each, index) => (
        <li key={each.id}>
          <button
            type="button"
            aria-current={each.id === record.id}
            aria-label={t("image.of", { n: index + 1, of: records.length })}
            onClick={() => show(each)}
          >
            <Picture url={each.thumbnail_url} alt="" width={64} height={64} />
          </button>
        </li>
      ))}
    </ul>
  );
}

interface PanelProps {
  record: StoredRecord;
  route: Route;
  case_?: Case;
  matched: Record<string, readonly (readonly number[])[]>;
  hidden: boolean;
  hide: (hidden: boolean) => void;
  structures: Structures;
}

function Panel({ record, route, case_, matched, hidden, hide, structures }: PanelProps) {
  const rights = useRights();
  const title = nameOf(record);
  const history_ = record.history || case_?.history;
  const { collection } = route;
  const link = linkOf({ ...EMPTY, view: "image", id: record.id, collection });
  return (
    <div class="panel">
      {history_ && (
        <p class="history">
          <Marked text={history_} spans={matched.history} />
        </p>
      )}
      <h1 tabIndex={-1}>
        {hidden ? t("hidden") : <Marked text={title} spans={record.title ? matched.title : undefined} />}
      </h1>
      {!hidden && <Labels record={record} />}
      {originOf(record) && <p class="origin-line">{t("origin", { kind: originOf(record) })}</p>}
      <p class="actions">
        <button type="button" class="button" aria-pressed={hidden} onClick={() => hide(!hidden)}>
          {hidden ? t("answer.show") : t("answer.hide")}
        </button>
        {structures.regions.length > 0 && (
          <button type="button" class="button" aria-pressed={structures.shown} onClick={structures.toggle}>
            {t("outlines")}
          </button>
        )}
        <Link class="button" to={{ ...EMPTY, view: "compare", a: `id:${record.id}`, collection }}>
          {t("compare")}
        </Link>
        <Link class="button" to={{ ...EMPTY, similar: record.id, collection }}>
          {t("similar")}
        </Link>
        {rights.can("read") && (
          <Link class="button" to={{ ...EMPTY, view: "read", id: record.id, collection }}>
            {t("read")}
          </Link>
        )}
        <Copy text={() => link}>{t("copy.link")}</Copy>
      </p>
      {structures.quiz && <Quiz {...structures} {...structures.quiz} />}
      {!hidden && <Texts record={record} matched={matched} title={title} />}
      {structures.regions.length > 0 && !hidden && !structures.quiz && (
        <section class="box">
          <h2>{t("structures")}</h2>
          <Legend regions={structures.regions} lit={structures.chosen} choose={structures.choose} />
          <p>
            <button type="button" class="link" onClick={structures.ask}>
              {t("quiz.start")}
            </button>
          </p>
        </section>
      )}
      <Cite record={record} link={link} />
      <Details record={record} hidden={hidden} />
    </div>
  );
}

function Texts({ record, matched, title }: Pick<PanelProps, "record" | "matched"> & { title: string }) {
  const shown = (["caption", "findings", "impression"] as const).filter((name, index, all) => {
    const text = record[name];
    return text && text !== title && !all.slice(0, index).some((other) => record[other] === text);
  });
  return (
    <>
      {shown.map((name) => (
        <section class="box" key={name}>
          <h2>{t(`field.${name}`)}</h2>
          <p class="told">
            <Marked text={record[name] ?? ""} spans={matched[name]} />
          </p>
        </section>
      ))}
    </>
  );
}

function Cite({ record, link }: { record: StoredRecord; link: string }) {
  const text = citationOf(record, link);
  return (
    <section class="box cite-box">
      <h2>{t("cite")}</h2>
      <p class="soft">{text}</p>
      <Copy text={() => text} class="link">
        {t("cite.copy")}
      </Copy>
    </section>
  );
}

function Details({ record, hidden }: { record: StoredRecord; hidden: boolean }) {
  const rights = useRights();
  const own = Object.entries(record.original_labels ?? {}).filter(([, value]) => value);
  const name = `${record.id}.${record.image_type.split("/")[1] ?? "png"}`;
  const facts: [string, string][] = [
    [t("detail.id"), record.id],
    [t("detail.size"), t("detail.pixels", { width: record.width, height: record.height })],
    [t("detail.licence"), record.licence || t("cite.nolicence")],
    ...(hidden ? [] : ([[t("field.keywords"), (record.keywords ?? []).join(", ")]] as [string, string][])),
    [t("detail.flags"), record.flags ? t("detail.times", { n: record.flags }) : ""],
  ];
  return (
    <div class="details">
      <details>
        <summary>{t("details")}</summary>
        <dl>
          {facts
            .filter(([, value]) => value)
            .flatMap(([term, value]) => [<dt key={term}>{term}</dt>, <dd key={`${term}=`}>{value}</dd>])}
        </dl>
        {own.length > 0 && !hidden && (
          <>
            <h3>{t("detail.own")}</h3>
            <dl>
              {own.flatMap(([term, value]) => [
                <dt key={term}>{facetName(term)}</dt>,
                <dd key={`${term}=`}>{value}</dd>,
              ])}
            </dl>
          </>
        )}
        <a href={here(record.image_url)} download={name} onClick={(event) => save(event, record.image_url, name)}>
          {t("download")}
        </a>
      </details>
      {rights.can("flag") && <Report record={record} key={record.id} />}
    </div>
  );
}
