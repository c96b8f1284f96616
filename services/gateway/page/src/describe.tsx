// A description of what a search found, sentence by sentence. Only what a source supports is shown.

import { useEffect, useState } from "preact/hooks";
import { useRights } from "./access";
import { EMPTY, type Route } from "./address";
import { events, isAbort, type Problem, problemOf, type Shown, type StreamEvent } from "./api";
import { Report } from "./flag";
import { Gate } from "./gate";
import { queryBody } from "./search";
import { t } from "./text";
import { Failure, Link, Notice, Picture } from "./ui";
import { nameOf } from "./words";

const CAPTIONS = 3;
const BLOCKS = ["see", "where", "apart"] as const;

interface Sentence {
  text: string;
  ids: string[];
  kind?: "caption" | "general" | "extract" | null;
  block?: (typeof BLOCKS)[number] | null;
}

export interface Written {
  sources: Shown[];
  sentences: Sentence[];
  withheld: number;
  source?: string | null;
  notice?: string;
  finish?: string | null;
  ranking?: { first: string[]; second: Shown[]; best?: string };
  done: boolean;
}

export const BLANK: Written = { sources: [], sentences: [], withheld: 0, done: false };

/** Returns what is written after an event of the stream. */
export function taken(before: Written, { name, data }: StreamEvent): Written {
  switch (name) {
    // Of a comparison, the records of the second query come on their own.
    case "retrieval":
    case "against":
      return { ...before, sources: [...before.sources, ...data.results] };
    case "sentence":
    case "difference":
      return { ...before, sentences: [...before.sentences, data] };
    case "ranking":
      return { ...before, ranking: data };
    case "done": {
      const { source, notice, finish, withheld = 0 } = data;
      return { ...before, source, notice, finish, withheld, done: true };
    }
    default:
      return before;
  }
}

interface DescriptionProps {
  route: Route;
  sources: Shown[];
  /** Instead of a route's query: the fields of the request. */
  body?: Record<string, unknown>;
}

export function Description({ route, sources, body }: DescriptionProps) {
  const [written, write] = useState<Written>(BLANK);
  const [problem, fail] = useState<Problem | null>(null);
  const [stop, setStop] = useState<AbortController | null>(null);
  const [turn, again] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    setStop(controller);
    write(BLANK);
    fail(null);
    follow(route, body, controller.signal, (event) => write((before) => taken(before, event)))
      .catch((error: unknown) => isAbort(error) || fail(problemOf(error)))
      .finally(() => setStop((now) => (now === controller ? null : now)));
    return () => controller.abort();
  }, [turn, JSON.stringify(route), JSON.stringify(body)]);
  const known = written.sources.length ? written.sources : sources.slice(0, CAPTIONS);
  return (
    <section class="box describe" aria-labelledby="describe">
      <div class="head">
        <h2 id="describe">{t("describe")}</h2>
        {written.done && <span class="tag">{t(`describe.by.${by(written.source)}`)}</span>}
        {stop ? (
          <button type="button" class="link" onClick={() => stop.abort()}>
            {t("stop")}
          </button>
        ) : (
          !written.done && !problem && <span class="soft">{t("stopped")}</span>
        )}
      </div>
      <div class="columns-2">
        <div aria-live="polite" aria-busy={Boolean(stop)}>
          {stop && !written.sentences.length && <p class="soft">{t("describe.writing")}</p>}
          <Blocks written={written} sources={known} />
          {problem && (
            <Gate problem={problem} again={() => again(turn + 1)}>
              <Failure problem={problem} again={() => again(turn + 1)} />
            </Gate>
          )}
          {written.done && <Remarks written={written} />}
        </div>
        {written.sentences.length > 0 && <Sources sources={known} sentences={written.sentences} route={route} />}
      </div>
      {written.done && written.sentences.length > 0 && <Wrong written={written} sources={known} />}
    </section>
  );
}

const by = (source?: string | null): "model" | "captions" | "nobody" =>
  source === "model" ? "model" : source ? "captions" : "nobody";

async function follow(
  route: Route,
  body: Record<string, unknown> | undefined,
  signal: AbortSignal,
  take: (event: StreamEvent) => void,
) {
  const asked = body ?? { ...(await queryBody(route)), k: CAPTIONS };
  for await (const event of events("/v1/describe", { body: asked, signal })) take(event);
}

function Blocks({ written, sources }: { written: Written; sources: Shown[] }) {
  const blocks = [null, ...BLOCKS].map((block) => ({
    block,
    sentences: written.sentences.filter((each) => (each.block ?? null) === block),
  }));
  return (
    <>
      {blocks
        .filter(({ sentences }) => sentences.length)
        .map(({ block, sentences }) => (
          <div class="block" key={block ?? "all"}>
            {block && <h3>{t(`describe.${block}`)}</h3>}
            <p>
              {sentences.map((sentence, index) => (
                <Said key={index} sentence={sentence} sources={sources} />
              ))}
            </p>
          </div>
        ))}
    </>
  );
}

function Said({ sentence, sources }: { sentence: Sentence; sources: Shown[] }) {
  const numbers = sentence.ids
    .map((id) => sources.findIndex((source) => source.id === id))
    .filter((index) => index >= 0)
    .sort((a, b) => a - b);
  return (
    <span class="sentence">
      {sentence.text.trim()}
      {sentence.kind === "general" && <span class="soft small"> ({t("describe.general")})</span>}
      {numbers.map((index) => {
        const source = sources[index];
        return source && <Cited key={index} number={index + 1} source={source} />;
      })}{" "}
    </span>
  );
}

function Cited({ number, source }: { number: number; source: Shown }) {
  const light = (on: boolean) => () => {
    for (const node of document.querySelectorAll(`[data-id="${CSS.escape(source.id)}"]`))
      node.classList.toggle("lit", on);
  };
  return (
    <sup
      class="cite"
      onMouseEnter={light(true)}
      onMouseLeave={light(false)}
      onFocusIn={light(true)}
      onFocusOut={light(false)}
    >
      <Link
        to={{ ...EMPTY, view: "image", id: source.id }}
        aria-label={t("describe.source", { n: number, name: nameOf(source) })}
      >
        {number}
      </Link>
      <span class="hover-card" aria-hidden="true">
        <Picture url={source.thumbnail_url} alt="" width={96} height={96} />
        {source.caption}
      </span>
    </sup>
  );
}

function Sources({ sources, sentences, route }: { sources: Shown[]; sentences: Sentence[]; route: Route }) {
  const used = new Set(sentences.flatMap(({ ids }) => ids));
  return (
    <div>
      <h3>{t("describe.sources")}</h3>
      <ol class="sources">
        {sources.map((source) => (
          <li key={source.id} data-id={source.id}>
            <Link
              class="shot"
              to={{ ...EMPTY, view: "image", id: source.id, collection: route.collection }}
              aria-label={nameOf(source)}
            >
              <Picture url={source.thumbnail_url} alt="" width={72} height={72} />
            </Link>
            <p>
              {source.caption}
              <span class="soft small">
                {" "}
                {[used.has(source.id) ? "" : t("describe.unused"), source.source].filter(Boolean).join(" · ")}
              </span>
            </p>
          </li>
        ))}
      </ol>
    </div>
  );
}

function Remarks({ written }: { written: Written }) {
  const { notice, source, withheld, sentences, finish } = written;
  const uncheckable = source === "model" && !sentences.length;
  return (
    <>
      {notice && <Notice kind={source ? "plain" : "doubt"}>{notice}</Notice>}
      {uncheckable && <Notice>{t("describe.unchecked")}</Notice>}
      {withheld > 0 && !uncheckable && <p class="soft small">{t("describe.withheld", { n: withheld })}</p>}
      {finish === "length" && sentences.length > 0 && <p class="soft small">{t("describe.cut")}</p>}
      {source === "model" && sentences.length > 0 && <p class="soft small">{t("describe.ai")}</p>}
    </>
  );
}

function Wrong({ written, sources }: { written: Written; sources: Shown[] }) {
  const rights = useRights();
  const [at, choose] = useState(0);
  const sentence = written.sentences[at];
  const about = sentence?.ids[0] ?? sources[0]?.id;
  if (!rights.can("flag") || !sentence || !about) return <Rankings written={written} />;
  return (
    <div class="details">
      <Rankings written={written} />
      <div>
        {written.sentences.length > 1 && (
          <select
            aria-label={t("report.which")}
            value={at}
            onChange={(event) => choose(Number(event.currentTarget.value))}
          >
            {written.sentences.map((each, index) => (
              <option value={index} key={index}>{`${index + 1}. ${each.text.trim().slice(0, 60)}`}</option>
            ))}
          </select>
        )}
        <Report record={{ id: about, collection: sources[0]?.collection }} sentence={sentence.text.trim()} key={at} />
      </div>
    </div>
  );
}

// What the text itself finds, next to what the question found.
function Rankings({ written }: { written: Written }) {
  const { ranking, sources } = written;
  if (!ranking) return null;
  const known = new Map([...ranking.second, ...sources].map((each) => [each.id, each]));
  const rows = [
    { name: t("describe.first"), records: ranking.first.flatMap((id) => known.get(id) ?? []).slice(0, CAPTIONS) },
    { name: t("describe.second"), records: ranking.second.slice(0, CAPTIONS) },
  ];
  return (
    <details>
      <summary>{t("describe.rankings")}</summary>
      {rows.map(({ name, records }) => (
        <div key={name}>
          <h3>{name}</h3>
          <ul class="strip">
            {records.map((each) => (
              <li key={each.id}>
                <Link to={{ ...EMPTY, view: "image", id: each.id }} aria-label={nameOf(each)}>
                  <Picture url={each.thumbnail_url} alt="" width={72} height={72} />
                </Link>
              </li>
            ))}
          </ul>
        </div>
      ))}
    </details>
  );
}
