// The small parts that all views are made of. Text is always text: nothing that comes from the atlas is read as HTML.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { EMPTY, here, isStatic, type Route } from "./address";
import { type Problem, request, type Shown } from "./api";
import { addressOf, go, route } from "./router";
import { key } from "./storage";
import { t } from "./text";
import { labelsOf } from "./words";

interface LinkProps {
  to: Route;
  from?: string;
  focus?: string;
  replace?: boolean;
  class?: string;
  title?: string;
  children?: ComponentChildren;
  "aria-label"?: string;
  "aria-describedby"?: string;
  "aria-current"?: "page";
}

/** A real link that the page follows by itself; a new tab and the like are the browser's. */
export function Link({ to, from, focus, replace, ...rest }: LinkProps) {
  const follow = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)
      return;
    event.preventDefault();
    go(to, { from, focus, replace });
  };
  return <a {...rest} href={addressOf(to)} onClick={follow} />;
}

interface PictureProps {
  url: string;
  alt: string;
  width?: number;
  height?: number;
  /** A larger file of the same picture, for screens that can show it. */
  larger?: { url: string; width: number };
  lazy?: boolean;
}

/** An image of the gateway. With a key it is fetched with the key and shown from memory. */
export function Picture({ url, alt, larger, lazy, ...rest }: PictureProps) {
  const [broken, setBroken] = useState(false);
  const [source, setSource] = useState(key.get() ? "" : here(url));
  useEffect(() => {
    setBroken(false);
    if (!key.get()) return setSource(here(url));
    let address = "";
    const controller = new AbortController();
    request(url, { signal: controller.signal })
      .then((response) => response.blob())
      .then((blob) => {
        address = URL.createObjectURL(blob);
        setSource(address);
      })
      .catch(() => controller.signal.aborted || setBroken(true));
    return () => {
      controller.abort();
      URL.revokeObjectURL(address);
    };
  }, [url]);
  if (broken) return <span class="broken">{t("image.broken")}</span>;
  const both = larger && !key.get() && larger.width > 256;
  const attributes = both ? { srcset: `${here(url)} 256w, ${here(larger.url)} ${larger.width}w`, sizes: "256px" } : {};
  return (
    <img
      {...rest}
      {...attributes}
      {...(source ? { src: source } : {})}
      alt={alt}
      loading={lazy ? "lazy" : "eager"}
      decoding="async"
      draggable={false}
      onError={() => setBroken(true)}
    />
  );
}

interface InlineProps {
  /** In base64. */
  data: string;
  type: "image/png" | "image/jpeg";
  alt: string;
  width?: number;
  height?: number;
}

/** An image that came in an answer, shown from memory. */
export function Inline({ data, type, alt, ...rest }: InlineProps) {
  const [source, setSource] = useState("");
  useEffect(() => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type }));
    setSource(address);
    return () => URL.revokeObjectURL(address);
  }, [data]);
  return source ? <img {...rest} src={source} alt={alt} /> : null;
}

/** Saves a file of the gateway. A plain link does it, but cannot carry a key. */
export async function save(event: MouseEvent, url: string, name: string): Promise<void> {
  if (!key.get()) return;
  event.preventDefault();
  const response = await request(url).catch(() => null);
  if (!response) return;
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}

/** Text with the spans (in characters) that were asked for highlighted. */
export function Marked({ text, spans = [] }: { text: string; spans?: readonly (readonly number[])[] }) {
  if (!spans.length) return <>{text}</>;
  const characters = [...text];
  const parts: ComponentChildren[] = [];
  let at = 0;
  for (const [start = 0, end = 0] of spans) {
    parts.push(characters.slice(at, start).join(""), <mark>{characters.slice(start, end).join("")}</mark>);
    at = end;
  }
  return (
    <>
      {parts}
      {characters.slice(at).join("")}
    </>
  );
}

export function Labels({ record }: { record: Shown }) {
  const labels = labelsOf(record);
  if (!labels.length) return null;
  return (
    <ul class="labels" aria-label={t("labels")}>
      {labels.map(({ facet, text }) => (
        <li key={facet + text}>{text}</li>
      ))}
    </ul>
  );
}

export function Notice({
  kind = "doubt",
  children,
}: {
  kind?: "doubt" | "bad" | "plain";
  children: ComponentChildren;
}) {
  return (
    <div class={`notice ${kind}`}>
      {children} {kind === "doubt" && <HowGood />}
    </div>
  );
}

/** A link from a doubt to the figures of this atlas. */
export function HowGood() {
  return (
    <p class="small">
      <Link to={{ ...EMPTY, view: "quality", collection: route().collection }}>{t("doubt.quality")}</Link>
    </p>
  );
}

interface FailureProps {
  problem: Problem;
  again?: () => void;
  /** True if it takes the place of the whole view. */
  whole?: boolean;
  children?: ComponentChildren;
}

/** What went wrong, in the server's words, with a way on. */
export function Failure({ problem, again, whole, children }: FailureProps) {
  const Heading = whole ? "h1" : "h2";
  return (
    <div class="failure" role="alert">
      <Heading>{problem.title}</Heading>
      <p>{problem.message}</p>
      {children}
      {again && problem.passing && <Again seconds={problem.retryAfter} again={again} />}
      <p class="soft small">
        <code>{problem.code}</code>
        {problem.requestId && ` · ${t("problem.request", { id: problem.requestId })}`}
      </p>
    </div>
  );
}

// A server that says when to come again is not asked before. A device that is online again asks by itself.
function Again({ seconds, again }: { seconds: number; again: () => void }) {
  const [left, setLeft] = useState(Math.min(60, Math.ceil(seconds)));
  const waiting = seconds >= 2 && left > 0;
  useEffect(() => {
    addEventListener("online", again);
    return () => removeEventListener("online", again);
  }, []);
  useEffect(() => {
    if (!waiting) return;
    const timer = setTimeout(() => setLeft(left - 1), 1000);
    return () => clearTimeout(timer);
  }, [left, waiting]);
  return (
    <p>
      <button type="button" class="button" disabled={waiting} onClick={again}>
        {waiting ? t("again.in", { n: left }) : t("again")}
      </button>
    </p>
  );
}

/** Says that an answer takes long, and offers to stop waiting once it takes very long. */
export function Waiting({ stop }: { stop?: () => void }) {
  const [stage, setStage] = useState(0);
  useEffect(() => {
    const timers = [setTimeout(() => setStage(1), 2000), setTimeout(() => setStage(2), 10_000)];
    return () => timers.forEach(clearTimeout);
  }, []);
  return (
    <p class="soft waiting" role="status">
      {stage === 1 && t(isStatic ? "waiting.slow.site" : "waiting.slow")}
      {stage === 2 && `${t("waiting.long")} `}
      {stage === 2 && stop && (
        <button type="button" class="link" onClick={stop}>
          {t("stop")}
        </button>
      )}
    </p>
  );
}

/** A button that copies a text and says so. */
export function Copy({
  text,
  children,
  class: kind = "button",
}: {
  text: () => string;
  children: string;
  class?: string;
}) {
  const [done, setDone] = useState<boolean | null>(null);
  const copy = () =>
    navigator.clipboard.writeText(text()).then(
      () => setDone(true),
      () => setDone(false),
    );
  return (
    <>
      <button type="button" class={kind} onClick={copy}>
        {done ? t("copied") : children}
      </button>
      {done === false && (
        <input
          class="copy"
          readOnly
          value={text()}
          aria-label={children}
          onFocus={(event) => event.currentTarget.select()}
        />
      )}
      <span class="unseen" role="status">
        {done ? t("copied") : ""}
      </span>
    </>
  );
}

/** Makes the controls within one tab stop: arrow keys move among them. Returns what to put on their container. */
export function useRoving(selector: string, columns = false) {
  const place = useRef<HTMLDivElement & HTMLUListElement>(null);
  const items = () => [...(place.current?.querySelectorAll<HTMLElement>(selector) ?? [])];
  useEffect(() => {
    const all = items();
    const active = all.find((each) => each.tabIndex === 0 && each.dataset.roving) ?? all[0];
    for (const each of all) {
      each.dataset.roving = "1";
      each.tabIndex = each === active ? 0 : -1;
    }
  });
  return {
    ref: place,
    onFocusIn(event: FocusEvent) {
      const all = items();
      const active = all.find((each) => each === event.target);
      if (active) for (const each of all) each.tabIndex = each === active ? 0 : -1;
    },
    onKeyDown(event: KeyboardEvent) {
      const all = items();
      const at = all.indexOf(event.target as HTMLElement);
      if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
      const step = columns ? perRow(all) : 1;
      const moves: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: all.length - 1 - at };
      if (columns) Object.assign(moves, { ArrowDown: step, ArrowUp: -step });
      const next = moves[event.key] === undefined ? undefined : all[at + (moves[event.key] ?? 0)];
      if (!next) return;
      event.preventDefault();
      next.focus();
    },
  };
}

// How many of the items are in the first row.
function perRow(all: HTMLElement[]): number {
  const top = all[0]?.getBoundingClientRect().top;
  const next = all.findIndex((each) => Math.abs(each.getBoundingClientRect().top - (top ?? 0)) > 4);
  return next < 0 ? all.length : next;
}

/** Closes an open menu at Escape and at a click elsewhere. */
export function useDismiss(open: boolean, close: () => void) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const press = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
      place.current?.querySelector("button")?.focus();
    };
    const click = (event: Event) => place.current?.contains(event.target as Node) || close();
    document.addEventListener("keydown", press, true);
    document.addEventListener("pointerdown", click);
    return () => {
      document.removeEventListener("keydown", press, true);
      document.removeEventListener("pointerdown", click);
    };
  }, [open]);
  return place;
}

/** True for a key that a text field, a list or the browser wants for itself. */
export const isTyping = (event: KeyboardEvent): boolean =>
  event.ctrlKey ||
  event.metaKey ||
  event.altKey ||
  (event.target instanceof HTMLElement && event.target.matches("input, select, textarea, [contenteditable]"));
