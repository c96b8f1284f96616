// The files of the site: downloaded in parts, kept in the browser's cache, checked before they are used.

import { Failure } from "./failure";

export interface SiteFile {
  parts: [string, number][];
  size: number;
  bytes: number;
  packed: boolean;
  sha256?: string;
}

/** What is being downloaded: bytes so far, of all. */
export interface Progress {
  done: number;
  total: number;
}

/** Returns the cache of a site; null without a secure context, or if the browser stores nothing: then everything works, once. */
export async function cacheOf(root: string): Promise<Cache | null> {
  try {
    return await caches.open(`mirage ${root}`);
  } catch {
    return null;
  }
}

/** Reads files below `root`, and those of the folder `model` from `assets` if they are on another host. */
export class Files {
  readonly #root: string;
  readonly #assets: string;
  readonly #cache: Promise<Cache | null>;
  /** True once the browser refused to keep a file. */
  full = false;

  constructor(root: string, assets: string) {
    this.#root = root;
    this.#assets = assets;
    this.#cache = cacheOf(root);
  }

  addressOf = (path: string): string =>
    new URL(path.replace(/^\//, ""), this.#assets && path.startsWith("model/") ? this.#assets : this.#root).href;

  /** Returns how many bytes of some files are still to be downloaded. */
  async missing(files: SiteFile[]): Promise<number> {
    const cache = await this.#cache;
    const parts = files.flatMap(({ parts }) => parts);
    const found = await Promise.all(parts.map(([path]) => cache?.match(this.addressOf(path)).catch(() => undefined)));
    return parts.reduce((size, [, length], at) => (found[at] ? size : size + length), 0);
  }

  /** Returns a file's content; raises a Failure if it cannot be had, or is not whole. */
  async read(file: SiteFile, progress: (bytes: number) => void = () => {}): Promise<ArrayBuffer> {
    const parts: Uint8Array[] = [];
    for (const [path, length] of file.parts) parts.push(await this.#part(path, length, progress));
    const stored = joined(parts);
    // A host may have unpacked it on the way.
    const isPacked = file.packed && stored[0] === 0x1f && stored[1] === 0x8b;
    const content = isPacked ? await unpacked(stored) : (stored.buffer as ArrayBuffer);
    if (content.byteLength !== file.bytes || !(await isRight(content, file.sha256))) {
      const cache = await this.#cache;
      for (const [path] of file.parts) await cache?.delete(this.addressOf(path));
      throw new Failure("SITE_DAMAGED", { file: file.parts[0]?.[0] ?? "" });
    }
    return content;
  }

  async #part(path: string, length: number, progress: (bytes: number) => void): Promise<Uint8Array> {
    const address = this.addressOf(path);
    const cache = await this.#cache;
    const kept = await cache?.match(address).catch(() => undefined);
    if (kept) {
      const content = new Uint8Array(await kept.arrayBuffer());
      if (content.length === length) return content;
      await cache?.delete(address);
    }
    const response = await fetch(address).catch(() => {
      throw new Failure("SITE_UNREACHABLE", { file: path });
    });
    if (!response.ok) throw new Failure("SITE_CHANGED", { file: path });
    const content = await received(response, path, progress);
    if (content.length === length)
      await cache?.put(address, new Response(content as BufferSource)).catch(() => {
        this.full = true;
      });
    return content;
  }

  /** Keeps a file as it is, so that it is there without a network. */
  async keep(path: string): Promise<void> {
    const cache = await this.#cache;
    const address = this.addressOf(path);
    if (!cache) throw new Failure("SITE_STORAGE");
    if (await cache.match(address)) return;
    const response = await fetch(address).catch(() => {
      throw new Failure("SITE_UNREACHABLE", { file: path });
    });
    if (!response.ok) throw new Failure("SITE_CHANGED", { file: path });
    await cache.put(address, response).catch(() => {
      throw new Failure("SITE_STORAGE");
    });
  }
}

async function received(response: Response, path: string, progress: (bytes: number) => void): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const reader = response.body?.getReader();
  for (;;) {
    const next = await reader?.read().catch(() => {
      throw new Failure("SITE_UNREACHABLE", { file: path });
    });
    if (!next?.value) return joined(pieces);
    pieces.push(next.value);
    progress(next.value.length);
  }
}

function joined(pieces: Uint8Array[]): Uint8Array {
  if (pieces.length === 1 && pieces[0]?.byteLength === pieces[0]?.buffer.byteLength) return pieces[0] as Uint8Array;
  const whole = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

const unpacked = (packed: Uint8Array): Promise<ArrayBuffer> =>
  new Response(new Response(packed as BufferSource).body?.pipeThrough(new DecompressionStream("gzip")))
    .arrayBuffer()
    .catch(() => new ArrayBuffer(0));

// A page that is not served over HTTPS cannot compute digests: the length has to do.
async function isRight(content: ArrayBuffer, sha256: string | undefined): Promise<boolean> {
  if (!sha256 || !globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}
