// What is around every view: the bar with the search box, the footer, and the form for a key.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Atlas, useRights } from "./access";
import { EMPTY, isStatic, type Route } from "./address";
import { json, type Problem } from "./api";
import { forget, useData } from "./data";
import * as own from "./own";
import { recent } from "./recent";
import { go, refresh, route as shown } from "./router";
import { key } from "./storage";
import { choose, type Language, language, languages, number, t } from "./text";
import { Link, useRoving } from "./ui";

const ACCEPT = "image/png,image/jpeg,image/webp,application/dicom,.dcm,.heic,.pdf";

/** The one search box: words, or an own image. */
export function SearchBox({ route, large }: { route: Route; large?: boolean }) {
  const [text, setText] = useState(route.q);
  const [hint, setHint] = useState(false);
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => setText(route.q), [route.q, route.similar, route.own]);
  const submit = (event: Event) => {
    event.preventDefault();
    setHint(!text.trim());
    if (!text.trim()) return box.current?.focus();
    // The filter and the way of searching stay; everything else was of another question.
    const kept = route.view === "search" ? { where: route.where, mode: route.mode } : {};
    go({ ...EMPTY, ...kept, q: text.trim(), collection: route.collection });
  };
  return (
    <form class={large ? "search large" : "search"} role="search" onSubmit={submit} noValidate>
      <input
        id="q"
        ref={box}
        type="search"
        name="q"
        maxLength={2000}
        autocomplete="off"
        enterkeyhint="search"
        aria-label={t("search.label")}
        aria-describedby={hint ? "q-hint" : undefined}
        placeholder={t("search.placeholder")}
        list="recent"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <datalist id="recent">
        {recent().map(({ name }) => (
          <option value={name} key={name} />
        ))}
      </datalist>
      <FileButton />
      <button type="submit" class={large ? "button primary" : "unseen"} tabIndex={large ? 0 : -1}>
        {t("search")}
      </button>
      {hint && (
        <p id="q-hint" class="hint" role="status">
          {t("search.empty")}
        </p>
      )}
    </form>
  );
}

export function FileButton() {
  return (
    <label class="file">
      <input
        id="own"
        type="file"
        multiple
        aria-label={t("own.use")}
        accept={ACCEPT}
        onChange={(event) => {
          take([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
      <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
        <path d="M3 5h3l1.5-2h5L14 5h3v11H3zM10 7.5a3.2 3.2 0 1 0 .01 0z" />
      </svg>
      <span>{t("own.use")}</span>
    </label>
  );
}

let refused: (problem: Problem | null) => void = () => {};

/** Searches with (or reads) the first of the files that a reader chose, dropped or pasted; the others are offered next to it. */
export async function take(files: File[]): Promise<void> {
  if (!files.length) return;
  refused(null);
  const kept: string[] = [];
  let problem: Problem | null = null;
  for (const file of files.slice(0, 8)) {
    try {
      kept.push(await own.keep(file));
    } catch (error) {
      problem = error as Problem;
    }
  }
  if (kept.length) {
    own.group(kept);
    const { view, collection } = shown();
    go(view === "read" ? { ...EMPTY, view, own: kept[0] ?? "", collection } : { ...EMPTY, own: kept[0] ?? "" });
  }
  if (problem) refused(problem);
}

/** A file that could not be taken; said without losing what is shown. */
export function Refused() {
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    refused = setProblem;
  }, []);
  if (!problem) return null;
  return (
    <div class="toast" role="alert">
      <p>
        <strong>{problem.title}</strong> {problem.message}
      </p>
      <button type="button" class="link" onClick={() => setProblem(null)}>
        {t("close")}
      </button>
    </div>
  );
}

export function Bar({ route }: { route: Route }) {
  const home = { ...EMPTY, collection: route.collection };
  const compares = route.view === "compare";
  const reads = route.view === "read";
  const rights = useRights();
  // One tab stop, so that few come before the first result.
  const roving = useRoving("a");
  const boxed =
    route.view !== "docs" &&
    // Who rates must not look up where an item came from.
    route.view !== "rate" &&
    !compares &&
    !(reads && !route.q && !route.own && !route.id) &&
    !(route.view === "search" && !route.q && !route.own && !route.similar && !filtered(route));
  return (
    <header class="bar">
      <div class="wide">
        <Link class="brand" to={home} aria-label="MIRAGE">
          <svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
            <circle cx="10" cy="10" r="8" />
          </svg>
          <span>MIRAGE</span>
        </Link>
        {boxed ? <SearchBox route={route} /> : <span class="space" />}
        <nav aria-label={t("nav")} {...roving}>
          <Link
            to={{ ...EMPTY, view: "compare", a: route.view === "search" ? route.q : "", collection: route.collection }}
            aria-current={compares ? "page" : undefined}
          >
            {t("compare")}
          </Link>
          {rights.can("read") && (
            <Link
              to={{ ...EMPTY, view: "read", own: route.own, collection: route.collection }}
              aria-current={reads ? "page" : undefined}
            >
              {t("view.read")}
            </Link>
          )}
        </nav>
        <span class="purpose">{t("purpose")}</span>
      </div>
    </header>
  );
}

const filtered = (route: Route): boolean =>
  route.browse || route.terms.length > 0 || Object.keys(route.where).length > 0;

export function Foot({ route, children }: { route: Route; children?: ComponentChildren }) {
  const rights = useRights();
  const [asking, ask] = useState(false);
  const generates = rights.can("create_job");
  return (
    <footer class="foot-bar">
      <div class="wide">
        <p class="purpose-line">{t("purpose.long")}</p>
        {children}
        <p>
          {generates && <Link to={{ ...EMPTY, view: "generated" }}>{t("generated")}</Link>}
          <Link to={{ ...EMPTY, view: "quality", collection: route.collection }}>{t("view.quality")}</Link>
          <Link to={{ ...EMPTY, view: "about" }}>{t("about")}</Link>
          {!isStatic && <Link to={{ ...EMPTY, view: "docs" }}>{t("docs")}</Link>}
          {rights.visitor && (
            <button type="button" class="link" onClick={() => ask(!asking)}>
              {t("key.use")}
            </button>
          )}
          <Atlases route={route} />
          <select
            aria-label={t("language")}
            value={language}
            onChange={(event) => {
              choose(event.currentTarget.value as Language);
              refresh();
            }}
          >
            {Object.entries(languages).map(([code, { name }]) => (
              <option value={code} key={code} lang={code}>
                {name}
              </option>
            ))}
          </select>
        </p>
        {asking && <KeyForm />}
      </div>
    </footer>
  );
}

/** A menu of atlases, if there are several. The one that is chosen is part of every address. */
function Atlases({ route }: { route: Route }) {
  const rights = useRights();
  const name = rights.can("list_collections") ? "collections" : "";
  const { value } = useData<{ collections: Atlas[] }>(name, (signal) => json("/v1/collections", { signal }));
  const atlases = (value?.collections ?? []).filter(({ records }) => records > 0);
  if (atlases.length < 2) return null;
  const active = atlases.find((each) => each.active)?.name ?? "";
  const change = (chosen: string) =>
    go({
      ...EMPTY,
      view: route.view === "image" ? "search" : route.view,
      q: route.q,
      a: route.a,
      b: route.b,
      collection: chosen === active ? "" : chosen,
    });
  return (
    <label>
      {t("atlas")}{" "}
      <select value={route.collection || active} onChange={(event) => change(event.currentTarget.value)}>
        {atlases.map(({ name: each, records }) => (
          <option value={each} key={each}>{`${each} (${number(records)})`}</option>
        ))}
      </select>
    </label>
  );
}

/** Asks for a key; what is shown is asked for again with it. */
export function KeyForm({ wrong, asked }: { wrong?: boolean; asked?: boolean }) {
  const [value, setValue] = useState("");
  const use = (given: string) => {
    key.set(given);
    forget();
    refresh();
  };
  return (
    <form
      class="failure"
      onSubmit={(event) => {
        event.preventDefault();
        if (value.trim()) use(value.trim());
      }}
    >
      <h2>{asked ? t("key.asked") : t("key.use")}</h2>
      <p>{wrong ? t("key.wrong") : t("key.who")}</p>
      <p class="line">
        <label>
          {t("key")}{" "}
          <input
            type="password"
            autocomplete="off"
            required
            value={value}
            onInput={(event) => setValue(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="button primary">
          {t("key.continue")}
        </button>
      </p>
      <p class="soft small">{t("key.kept")}</p>
      {key.get() && (
        <button type="button" class="link" onClick={() => use("")}>
          {t("key.without")}
        </button>
      )}
    </form>
  );
}
