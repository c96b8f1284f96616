// An image read step by step: the student's notes first, then what similar cases show, and a model's reading last.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { EMPTY, type Route } from "./address";
import { json, type Problem, type Reads, recordPath, type StoredRecord } from "./api";
import { useData } from "./data";
import { Evidence, LabelFound, Readings } from "./evidence";
import { useFacets } from "./filters";
import { Gate } from "./gate";
import { insist } from "./own";
import { OwnPicture, useOwn } from "./own_panel";
import { type Course, subjectOf, useReading, useSkill } from "./reading";
import { go, settled } from "./router";
import { FileButton } from "./shell";
import { type Look, PLAIN, Stage, Tools } from "./stage";
import { language, number, t } from "./text";
import { Failure, Inline, Labels, Link, Notice, Picture, Waiting } from "./ui";
import { facetName, nameOf, valueName } from "./words";

export function Read({ route }: { route: Route }) {
  if (route.own || route.id || route.q) return <Steps route={route} key={subjectOf(route)} />;
  return <Begin route={route} />;
}

function Begin({ route }: { route: Route }) {
  const [text, setText] = useState("");
  const ask = (event: Event) => {
    event.preventDefault();
    if (text.trim()) go({ ...EMPTY, view: "read", q: text.trim(), collection: route.collection });
  };
  return (
    <div class="prose">
      <h1 tabIndex={-1}>{t("read")}</h1>
      <p>{t("read.about")}</p>
      <form class="search large" onSubmit={ask} noValidate>
        <input
          id="q"
          type="search"
          maxLength={2000}
          autocomplete="off"
          aria-label={t("read.ask")}
          placeholder={t("read.ask")}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <FileButton />
        <button type="submit" class="button primary">
          {t("read.ask.go")}
        </button>
      </form>
      <p class="soft">{t("read.privacy")}</p>
    </div>
  );
}

function Steps({ route }: { route: Route }) {
  const course = useReading(route);
  const { revealed, reading } = course.session;
  useLayoutEffect(settled, []);
  const declined = reading.done && reading.done.finish !== "complete";
  return (
    <article class={route.q ? "read" : "read with-image"}>
      {!route.q && <Subject route={route} />}
      <div class="course">
        <h1 tabIndex={-1}>{route.q || t("read")}</h1>
        <Progress course={course} />
        {course.problem && <Refused route={route} problem={course.problem} again={course.again} />}
        {declined && <Declined route={route} course={course} />}
        {!declined && reading.kind && <KindBox route={route} kind={reading.kind} />}
        {!declined && reading.checklist && <NotesBox course={course} checklist={reading.checklist} />}
        {!declined && revealed && <Revealed route={route} course={course} />}
        <p class="notice">{t("read.disclaimer")}</p>
      </div>
    </article>
  );
}

function Progress({ course: { stop, again, session, problem } }: { course: Course }) {
  const { done, evidence } = session.reading;
  const state = done ? "done" : stop ? (evidence ? "going" : "begun") : "stopped";
  return (
    <div class="line soft">
      <p role="status">{!problem && t(`read.state.${state}`)}</p>
      {stop && !done && (
        <button type="button" class="link" onClick={stop}>
          {t("stop")}
        </button>
      )}
      {!stop && !done && !problem && (
        <button type="button" class="link" onClick={again}>
          {t("read.again")}
        </button>
      )}
    </div>
  );
}

function Refused({ route, problem, again }: { route: Route; problem: Problem; again: () => void }) {
  return (
    <Gate problem={problem} again={again}>
      <Failure problem={problem} again={again}>
        <p>
          <Link to={{ ...EMPTY, view: "read", collection: route.collection }}>{t("read.other")}</Link>
        </p>
      </Failure>
    </Gate>
  );
}

function Declined({ route, course }: { route: Route; course: Course }) {
  const other = course.session.reading.done?.finish === "other_topic";
  return (
    <div class="failure" role="alert">
      <h2>{t(other ? "read.topic" : "own.declined")}</h2>
      <p>{t(other ? "read.topic.text" : "read.declined.text")}</p>
      {!other && route.own && (
        <button type="button" class="button" onClick={() => insist(route.own).then(course.again)}>
          {t("read.anyway")}
        </button>
      )}
      <Link to={{ ...EMPTY, view: "read", collection: route.collection }}>{t("read.other")}</Link>
    </div>
  );
}

// The image stays in sight while one writes.
function Subject({ route }: { route: Route }) {
  return <aside class="subject">{route.own ? <OwnSubject route={route} /> : <RecordSubject route={route} />}</aside>;
}

function OwnSubject({ route }: { route: Route }) {
  const image = useOwn(route.own);
  if (!image) return null;
  return (
    <>
      <OwnPicture image={image} />
      <p class="small soft">
        <span class="file-name">{image.name}</span> · {t("read.privacy")}{" "}
        <Link to={{ ...EMPTY, view: "read", collection: route.collection }}>{t("own.remove")}</Link>
      </p>
    </>
  );
}

function RecordSubject({ route }: { route: Route }) {
  const [look, change] = useState<Look>(PLAIN);
  const { value } = useData<StoredRecord>(`record ${route.collection} ${route.id}`, (signal) =>
    json(recordPath(route.id, route.collection), { signal }),
  );
  if (!value) return <span class="shot" />;
  // Its caption is the answer.
  const record = { ...value, caption: t("read.image") };
  return (
    <>
      <Stage record={record} look={look} change={change} />
      <Tools record={record} look={look} change={change} />
    </>
  );
}

const FACETS = [
  ["modality", "modality"],
  ["body_part", "body_part"],
  ["plane", "view"],
] as const;

const percent = (share: number): string => `${number(Math.round(100 * share))} %`;

function KindBox({ route, kind }: { route: Route; kind: Reads["ReadKind"] }) {
  const [changing, change] = useState(false);
  const known = FACETS.flatMap(([facet, name]) => {
    const found = kind[name];
    return found ? [{ facet, found }] : [];
  });
  return (
    <section class="box" aria-labelledby="kind">
      <div class="head">
        <h2 id="kind">{`1 · ${t("read.kind")}`}</h2>
        {known.map(({ facet, found }) => (
          <span class="tag" key={facet}>
            {`${valueName(found.value)}, `}
            {found.source === "classified"
              ? t(found.sure ? "read.kind.sure" : "read.kind.perhaps", { share: percent(found.score) })
              : t(`read.kind.${found.source}`)}
          </span>
        ))}
        {!known.length && <span class="soft">{t("read.kind.unknown")}</span>}
        <button type="button" class="link" aria-expanded={changing} onClick={() => change(!changing)}>
          {t("read.kind.change")}
        </button>
      </div>
      {kind.medical === "unsure" && <p class="soft small">{`${t("own.unsure")}.`}</p>}
      {changing && <Correction route={route} />}
    </section>
  );
}

function Correction({ route }: { route: Route }) {
  const facets = useFacets({ ...EMPTY, collection: route.collection });
  const choose = (facet: string, value: string) => {
    const { [facet]: _, ...where } = route.where;
    go({ ...route, where: value ? { ...where, [facet]: [value] } : where }, { replace: true });
  };
  return (
    <p class="line correction">
      {FACETS.map(([facet]) => {
        const chosen = route.where[facet]?.[0] ?? "";
        const values = (facets.find(({ name }) => name === facet)?.values ?? []).map(({ value }) => value);
        return (
          <label key={facet}>
            <span>{facetName(facet)}</span>
            <select value={chosen} onChange={(event) => choose(facet, event.currentTarget.value)}>
              <option value="">{t("read.kind.auto")}</option>
              {[...new Set([...(chosen ? [chosen] : []), ...values])].map((value) => (
                <option value={value} key={value}>
                  {valueName(value)}
                </option>
              ))}
            </select>
          </label>
        );
      })}
    </p>
  );
}

type Item = Reads["ChecklistItem"];

function NotesBox({ course, checklist }: { course: Course; checklist: Reads["ReadChecklist"] }) {
  const { notes, revealed } = course.session;
  const [at, choose] = useState(0);
  const items = checklist.items?.length
    ? checklist.items
    : [{ id: "", title: t("read.free"), text: checklist.notice ?? "", source: "" }];
  const item = items[at] ?? (items[0] as Item);
  const written = items.filter(({ id }) => notes[id]?.trim());
  return (
    <section class="box notes" aria-labelledby="look">
      <h2 id="look">{`2 · ${t("read.look")}`}</h2>
      <ul class="chips" aria-label={t("read.items")}>
        {items.map((each, index) => (
          <li key={each.id}>
            <button type="button" class="chip" aria-pressed={each === item} onClick={() => choose(index)}>
              {notes[each.id]?.trim() ? <span aria-hidden="true">✓</span> : ""} {each.title}
              {notes[each.id]?.trim() ? <span class="unseen">{t("read.written")}</span> : ""}
            </button>
          </li>
        ))}
      </ul>
      <p lang="en">{item.text}</p>
      <textarea
        rows={3}
        maxLength={2000}
        aria-label={t("read.write", { item: item.title })}
        placeholder={t("read.write", { item: item.title })}
        value={notes[item.id] ?? ""}
        onInput={(event) => course.set({ notes: { ...notes, [item.id]: event.currentTarget.value } })}
      />
      <div class="line">
        {at < items.length - 1 && (
          <button type="button" class="button" onClick={() => choose(at + 1)}>
            {t("read.next")}
          </button>
        )}
        {!revealed && (
          <button
            type="button"
            class={written.length ? "button primary" : "button"}
            onClick={() => course.set({ revealed: true })}
          >
            {t(written.length ? "read.reveal" : "read.skip")}
          </button>
        )}
        {written.length > 0 && <Download course={course} items={written} />}
      </div>
      <p class="soft small">{t("read.private")}</p>
    </section>
  );
}

/** The notes as a file, made in the browser. */
function Download({ course, items }: { course: Course; items: readonly Item[] }) {
  const { notes, reading } = course.session;
  const lines = [
    `MIRAGE · ${t("read")} · ${new Date().toLocaleDateString(language, { dateStyle: "long" })}`,
    reading.checklist?.title ?? "",
    ...items.map(({ id, title }) => `${title}: ${notes[id]?.trim()}`),
    t("read.disclaimer"),
  ];
  const text = lines.filter(Boolean).join("\n\n");
  return (
    <a class="button" download="notes.txt" href={`data:text/plain;charset=utf-8,${encodeURIComponent(text)}`}>
      {t("read.download")}
    </a>
  );
}

function Revealed({ route, course }: { route: Route; course: Course }) {
  const skill = useSkill(route);
  const { evidence, label, similar, context, done } = course.session.reading;
  const image = !route.q;
  // A label that is found no better than by chance is not shown, nor what is said about it.
  const said = label?.finding || (label?.state === "none" ? "none" : "");
  const hidden = image && Boolean(skill?.hidden.has(said));
  if (!skill) return <Waiting />;
  return (
    <>
      {evidence && <Evidence evidence={evidence} skill={skill} route={route} />}
      {evidence && <Readings session={course.session} skill={skill} route={route} />}
      {label && <LabelFound label={label} hidden={hidden} number={image ? "5 · " : ""} />}
      {similar && <Similar similar={similar} finding={hidden ? "" : (label?.finding ?? "")} route={route} />}
      {context && !hidden && <Context context={context} number={image ? "7 · " : ""} />}
      {!done && course.stop && <Waiting stop={course.stop} />}
    </>
  );
}

function Similar({ similar, finding, route }: { similar: Reads["ReadSimilar"]; finding: string; route: Route }) {
  const name = finding && valueName(finding);
  const both = route.q ? name || route.q : name;
  const others = similar.look_alikes ?? [];
  return (
    <Box id="similar" title={`${route.q ? "" : "6 · "}${t("read.similar")}`}>
      {!similar.results?.length && <p class="soft">{t("nothing")}</p>}
      {similar.results?.length ? (
        <>
          <h3>{both ? t(route.q ? "read.about.words" : "read.both", { label: both }) : t("read.nearest")}</h3>
          <Records records={similar.results} route={route} />
        </>
      ) : null}
      {finding && others.length > 0 && (
        <>
          <h3>{t("read.others", { label: name })}</h3>
          <Records records={others} route={route} />
        </>
      )}
    </Box>
  );
}

function Records({ records, route }: { records: NonNullable<Reads["ReadSimilar"]["results"]>; route: Route }) {
  return (
    <ul class="near">
      {records.map((each) => (
        <li class="card" key={each.id} data-id={each.id}>
          <Link
            class="shot"
            to={{ ...EMPTY, view: "image", id: each.id, collection: route.collection }}
            focus={each.id}
            aria-label={nameOf(each)}
          >
            <Picture url={each.thumbnail_url} alt="" width={256} height={256} lazy />
          </Link>
          <div class="about">
            <p class="caption">{nameOf(each)}</p>
            <Labels record={each} />
            <span class="source">{[each.source || t("source.unknown"), each.licence].filter(Boolean).join(" · ")}</span>
          </div>
        </li>
      ))}
    </ul>
  );
}

function Context({ context, number: step }: { context: Reads["ReadContext"]; number: string }) {
  const notes = context.notes ?? [];
  return (
    <Box id="context" title={`${step}${t("read.context")}`}>
      {!notes.length && <p class="soft">{t("read.context.none")}</p>}
      <ul class="known">
        {notes.map((each) => (
          <li key={each.provider + each.text}>
            {each.image && (
              <figure>
                <Inline data={each.image} type="image/jpeg" alt={each.title} />
                <figcaption class="soft small">
                  {t("read.note.image", { credit: each.image_credit || t("read.licence.none") })}
                </figcaption>
              </figure>
            )}
            <p>{each.text}</p>
            <p class="soft small">
              {each.provider === "glossary" ? t("read.glossary") : each.provider}
              {" · "}
              {/^https?:\/\//.test(each.url ?? "") ? (
                <a href={each.url} target="_blank" rel="noreferrer">
                  {each.title || each.url}
                </a>
              ) : (
                each.title
              )}
              {each.provider !== "glossary" && ` · ${each.licence || t("read.licence.none")}`}
            </p>
          </li>
        ))}
      </ul>
      {context.sent && <p class="soft small">{t("read.sent", { words: context.sent })}</p>}
      {context.notice && <Notice kind="plain">{context.notice}</Notice>}
    </Box>
  );
}

/** One step. */
export function Box({ id, title, children }: { id: string; title: string; children: ComponentChildren }) {
  return (
    <section class="box" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}
