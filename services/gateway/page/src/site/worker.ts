// The worker of a site: answers the page's requests one by one, so that the page never waits for a search.

import { Failure } from "./failure";
import { Site } from "./server";

export type ToWorker =
  | { kind: "open"; root: string }
  | { kind: "request"; id: number; path: string; body?: unknown }
  | { kind: "keep" }
  | { kind: "consent" };

export type FromWorker =
  | { kind: "reply"; id: number; status: number; body: unknown }
  | { kind: "file"; id: number; path: string }
  | { kind: "progress"; what: "data" | "model" | "all"; progress: { done: number; total: number } | null }
  | { kind: "consent"; bytes: number }
  | { kind: "limited" }
  | { kind: "kept"; problem?: string; full: boolean };

const scope = self as unknown as { postMessage(message: FromWorker): void; onmessage: unknown };
const tell = (message: FromWorker) => scope.postMessage(message);

let agree: () => void = () => {};
let agreed: Promise<void> | null = null;
let site: Site | null = null;

function open(root: string): Site {
  const made = new Site(root, {
    progress: (what, progress) => tell({ kind: "progress", what, progress }),
    consent(bytes) {
      agreed ??= new Promise((resolve) => {
        agree = resolve;
      });
      tell({ kind: "consent", bytes });
      return agreed;
    },
    limited: () => tell({ kind: "limited" }),
  });
  made.warm().catch(() => {}); // a request will say what is wrong
  return made;
}

// The catalogue's text, or a code of the site that the page has words for.
async function problemOf(error: unknown): Promise<{ status: number; body: unknown }> {
  const failure = error instanceof Failure ? error : new Failure("SITE_FAILED", { reason: String(error) });
  const { code, metadata } = failure;
  const head = code.startsWith("SITE_") ? null : await site?.head().catch(() => null);
  const [status = 500, title = "", template = ""] = head?.errors[code] ?? [];
  const detail = template.replace(/\{(\w+)\}/g, (_, name: string) => metadata[name] ?? "…");
  return { status, body: { code, status, title, detail, metadata } };
}

async function answer(id: number, path: string, body: unknown): Promise<void> {
  try {
    const reply = await site?.answer(path, body);
    if (typeof reply === "string") tell({ kind: "file", id, path: reply });
    else tell({ kind: "reply", id, status: 200, body: reply });
  } catch (error) {
    tell({ kind: "reply", id, ...(await problemOf(error)) });
  }
}

scope.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "open") site = open(data.root);
  if (data.kind === "request") answer(data.id, data.path, data.body);
  if (data.kind === "consent") agree();
  if (data.kind === "keep")
    site?.keep().then(
      () => tell({ kind: "kept", full: site?.full ?? false }),
      (error: unknown) =>
        tell({
          kind: "kept",
          problem: error instanceof Failure ? error.code : "SITE_FAILED",
          full: site?.full ?? false,
        }),
    );
};
