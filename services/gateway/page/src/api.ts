// The gateway's JSON. A failure is a Problem: the catalogue's code and text, as the server gave them.

import type { components } from "../generated/api";
import { here, type Route, type Where } from "./address";
import { headersOf, taken } from "./early";
import { EventParser } from "./events";
import { t } from "./text";

type Schemas = components["schemas"];
export type SearchReply = Schemas["SearchReply"];
export type SearchResult = Schemas["SearchResult"];
export type StoredRecord = Schemas["Record"];
export type Shown = SearchResult | StoredRecord;
export type Facet = Schemas["Facet"];
export type ImageGuess = Schemas["ImageGuess"];
export type Region = Schemas["Region"];
export type Model = Schemas["Model"];
export type Job = Schemas["Job"];
export type Building = Schemas["Building"];
export type Collection = Schemas["Collection"];
export type Evaluation = Schemas["Evaluation"];
export type Figure = Evaluation["figures"][number];
export type HardCase = Evaluation["hard_cases"][number];
export type Rating = Schemas["Rating"];
export type Question = Rating["questions"][number];
export type Answer = Rating["answers"][number];
export type CompareReply = Schemas["CompareReply"];
export type Reads = Pick<Schemas, Extract<keyof Schemas, `Read${string}` | "ChecklistItem" | "LabelEvidence">>;

interface ProblemDocument {
  code?: string;
  title?: string;
  detail?: string;
  status?: number;
  metadata?: Record<string, string>;
  request_id?: string;
  retry_after_s?: number;
}

export class Problem extends Error {
  readonly code: string;
  readonly title: string;
  readonly status: number;
  readonly metadata: Record<string, string>;
  readonly requestId: string;
  readonly retryAfter: number;

  constructor(document: ProblemDocument) {
    super(document.detail || document.title || t("problem.failed"));
    this.code = document.code ?? "INTERNAL";
    this.title = document.title ?? t("problem.failed");
    this.status = document.status ?? 0;
    this.metadata = document.metadata ?? {};
    this.requestId = document.request_id ?? "";
    this.retryAfter = document.retry_after_s ?? 0;
  }

  /** True if the same request may succeed later. */
  get passing(): boolean {
    return [0, 429, 503, 504].includes(this.status);
  }
}

/** Returns an error of any kind as a problem; one of the page's own is logged. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ code: "PAGE", title: t("problem.page"), detail: t("problem.reload"), status: 500 });
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";
const unreachable = () =>
  navigator.onLine
    ? new Problem({ code: "UNREACHABLE", title: t("problem.unreachable"), detail: t("problem.unreachable.detail") })
    : new Problem({ code: "OFFLINE", title: t("problem.offline"), detail: t("problem.offline.detail") });

type Transport = (path: string, asked: RequestInit) => Promise<Response>;
let transport: Transport = (path, asked) => taken(path, asked.body, asked.signal) ?? fetch(here(path), asked);
/** Sends requests elsewhere than to the gateway: a static site answers them itself. */
export const use = (other: Transport): void => {
  transport = other;
};

export interface Options {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
  accept?: string;
}

export async function request(path: string, { method, body, signal, accept }: Options = {}): Promise<Response> {
  const headers = { ...(accept ? { accept } : {}), ...headersOf(body !== undefined) };
  const sent = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
  const asked = { method: method ?? (body === undefined ? "GET" : "POST"), headers, body: sent, signal };
  const response = await transport(path, asked).catch((error: unknown) => {
    throw isAbort(error) ? error : unreachable();
  });
  if (!response.ok) throw new Problem(await response.json().catch(() => ({ status: response.status })));
  return response;
}

/** Returns the reply. Seeds go beyond what a JavaScript number holds exactly: a long one becomes a string. */
export async function json<T>(path: string, options?: Options): Promise<T> {
  return exact<T>(await (await request(path, options)).text());
}

// A quotation mark within a string of JSON is escaped, so that only a field's name is found.
const exact = <T>(text: string): T => JSON.parse(text.replace(/"seed":(\d{16,})/g, '"seed":"$1"')) as T;

export interface StreamEvent {
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: each event has a shape of its own, which its reader knows
  data: any;
}

/** Yields the events of a stream up to `done`; `heard` is called at each, and at a silent server's comments. */
export async function* events(path: string, options: Options, heard = () => {}): AsyncGenerator<StreamEvent> {
  const response = await request(path, { ...options, accept: "text/event-stream" });
  if (!response.body) throw unreachable();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  const broken = new Problem({ code: "UNREACHABLE", title: t("problem.unreachable"), detail: t("problem.broken") });
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw isAbort(error) ? error : broken;
      });
      if (done) throw broken;
      for (const { name, data } of parser.feed(value)) {
        heard();
        if (!name) continue;
        const event: StreamEvent = { name, data: exact(data) };
        if (name === "error") throw new Problem(event.data.problem);
        yield event;
        if (name === "done") return;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Returns the parameters of a reading call: filter, atlas and others, those that are empty left out. */
export function parameters(route: Route, others: Record<string, string | number> = {}): URLSearchParams {
  const given = filter(route.where);
  for (const [name, value] of Object.entries({ ...others, collection: route.collection }))
    if (value) given.set(name, String(value));
  return given;
}

function filter(where: Where): URLSearchParams {
  const given = new URLSearchParams();
  for (const [facet, values] of Object.entries(where))
    for (const value of values) given.append("where", `${facet}=${value}`);
  return given;
}

export const of = (id: string): string => `/v1/records/${encodeURIComponent(id)}`;

/** Returns the parameter that names an atlas other than the active one, with its question mark. */
export const within = (collection: string): string => (collection ? `?${new URLSearchParams({ collection })}` : "");
export const recordPath = (id: string, collection: string): string => of(id) + within(collection);
