// Two searches next to each other: A and B, or a query before and after a change. The pair of images comes first.

import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { useRights } from "./access";
import { asks, EMPTY, type Route, TERMS_MAX, type Term, WEIGHT_MAX } from "./address";
import {
  type CompareReply,
  json,
  of,
  type Problem,
  recordPath,
  type SearchResult,
  type Shown,
  type StoredRecord,
} from "./api";
import { optionsOf } from "./asked";
import { differences, effect } from "./changes";
import { useData } from "./data";
import { Description } from "./describe";
import { useFacets } from "./filters";
import { Gate } from "./gate";
import { Generation, promptOf, useGenerator } from "./generate";
import { remember } from "./recent";
import { go, settled } from "./router";
import { useSearch } from "./search";
import { type Look, PLAIN, Stage, Tools } from "./stage";
import { t } from "./text";
import { Copy, Link, Notice, Picture, Waiting } from "./ui";
import { facetName, nameOf, valueName } from "./words";

const SHOWN = 12;
const asRecord = (side: string): string => (side.startsWith("id:") ? side.slice(3) : "");

export function Compare({ route }: { route: Route }) {
  const shift = route.tab === "shift";
  const tabs = [
    {
      name: t("compare.pair"),
      on: !shift,
      to: { ...EMPTY, view: "compare" as const, a: route.a || route.q, b: route.b, collection: route.collection },
    },
    {
      name: t("compare.shift"),
      on: shift,
      to: {
        ...EMPTY,
        view: "compare" as const,
        tab: "shift" as const,
        q: asRecord(route.a) ? "" : route.q || route.a,
        terms: asRecord(route.a) ? [{ kind: "id" as const, value: asRecord(route.a), weight: 1 }] : route.terms,
        minus: route.minus,
        plus: route.plus,
        collection: route.collection,
      },
    },
  ];
  useLayoutEffect(settled, []);
  return (
    <div class="compare">
      <h1 class="unseen" tabIndex={-1}>
        {t("compare")}
      </h1>
      <nav class="tabs" aria-label={t("compare")}>
        {tabs.map(({ name, on, to }) => (
          <Link key={name} to={to} replace aria-current={on ? "page" : undefined}>
            {name}
          </Link>
        ))}
      </nav>
      {shift ? <Shift route={route} /> : <Pair route={route} />}
    </div>
  );
}

// --- A and B

interface Side {
  records: Shown[];
  problem?: Problem;
  again: () => void;
  ready: boolean;
}

function useSide(side: string, route: Route): Side {
  const id = asRecord(side);
  const asked = { ...EMPTY, q: id ? "" : side, similar: id, collection: route.collection };
  const itself = useData<StoredRecord>(id && `record ${route.collection} ${id}`, (signal) =>
    json(recordPath(id, route.collection), { signal }),
  );
  const found = useSearch(asks(asked) ? asked : EMPTY);
  const records = (found.value?.results ?? []).slice(0, SHOWN);
  return {
    records: itself.value ? [itself.value, ...records] : id ? [] : records,
    problem: found.error ?? itself.error,
    again() {
      found.again();
      itself.again();
    },
    ready: Boolean(found.value && (!id || itself.value)),
  };
}

function Pair({ route }: { route: Route }) {
  const a = useSide(route.a, route);
  const b = useSide(route.b, route);
  const rights = useRights();
  const [describes, describe] = useState(false);
  const problem = a.problem ?? b.problem;
  const both = Boolean(route.a && route.b);
  useEffect(() => describe(false), [route]);
  useEffect(() => {
    if (both && a.ready && b.ready && !asRecord(route.a) && !asRecord(route.b))
      remember({
        name: t("compare.name", { a: route.a, b: route.b }),
        path: `?view=compare&${new URLSearchParams({ a: route.a, b: route.b })}`,
      });
  }, [a.ready, b.ready, route]);
  return (
    <>
      <Boxes route={route} a={a.records[0]} b={b.records[0]} />
      {problem && <Gate problem={problem} again={a.problem ? a.again : b.again} />}
      {!route.a && !route.b && <PairExamples route={route} />}
      {(route.a || route.b) && !problem && (
        <Sides
          key={`${route.a}|${route.b}`}
          names={[titleOf(route.a, a), titleOf(route.b, b)]}
          sides={[a, b]}
          asked={[route.a, route.b]}
          route={route}
        >
          {both && rights.can("describe") && (
            <button type="button" class="button" aria-expanded={describes} onClick={() => describe(!describes)}>
              {t("compare.explain")}
            </button>
          )}
        </Sides>
      )}
      {describes && (
        <Description
          route={route}
          sources={[...a.records.slice(0, 1), ...b.records.slice(0, 1)]}
          body={{ a: bodyOf(route.a, route), b: bodyOf(route.b, route) }}
        />
      )}
    </>
  );
}

const bodyOf = (side: string, route: Route) => ({
  ...(asRecord(side) ? { id: asRecord(side) } : { text: side }),
  ...optionsOf(route),
});
const titleOf = (side: string, { records }: Side): string =>
  asRecord(side) ? (records[0] ? nameOf(records[0]) : "") : side;

function Boxes({ route, a, b }: { route: Route; a?: Shown; b?: Shown }) {
  const [texts, setTexts] = useState([route.a, route.b]);
  const [hint, setHint] = useState(false);
  useEffect(() => setTexts([route.a, route.b]), [route.a, route.b]);
  const put = (index: number, text: string) => setTexts(texts.map((each, at) => (at === index ? text : each)));
  const submit = (event: Event) => {
    event.preventDefault();
    const [first = "", second = ""] = texts.map((each) => each.trim());
    setHint(!first || !second);
    if (first || second) go({ ...EMPTY, view: "compare", a: first, b: second, collection: route.collection });
  };
  return (
    <form class="boxes" role="search" onSubmit={submit}>
      {(["A", "B"] as const).map((name, index) => (
        <SideBox
          key={name}
          name={name}
          text={texts[index] ?? ""}
          record={[a, b][index]}
          put={(text) => put(index, text)}
        />
      ))}
      <button
        type="button"
        class="button"
        aria-label={t("compare.swap")}
        onClick={() => go({ ...route, a: route.b, b: route.a }, { replace: true })}
      >
        ⇄
      </button>
      <button type="submit" class="button primary">
        {t("compare")}
      </button>
      {hint && (
        <p class="hint" role="status">
          {t("compare.both")}
        </p>
      )}
    </form>
  );
}

function SideBox({
  name,
  text,
  record,
  put,
}: {
  name: string;
  text: string;
  record?: Shown;
  put: (text: string) => void;
}) {
  if (asRecord(text))
    return (
      <span class="side-box">
        <span class="letter">{name}</span>
        <span class="grow">{record ? nameOf(record) : asRecord(text)}</span>
        <button type="button" class="link" aria-label={t("compare.remove", { name })} onClick={() => put("")}>
          ×
        </button>
      </span>
    );
  return (
    <label class="side-box">
      <span class="letter">{name}</span>
      <input
        class="grow"
        value={text}
        maxLength={2000}
        autocomplete="off"
        aria-label={t("compare.side", { name })}
        placeholder={t("search.placeholder")}
        onInput={(event) => put(event.currentTarget.value)}
      />
    </label>
  );
}

// --- the pair of images

interface SidesProps {
  names: string[];
  sides: Side[];
  asked: string[];
  route: Route;
  children?: preact.ComponentChildren;
}

function Sides({ names, sides, asked, route, children }: SidesProps) {
  const [at, turn] = useState([0, 0]);
  const [looks, setLooks] = useState<Look[]>([PLAIN, PLAIN]);
  const [linked, link] = useState(true);
  const shown = sides.map(({ records }, index) => records[at[index] ?? 0]);
  const look = (index: number, next: Look) =>
    setLooks(looks.map((each, other) => (linked || other === index ? next : each)));
  const page = (index: number, to: number) => turn(at.map((each, other) => (other === index ? to : each)));
  const [first, second] = shown;
  const either = first ?? second;
  // What follows the pair comes at once, so that nothing of it moves.
  const ready = sides.every((side, index) => side.ready || !asked[index]);
  return (
    <>
      <div class="pair">
        {sides.map((side, index) => (
          <Half
            key={index}
            letter={"AB"[index] ?? ""}
            name={names[index] ?? ""}
            side={side}
            asked={Boolean(asked[index])}
            at={at[index] ?? 0}
            page={(to) => page(index, to)}
            look={looks[index] ?? PLAIN}
            change={(next) => look(index, next)}
            route={route}
          />
        ))}
      </div>
      {ready && either && (
        <div class="under">
          <button type="button" class="chip" aria-pressed={linked} onClick={() => link(!linked)}>
            {t("compare.linked")}
          </button>
          <Tools record={either} look={looks[0] ?? PLAIN} change={(next) => look(0, next)} />
          <span class="space" />
          {children}
          <Copy text={() => location.href}>{t("copy.link")}</Copy>
        </div>
      )}
      {ready && first && second && <Differences a={first} b={second} />}
      {ready &&
        sides.map((side, index) => (
          <Others key={index} letter={"AB"[index] ?? ""} {...side} at={at[index]} page={(to) => page(index, to)} />
        ))}
    </>
  );
}

interface OthersProps {
  letter: string;
  records: Shown[];
  at?: number;
  page: (to: number) => void;
}

function Others({ letter, records, at, page }: OthersProps) {
  if (records.length < 2) return null;
  const title = t("compare.more", { name: letter });
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      <ul class="strip">
        {records.map((record, number) => (
          <li key={record.id}>
            <button type="button" aria-current={number === at} aria-label={nameOf(record)} onClick={() => page(number)}>
              <Picture url={record.thumbnail_url} alt="" width={96} height={96} lazy />
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

interface HalfProps {
  letter: string;
  name: string;
  side: Side;
  asked: boolean;
  at: number;
  page: (to: number) => void;
  look: Look;
  change: (look: Look) => void;
  route: Route;
}

function Half({ letter, name, side, asked, at, page, look, change, route }: HalfProps) {
  const record = side.records[at];
  const count = side.records.length;
  const match = (record as SearchResult | undefined)?.section;
  return (
    <section class="half" aria-label={`${letter}: ${name}`}>
      <div class="head">
        <h2>
          {letter} · {name}
        </h2>
        {count > 1 && (
          <span class="pager">
            <button
              type="button"
              class="chip"
              disabled={!at}
              aria-label={t("image.previous")}
              onClick={() => page(at - 1)}
            >
              ‹
            </button>
            {t("compare.of", { n: at + 1, of: count })}
            <button
              type="button"
              class="chip"
              disabled={at + 1 >= count}
              aria-label={t("image.next")}
              onClick={() => page(at + 1)}
            >
              ›
            </button>
          </span>
        )}
      </div>
      {record ? (
        <Stage
          record={record}
          look={look}
          change={change}
          swipe={(by) => page(Math.max(0, Math.min(count - 1, at + by)))}
        />
      ) : (
        <div class="stage empty">
          {asked ? side.ready ? t("nothing") : <Waiting /> : t("compare.enter", { name: letter })}
        </div>
      )}
      <p class="caption">
        {record && (
          <>
            <Link to={{ ...EMPTY, view: "image", id: record.id, collection: route.collection }}>{nameOf(record)}</Link>{" "}
            {record.title ? record.caption : ""} <span class="soft">{record.source}</span>
            {match === "likeness" && <span class="soft"> · {t("compare.alike")}</span>}
          </>
        )}
      </p>
    </section>
  );
}

function Differences({ a, b }: { a: Shown; b: Shown }) {
  const rows = differences(a, b);
  return (
    <section class="box" aria-labelledby="differs">
      <h2 id="differs">{t("differs")}</h2>
      {rows.length ? (
        <table>
          <thead>
            <tr>
              <td />
              <th scope="col">A</th>
              <th scope="col">B</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ facet, sides }) => (
              <tr key={facet}>
                <th scope="row">{facetName(facet)}</th>
                {sides.map((values, index) => (
                  <td key={index}>
                    {values.length ? (
                      values.map((value) => valueName(value)).join(", ")
                    ) : (
                      <span class="soft">{t("differs.unsaid")}</span>
                    )}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p class="soft">{t("differs.not")}</p>
      )}
      <p class="soft small">{t("differs.from")}</p>
    </section>
  );
}

function PairExamples({ route }: { route: Route }) {
  const facets = useFacets({ ...EMPTY, collection: route.collection });
  const values = (name: string) =>
    (facets.find((facet) => facet.name === name)?.values ?? []).map(({ value }) => valueName(value)).slice(0, 3);
  const pairs = ["finding", "modality", "body_part"]
    .map(values)
    .flatMap(([first, second]) => (first && second ? [[first, second] as const] : []));
  return (
    <Examples
      links={pairs.slice(0, 3).map(([a, b]) => ({
        name: t("compare.name", { a, b }),
        to: { ...EMPTY, view: "compare", a, b, collection: route.collection },
      }))}
      text={t("compare.how")}
    />
  );
}

function Examples({ links, text }: { links: { name: string; to: Route }[]; text: string }) {
  return (
    <div class="examples">
      <p>{text}</p>
      <ul class="chips">
        {links.map(({ name, to }) => (
          <li key={name}>
            <Link class="chip" to={to}>
              {name}
            </Link>
          </li>
        ))}
      </ul>
    </div>
  );
}

// --- a query before and after a change

function Shift({ route }: { route: Route }) {
  // Without words, the first image among the terms is what is changed.
  const base = route.q ? undefined : route.terms.find(({ kind, weight }) => kind === "id" && weight > 0);
  const terms = route.terms.filter((each) => each !== base);
  const ready = Boolean((route.q || base) && (route.minus || route.plus || terms.length));
  const body = {
    ...(base ? { id: base.value } : { text: route.q }),
    ...(route.minus ? { minus: route.minus } : {}),
    ...(route.plus ? { plus: route.plus } : {}),
    ...(terms.length ? { terms: terms.map(({ kind, value, weight }) => ({ [kind]: value, weight })) } : {}),
    ...optionsOf(route),
    k: SHOWN,
  };
  const { value, error, again } = useData<CompareReply>(ready ? `shift ${JSON.stringify(body)}` : "", (signal) =>
    json("/v1/compare", { body, signal }),
  );
  const side = (results?: SearchResult[]): Side => ({ records: results ?? [], again, ready: Boolean(value) });
  const changed = [
    route.q,
    route.minus && `− ${route.minus}`,
    route.plus && `+ ${route.plus}`,
    ...route.terms.map(({ weight, value: term }) => `${weight < 0 ? "−" : "+"} ${term}`),
  ]
    .filter(Boolean)
    .join(" ");
  return (
    <>
      <ShiftForm route={route} />
      {error && <Gate problem={error} again={again} />}
      {!ready && <ShiftExamples route={route} />}
      {ready && !error && (
        <>
          <p class="effect" role="status">
            {value ? effect(value) : "\u00a0"}
          </p>
          {value?.base.match === "none" && <Notice>{t("none.title", { words: route.q })}</Notice>}
          <Sides
            key={changed}
            names={[route.q, changed]}
            sides={[side(value?.base.results), side(value?.shifted.results)]}
            asked={["1", "1"]}
            route={route}
          >
            {value && <ShiftActions route={route} sources={value.shifted.results} />}
          </Sides>
          {value && <Worked reply={value} />}
        </>
      )}
    </>
  );
}

function ShiftActions({ route, sources }: { route: Route; sources: SearchResult[] }) {
  const rights = useRights();
  const generator = useGenerator(true);
  const [panel, show] = useState("");
  const prompt = promptOf(route);
  const toggle = (name: string) => () => show(panel === name ? "" : name);
  return (
    <>
      {rights.can("describe") && (
        <button type="button" class="button" aria-expanded={panel === "describe"} onClick={toggle("describe")}>
          {t("explain")}
        </button>
      )}
      {generator && prompt && (
        <button type="button" class="button" aria-expanded={panel === "generate"} onClick={toggle("generate")}>
          {t("generate")}
        </button>
      )}
      {panel === "describe" && <Description route={route} sources={sources} />}
      {panel === "generate" && generator && <Generation prompt={prompt} model={generator} real={sources[0]} />}
    </>
  );
}

function Worked({ reply }: { reply: CompareReply }) {
  return (
    <details class="how">
      <summary>{t("how.worked")}</summary>
      <ul class="soft">
        <li>{t("how.shift", { value: reply.shift.toFixed(2) })}</li>
        {reply.shifted.query.terms?.map(({ label, weight, share }, index) => (
          <li key={index}>
            {t("how.share", {
              label: `${(weight ?? 1) < 0 ? "−" : "+"} ${label}`,
              share: Math.round((share ?? 0) * 100),
            })}
          </li>
        ))}
      </ul>
    </details>
  );
}

function ShiftForm({ route }: { route: Route }) {
  const [fields, setFields] = useState({ q: route.q, minus: route.minus, plus: route.plus });
  const [terms, setTerms] = useState<Term[]>(route.terms);
  const [hint, setHint] = useState(false);
  useEffect(() => {
    setFields({ q: route.q, minus: route.minus, plus: route.plus });
    setTerms(route.terms);
  }, [route]);
  const submit = (event: Event) => {
    event.preventDefault();
    const used = terms.filter(({ value, weight }) => value.trim() && weight);
    const image = used.some(({ kind }) => kind === "id") ? 1 : 0;
    setHint(!(fields.q.trim() || image) || !(fields.minus.trim() || fields.plus.trim() || used.length > image));
    go({
      ...EMPTY,
      view: "compare",
      tab: "shift",
      q: fields.q.trim(),
      minus: fields.minus.trim(),
      plus: fields.plus.trim(),
      terms: used,
      where: route.where,
      mode: route.mode,
      collection: route.collection,
    });
  };
  const names = { q: t("shift.q"), minus: t("shift.minus"), plus: t("shift.plus") };
  return (
    <form class="boxes" role="search" onSubmit={submit}>
      {(Object.keys(names) as (keyof typeof names)[]).map((name) => (
        <label class="side-box" key={name}>
          <span class="letter">{names[name]}</span>
          <input
            class="grow"
            name={name}
            maxLength={2000}
            autocomplete="off"
            value={fields[name]}
            onInput={(event) => setFields({ ...fields, [name]: event.currentTarget.value })}
          />
        </label>
      ))}
      <button type="submit" class="button primary">
        {t("compare")}
      </button>
      {hint && (
        <p class="hint" role="status">
          {t("shift.fill")}
        </p>
      )}
      <Advanced terms={terms} set={setTerms} />
    </form>
  );
}

function Advanced({ terms, set }: { terms: Term[]; set: (terms: Term[]) => void }) {
  return (
    <details class="advanced" open={terms.length > 0}>
      <summary>{t("shift.advanced")}</summary>
      <p class="soft small">{t("shift.advanced.text")}</p>
      {terms.map((term, index) => (
        <Weighted
          key={index}
          term={term}
          put={(next) => set(terms.map((each, at) => (at === index ? next : each)))}
          remove={() => set(terms.filter((_, at) => at !== index))}
        />
      ))}
      {terms.length < TERMS_MAX && (
        <button type="button" class="button" onClick={() => set([...terms, { kind: "text", value: "", weight: 1 }])}>
          {t("shift.add")}
        </button>
      )}
    </details>
  );
}

function Weighted({ term, put, remove }: { term: Term; put: (term: Term) => void; remove: () => void }) {
  const { value } = useData<StoredRecord>(term.kind === "id" ? `record  ${term.value}` : "", (signal) =>
    json(of(term.value), { signal }),
  );
  return (
    <p class="line weighted">
      {term.kind === "id" ? (
        <span class="line">
          {value && <Picture url={value.thumbnail_url} alt="" width={40} height={40} />}{" "}
          {value ? nameOf(value) : term.value}
        </span>
      ) : (
        <input
          aria-label={t("shift.term")}
          maxLength={2000}
          value={term.value}
          onInput={(event) => put({ ...term, value: event.currentTarget.value })}
        />
      )}
      <label class="line">
        {t("shift.less")}
        <input
          type="range"
          min={-WEIGHT_MAX}
          max={WEIGHT_MAX}
          step={0.1}
          value={term.weight}
          aria-label={t("shift.weight", { name: term.value })}
          aria-valuetext={String(term.weight)}
          onInput={(event) => put({ ...term, weight: Number(event.currentTarget.value) })}
        />
        {t("shift.more")} <output>{term.weight}</output>
      </label>
      <button type="button" class="link" onClick={remove} aria-label={t("shift.remove", { name: term.value })}>
        ×
      </button>
    </p>
  );
}

function ShiftExamples({ route }: { route: Route }) {
  const facets = useFacets({ ...EMPTY, collection: route.collection });
  const values = (name: string) =>
    (facets.find((facet) => facet.name === name)?.values ?? [])
      .filter(({ value }) => value !== "none")
      .map(({ value }) => value);
  const [part = ""] = values("body_part");
  const links = ["plane", "sequence", "modality"].flatMap((facet) => {
    const [first, second] = values(facet)
      .slice(0, 2)
      .map((value) => valueName(value));
    if (!first || !second) return [];
    const q = `${first} ${part}`;
    return [
      {
        name: t("shift.name", { from: first, to: second }),
        to: {
          ...EMPTY,
          view: "compare" as const,
          tab: "shift" as const,
          q,
          minus: first,
          plus: second,
          collection: route.collection,
        },
      },
    ];
  });
  return <Examples links={links.slice(0, 3)} text={t("shift.how")} />;
}
