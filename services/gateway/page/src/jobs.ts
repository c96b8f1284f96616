// Jobs of image generation: the gateway's calls, and what this tab remembers of them.

import { useEffect, useState } from "preact/hooks";
import { events, isAbort, type Job, json, Problem, problemOf, type StreamEvent } from "./api";
import { listOf, tab } from "./storage";

const KEY = "mirage-jobs";
const REMEMBERED = 20;
const LOST_MS = 60_000;
const AGAIN_MS = 1000;

export const ended = (job: Job): boolean => ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"].includes(job.state);

const pause = () => new Promise((done) => setTimeout(done, AGAIN_MS));
const path = (id: string) => `/v1/jobs/${encodeURIComponent(id)}`;

/** Creates a job. `seed` is a string of digits: as a number it could lose its last ones. Sent twice, it makes one job. */
export async function create({ seed, ...given }: Record<string, unknown> & { seed?: string }): Promise<Job> {
  const token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  const text = JSON.stringify({ ...given, request_id: token });
  const body = seed ? `${text.slice(0, -1)},"seed":${BigInt(seed)}}` : text;
  const send = () => json<Job>("/v1/jobs", { body });
  return send().catch(async (error: unknown) => {
    if (!(error instanceof Problem) || error.code !== "UNREACHABLE") throw error;
    await pause();
    return send();
  });
}

export const read = (id: string, signal?: AbortSignal): Promise<Job> => json(path(id), { signal });
export const cancel = (id: string): Promise<Job> => json(`${path(id)}/cancel`, { method: "POST" });

export function list(token = "", signal?: AbortSignal): Promise<{ jobs: Job[]; next_page_token?: string }> {
  const given = new URLSearchParams({ limit: "24", ...(token ? { page_token: token } : {}) });
  return json(`/v1/jobs?${given}`, { signal });
}

/** Yields the events of a job until it has ended; a connection that breaks is made again, for a minute of trouble. */
async function* watch(id: string, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  let troubleSince: number | null = null;
  for (;;) {
    try {
      yield* events(`${path(id)}/events`, { signal }, () => {
        troubleSince = null;
      });
      return;
    } catch (error) {
      troubleSince ??= performance.now();
      const passing = error instanceof Problem && error.passing;
      if (!passing || performance.now() - troubleSince > LOST_MS) throw error;
    }
    await pause();
    signal.throwIfAborted();
  }
}

interface Watched {
  job?: Job;
  /** An unfinished image as a data address. */
  preview: string;
  problem?: Problem;
}

/** Returns a job as it is, kept up to date until it has ended. */
export function useJob(first: Job | undefined): Watched & { set(job: Job): void } {
  const [watched, set] = useState<Watched>({ job: first, preview: "" });
  useEffect(() => {
    set({ job: first, preview: "" });
    if (!first || ended(first)) return;
    const controller = new AbortController();
    (async () => {
      for await (const { name, data } of watch(first.id, controller.signal))
        set((before) => (name === "preview" ? { ...before, preview: `${data.image}` } : { ...before, job: data }));
    })().catch((error: unknown) => isAbort(error) || set((before) => ({ ...before, problem: problemOf(error) })));
    return () => controller.abort();
  }, [first?.id]);
  return { ...watched, set: (job) => set((before) => ({ ...before, job })) };
}

interface Kept {
  prompt: string;
  id: string;
}

const kept = () =>
  listOf(
    tab,
    KEY,
    (each): each is Kept => typeof (each as Kept)?.prompt === "string" && typeof (each as Kept).id === "string",
  );

/** Returns the ids of the jobs that were made for a prompt in this tab, newest first. */
export const recall = (prompt: string): string[] =>
  kept()
    .filter((each) => each.prompt === prompt)
    .map(({ id }) => id);
export const remember = (prompt: string, id: string): void =>
  tab.set(KEY, JSON.stringify([{ prompt, id }, ...kept()].slice(0, REMEMBERED)));
export const forgetJob = (id: string): void => tab.set(KEY, JSON.stringify(kept().filter((each) => each.id !== id)));
