// A reading as its events come, and the notes of whoever looks: kept while this page is open, and nowhere else.

import { useEffect, useState } from "preact/hooks";
import type { Route } from "./address";
import {
  type Evaluation,
  events,
  isAbort,
  json,
  type Problem,
  problemOf,
  type Reads,
  type StreamEvent,
  within,
} from "./api";
import { useData } from "./data";
import * as own from "./own";

export interface Reading {
  kind?: Reads["ReadKind"];
  checklist?: Reads["ReadChecklist"];
  evidence?: Reads["ReadEvidence"];
  steps: Reads["ReadStep"][];
  label?: Reads["ReadLabel"];
  similar?: Reads["ReadSimilar"];
  context?: Reads["ReadContext"];
  done?: Reads["ReadDone"];
}

export const UNREAD: Reading = { steps: [] };
const ONCE = ["kind", "checklist", "evidence", "label", "similar", "context", "done"];

/** Returns the reading after an event of the stream. */
export function taken(before: Reading, { name, data }: StreamEvent): Reading {
  if (name === "reading") return { ...before, steps: [...before.steps, data] };
  return ONCE.includes(name) ? { ...before, [name]: data } : before;
}

/** What is read: an own image, a record, or a question. Notes belong to it, whatever kind of image it is said to be. */
export interface Session {
  notes: Record<string, string>;
  revealed: boolean;
  /** The request that the reading answers. */
  asked: string;
  reading: Reading;
}

const KEPT = 8;
const sessions = new Map<string, Session>();

export const subjectOf = ({ own, id, q, collection }: Route): string => JSON.stringify([own, id, q, collection]);

export function sessionOf(route: Route): Session {
  const subject = subjectOf(route);
  const session = sessions.get(subject) ?? { notes: {}, revealed: Boolean(route.q), asked: "", reading: UNREAD };
  sessions.delete(subject);
  sessions.set(subject, session);
  for (const oldest of [...sessions.keys()].slice(0, -KEPT)) sessions.delete(oldest);
  return session;
}

/** Returns the kind that a route says: the facets modality, body_part and plane of its filter. */
export function correctionOf({ where }: Route): Record<string, string> {
  const said = { modality: where.modality?.[0], body_part: where.body_part?.[0], view: where.plane?.[0] };
  return Object.fromEntries(Object.entries(said).flatMap(([name, value]) => (value ? [[name, value]] : [])));
}

async function bodyOf(route: Route): Promise<Record<string, unknown>> {
  const given = route.collection ? { collection: route.collection } : {};
  if (route.q) return { ...given, text: route.q };
  const kind = correctionOf(route);
  const body = Object.keys(kind).length ? { ...given, kind } : given;
  if (route.id) return { ...body, record_id: route.id };
  const image = await own.given(route.own);
  return { ...body, image: await own.base64(image.file), ...(image.insist ? { accept_any_image: true } : {}) };
}

export interface Course {
  session: Session;
  problem: Problem | null;
  /** Stops the reading; null if none is under way. */
  stop: (() => void) | null;
  again: () => void;
  /** Changes the notes, or shows what was hidden. */
  set: (change: Partial<Session>) => void;
}

/** Reads what a route names, and again if the kind changes. A reading that was finished is shown at once. */
export function useReading(route: Route): Course {
  const session = sessionOf(route);
  const asked = JSON.stringify(correctionOf(route));
  const [, redraw] = useState(0);
  const [problem, fail] = useState<Problem | null>(null);
  const [stop, setStop] = useState<AbortController | null>(null);
  const [turn, again] = useState(0);
  const set = (change: Partial<Session>) => {
    Object.assign(session, change);
    redraw((count) => count + 1);
  };
  useEffect(() => {
    fail(null);
    if (session.reading.done && session.asked === asked) return;
    const controller = new AbortController();
    setStop(controller);
    // What is corrected stays in sight until the new reading says it.
    const { kind, checklist } = session.reading;
    set({ reading: { ...UNREAD, kind, checklist }, asked });
    const follow = async () => {
      const options = { body: await bodyOf(route), signal: controller.signal };
      for await (const event of events("/v1/read", options)) set({ reading: taken(session.reading, event) });
    };
    follow()
      .catch((error: unknown) => isAbort(error) || controller.signal.aborted || fail(problemOf(error)))
      .finally(() => setStop((now) => (now === controller ? null : now)));
    return () => controller.abort();
  }, [subjectOf(route), asked, turn]);
  return {
    session,
    problem,
    stop: stop && (() => stop.abort()),
    again() {
      set({ asked: "" });
      again(turn + 1);
    },
    set,
  };
}

export interface Skill {
  /** False if nobody measured readings of this atlas. */
  measured: boolean;
  /** Labels that readings of this atlas do not find better than chance would. */
  hidden: ReadonlySet<string>;
}

/** Returns the labels of a stored evaluation of readings whose interval includes chance. */
export function skillOf(evaluations: readonly Evaluation[]): Skill {
  const found = evaluations.find(({ subject }) => subject === "read");
  const hidden = (found?.figures ?? [])
    .filter(({ name, group, low, chance }) => name === "AUROC" && group && (low ?? 0) <= (chance ?? 0.5))
    .map(({ group }) => group.replace(/^finding /, ""));
  return { measured: Boolean(found), hidden: new Set(hidden) };
}

/** Returns how well labels are found, or nothing while it is not known; without an answer nothing was measured. */
export function useSkill({ collection }: Route): Skill | undefined {
  const query = within(collection);
  const { value, error } = useData<{ evaluations: Evaluation[] }>(`quality ${query}`, (signal) =>
    json(`/v1/quality${query}`, { signal }),
  );
  return value || error ? skillOf(value?.evaluations ?? []) : undefined;
}

/** True if a text names a label that is not to be shown. */
export function namesHidden(text: string, { hidden }: Skill): boolean {
  const words = text.toLowerCase();
  return [...hidden].some((label) => label !== "none" && words.includes(label.toLowerCase()));
}
