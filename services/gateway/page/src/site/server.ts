// What a server would answer, from the files of the site.

import type { StoredRecord } from "../api";
import { Atlas, filterOf, widened } from "./atlas";
import type { EncodedText, Encoder, EncoderHead, Role } from "./encoder";
import { Failure } from "./failure";
import { cacheOf, Files, type Progress, type SiteFile } from "./files";
import { type Answer, type Body, type Calibration, type CompareBody, Search } from "./search";
import { Lexicon } from "./words";

export const FORMAT = 3;

export interface SiteHead {
  format: number;
  title: string;
  records: number;
  collection: { calibration: { kinds: Record<string, Calibration> } | null; fingerprint: string };
  encoder: EncoderHead;
  displays: Record<string, Record<string, string>>;
  queries: string[];
  errors: Record<string, [number, string, string]>;
  assets: string;
  /** Endings of images by their media type; empty if there are thumbnails alone. */
  images: Record<string, string>;
  files: Record<string, SiteFile>;
}

/** What the worker tells the page. */
export interface Notes {
  progress(what: "data" | "model" | "all", progress: Progress | null): void;
  /** Asks before a large download, of so many bytes. */
  consent(bytes: number): Promise<void>;
  /** Says that this browser cannot run the model. */
  limited(): void;
}

// What a reader may do without a server: the page offers to explain, and says why it cannot.
const MAY = ["search", "read_records", "read_models", "read_quality", "classify", "describe"];
const SERVER_ONLY = /^\/v1\/(describe|read|jobs|flags)\b|\/flags$/;
const ASKED_BYTES = 50 * 2 ** 20;
const K_MAX = 100;
// As many as a browser asks one host for over HTTP/1.1.
const AT_ONCE = 6;

/** Keeps what a function returned, until it fails. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = null;
      throw error;
    });
    return made;
  };
}

export class Site {
  readonly #root: string;
  readonly #notes: Notes;
  readonly #open = once(() => this.#load());
  #files: Files | null = null;

  constructor(root: string, notes: Notes) {
    this.#root = root;
    this.#notes = notes;
  }

  async #load() {
    const head = await this.head();
    const files = new Files(this.#root, head.assets);
    this.#files = files;
    const file = (name: string): SiteFile => {
      const found = head.files[name];
      if (!found) throw new Failure("SITE_DAMAGED", { file: name });
      return found;
    };
    const json = async <T>(name: string): Promise<T> =>
      JSON.parse(new TextDecoder().decode(await files.read(file(name)))) as T;
    const atlas = new Atlas(await json<StoredRecord[]>("records"), head);
    const details = once(async () => atlas.complete(await json<Partial<StoredRecord>[]>("details")));
    const about = once(() => json<{ models: unknown[]; quality: unknown[] }>("about"));
    const encoder = once(async () => {
      const { Encoder } = await import("./encoder");
      return new Encoder(head.encoder, head.files, files);
    });
    const image = once(async () => widened(await files.read(file("vectors"))));
    const caption = once(async () => widened(await files.read(file("captions"))));
    let hasVectors = false;
    const search = new Search({
      atlas,
      fingerprint: head.encoder.fingerprint,
      kinds: head.collection.calibration?.kinds ?? {},
      lexicon: once(async () => new Lexicon(await files.read(file("words")), atlas.records.length)),
      vectors: async (space) => {
        const rows = await (space === "image" ? image() : caption());
        hasVectors ||= space === "image";
        return rows;
      },
      answers: once(() => json<Record<string, Answer>>("answers")),
      text: this.#texts(files, encoder),
      image: this.#images(files, encoder),
    });
    const answers = once(() => json<Record<string, Answer>>("answers"));
    const near = once(async () => nearOf(await files.read(file("neighbours")), atlas.records.length));
    return { head, files, atlas, details, about, search, answers, near, image, hasVectors: () => hasVectors };
  }

  /** Returns the description of the site, always the newest if there is a network. */
  async head(): Promise<SiteHead> {
    const address = new URL("site.json", this.#root);
    const response = await fetch(address, { cache: "no-cache" }).catch(() =>
      cacheOf(this.#root).then((cache) => cache?.match(address)),
    );
    if (!response) throw new Failure("SITE_UNREACHABLE", { file: "site.json" });
    if (!response.ok) throw new Failure("SITE_CHANGED", { file: "site.json" });
    const head = (await response.json().catch(() => null)) as SiteHead | null;
    if (!head) throw new Failure("SITE_DAMAGED", { file: "site.json" });
    if (head.format !== FORMAT) throw new Failure("SITE_CHANGED", { file: "site.json" });
    return head;
  }

  #texts(files: Files, encoder: () => Promise<Encoder>) {
    const kept = new Map<string, EncodedText>();
    return async (text: string): Promise<EncodedText> => {
      const known = kept.get(text);
      if (known) return known;
      const found = await this.#loading(files, encoder, "text", (made, count) => made.text(text, count));
      if (kept.size > 200) kept.clear();
      kept.set(text, found);
      return found;
    };
  }

  #images(files: Files, encoder: () => Promise<Encoder>) {
    const kept = new Map<string, Float32Array>();
    return async (base64: string): Promise<Float32Array> => {
      const known = kept.get(base64);
      if (known) return known;
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const file = new Blob([bytes]);
      const found = await this.#loading(files, encoder, "image", (made, count) => made.image(file, count));
      kept.clear();
      kept.set(base64, found);
      return found;
    };
  }

  // Runs the model; says the size of what has to be downloaded first, and asks if it is large.
  async #loading<T>(
    files: Files,
    encoder: () => Promise<Encoder>,
    role: Role,
    run: (made: Encoder, count: (bytes: number) => void) => Promise<T>,
  ): Promise<T> {
    const made = await encoder();
    if (!made.runs) {
      this.#notes.limited();
      throw new Failure("SITE_NO_SIMD");
    }
    const total = made.has(role) ? 0 : await files.missing(made.filesOf(role));
    if (!total) return run(made, () => {});
    if (total > ASKED_BYTES) await this.#notes.consent(total);
    let done = 0;
    this.#notes.progress("model", { done, total });
    try {
      return await run(made, (bytes) => {
        done += bytes;
        this.#notes.progress("model", { done, total });
      });
    } finally {
      this.#notes.progress("model", null);
    }
  }

  /** Downloads all that is needed without a network. */
  async keep(): Promise<void> {
    const { head, files, atlas, details } = await this.#open();
    await details();
    const paths = new Set(Object.values(head.files).flatMap(({ parts }) => parts.map(([path]) => path)));
    for (const { thumbnail_url, image_url } of atlas.records) {
      paths.add(thumbnail_url);
      paths.add(image_url);
    }
    for (const record of atlas.records as (StoredRecord & { regions_url?: string })[])
      if (record.regions_url) paths.add(record.regions_url);
    const left = paths.values();
    let done = 0;
    let problem: unknown = null;
    const keep = async () => {
      for (const path of left) {
        if (problem) return;
        try {
          await files.keep(path);
        } catch (error) {
          problem ??= error;
        }
        done += 1;
        this.#notes.progress("all", { done, total: paths.size });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, keep));
    this.#notes.progress("all", null);
    if (problem) throw problem;
  }

  /** Reads in advance what searches need, but not the model. */
  async warm(): Promise<void> {
    const { details, answers, near, image } = await this.#open();
    await details();
    await answers();
    await near();
    await image();
  }

  /** True if the browser could not keep a file. */
  get full(): boolean {
    return this.#files?.full ?? false;
  }

  /** Answers a request of the page; a string is the path of a file to send instead. */
  async answer(path: string, body: unknown): Promise<unknown> {
    const { pathname, searchParams } = new URL(path, "http://site");
    if (SERVER_ONLY.test(pathname)) throw new Failure("SITE_NEEDS_SERVER");
    const [, , name = "", id = "", part = ""] = pathname.split("/").map(decodeURIComponent);
    const { head, atlas, details, about, search } = await this.#open();
    // Lists of records, as on the start page, are shown without.
    const isDetailed = body !== undefined || ["cases", "images"].includes(name) || (name === "records" && id);
    if (isDetailed) await details();
    if (body !== undefined && name === "search") return search.search(body as Body);
    if (body !== undefined && name === "compare") return search.compare(body as CompareBody);
    if (name === "classify") return { guess: { kind: "unknown", medical_score: 0, facets: [] } };
    if (name === "access") return { role: "read", may: MAY };
    if (name === "models") return { models: (await about()).models };
    if (name === "quality") return { evaluations: (await about()).quality };
    if (name === "collection" || name === "collections")
      return id || name === "collection" ? head.collection : { collections: [] };
    if (name === "facets")
      return { facets: atlas.facets(filterIn(searchParams), Number(searchParams.get("limit") ?? 50)) };
    if (name === "common-queries") return { queries: head.queries };
    if (name === "cases") return atlas.case(id);
    if (name === "records") return this.#records(id, part, searchParams);
    if (name === "images" && part === "regions") {
      const { regions_url } = atlas.at(atlas.placeOf(id)) as StoredRecord & { regions_url?: string };
      if (regions_url) return regions_url;
      throw new Failure("REGIONS_NOT_FOUND");
    }
    throw new Failure("ROUTE_NOT_FOUND");
  }

  async #records(id: string, part: string, given: URLSearchParams): Promise<unknown> {
    const { atlas, search, near, hasVectors, image } = await this.#open();
    const { where, not } = filterIn(given);
    const page_token = given.get("page_token") ?? "";
    if (!id) {
      const limit = Math.min(K_MAX, Number(given.get("limit") ?? K_MAX));
      const options = { order: given.get("order") ?? "newest", seed: given.get("seed") ?? 0 };
      const reply = await search.search({ k: limit, where, not, page_token, ...options });
      const { results, total, next_page_token } = reply;
      return { records: results.map((each) => atlas.at(atlas.placeOf(each.id))), total, next_page_token };
    }
    const place = atlas.placeOf(id);
    if (part !== "similar") return atlas.at(place);
    const asked: Body = { k: Number(given.get("k") ?? 10), where, not, page_token };
    if (!hasVectors() && !page_token) {
      // They are on their way, for the next time.
      image().catch(() => {});
      return search.neighbours(id, (await near())[place] ?? [], asked);
    }
    return search.search({ ...asked, id, vectors: "image", exclude: [id] });
  }
}

function filterIn(given: URLSearchParams) {
  const side = (name: string) => {
    const found: Record<string, string[]> = {};
    for (const each of given.getAll(name)) {
      const cut = each.indexOf("=");
      found[each.slice(0, cut)] = [...(found[each.slice(0, cut)] ?? []), each.slice(cut + 1)];
    }
    return filterOf(found);
  };
  return { where: side("where"), not: side("not"), exclude: new Set<string>() };
}

// Places and cosines of each record's nearest others, in two arrays one after the other.
function nearOf(file: ArrayBuffer, records: number): [number, number][][] {
  const count = file.byteLength / 8 / records;
  const places = new Uint32Array(file, 0, records * count);
  const scores = new Float32Array(file, 4 * records * count);
  return Array.from({ length: records }, (_, row) =>
    Array.from({ length: count }, (__, at): [number, number] => [
      places[row * count + at] ?? 0,
      scores[row * count + at] ?? 0,
    ]),
  );
}
