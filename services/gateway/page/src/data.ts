// What was read from the gateway, kept so that Back shows it at once. One entry for each request.

import { useLayoutEffect, useState } from "preact/hooks";
import { isAbort, type Problem, problemOf } from "./api";

interface Entry {
  value?: unknown;
  error?: Problem;
}

const KEPT = 60;
const entries = new Map<string, Entry>();

interface Pending {
  answer: Promise<unknown>;
  controller: AbortController;
  users: number;
}

// Requests that are under way: parts that need the same answer wait for one request, which ends with the last of them.
const pending = new Map<string, Pending>();

function start<T>(name: string, load: (signal: AbortSignal) => Promise<T>): Pending {
  const controller = new AbortController();
  const started = { answer: load(controller.signal), controller, users: 0 };
  const ended = () => pending.get(name) === started && pending.delete(name);
  started.answer.then(ended, ended);
  pending.set(name, started);
  return started;
}

function put(name: string, entry: Entry): void {
  entries.delete(name);
  entries.set(name, entry);
  for (const oldest of entries.keys()) {
    if (entries.size <= KEPT) break;
    entries.delete(oldest);
  }
}

/** Forgets everything, as after another key was given. */
export function forget(): void {
  entries.clear();
  pending.clear();
}

export interface Data<T> {
  value?: T;
  error?: Problem;
  again(): void;
  /** Replaces the value, as by one with a further page. */
  set(value: T): void;
}

/** Returns what `load` gives for a name; an empty name asks for nothing. */
export function useData<T>(name: string, load: (signal: AbortSignal) => Promise<T>): Data<T> {
  const [, redraw] = useState(0);
  const [attempt, setAttempt] = useState(0);
  const entry = (name && entries.get(name)) || {};
  // The name stands for all that `load` depends on.
  useLayoutEffect(() => {
    if (!name || entries.get(name)?.value !== undefined) return;
    const shared = pending.get(name) ?? start(name, load);
    shared.users += 1;
    let left = false;
    const settle = (found: Entry) => {
      if (left) return;
      put(name, found);
      redraw((count) => count + 1);
    };
    shared.answer.then(
      (value) => settle({ value }),
      (error: unknown) => isAbort(error) || settle({ error: problemOf(error) }),
    );
    return () => {
      left = true;
      shared.users -= 1;
      if (shared.users) return;
      if (pending.get(name) === shared) pending.delete(name);
      shared.controller.abort();
    };
  }, [name, attempt]);
  return {
    value: entry.value as T | undefined,
    error: entry.error,
    again() {
      entries.delete(name);
      setAttempt((count) => count + 1);
    },
    set(value) {
      put(name, { value });
      redraw((count) => count + 1);
    },
  };
}
