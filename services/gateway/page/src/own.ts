// Own images: read in this browser, sent with a search only, kept under a key in this browser alone.

import { Problem } from "./api";
import { t } from "./text";

export interface OwnImage {
  key: string;
  name: string;
  file: Blob;
  /** The reader wants to search with what does not seem to be a medical image. */
  insist?: boolean;
}

/** As it is stored: a private window of Safari stores no Blob. */
interface Stored {
  key: string;
  name: string;
  type: string;
  bytes: ArrayBuffer;
}

const BYTES_MAX = 20 * 2 ** 20;
const KEPT = 8;
const memory = new Map<string, OwnImage>();

/** Stores an image and returns its key; raises a problem for a file that cannot be searched with. */
export async function keep(file: File): Promise<string> {
  const name = file.name || t("own.pasted");
  if (!file.size) throw refusal("IMAGE_EMPTY", "own.empty", name);
  if (file.size > BYTES_MAX) throw refusal("IMAGE_TOO_LARGE", "own.large", name);
  const head = await file
    .slice(0, 132)
    .arrayBuffer()
    .catch(() => null);
  if (!head) throw refusal("IMAGE_UNREADABLE", "own.unreadable", name);
  const kind = foreign(new Uint8Array(head));
  if (kind) throw refusal("IMAGE_FORMAT_UNSUPPORTED", kind, name);
  const bytes = await file.arrayBuffer();
  const stored: Stored = { key: token(), name, type: file.type, bytes };
  memory.set(stored.key, image(stored));
  await store((images) => images.put(stored)).catch(() => null);
  await clean().catch(() => null);
  return stored.key;
}

export async function find(key: string): Promise<OwnImage | null> {
  const kept = memory.get(key);
  if (kept) return kept;
  const stored = await store<Stored | undefined>((images) => images.get(key)).catch(() => undefined);
  // An earlier version stored it in another form.
  if (!stored?.bytes) return null;
  memory.set(key, image(stored));
  return memory.get(key) ?? null;
}

const image = ({ key, name, type, bytes }: Stored): OwnImage => ({ key, name, file: new Blob([bytes], { type }) });

/** Returns an image that a link names. Raises a problem if it is gone. */
export async function given(key: string): Promise<OwnImage> {
  const found = await find(key);
  if (!found)
    throw new Problem({ code: "IMAGE_GONE", title: t("own.gone"), detail: t("own.gone.detail"), status: 410 });
  return found;
}

let grouped: string[] = [];

/** Remembers that images were given together. */
export const group = (keys: string[]): void => {
  grouped = keys;
};

/** Returns the keys of the images that were given together with one, itself among them. */
export const groupOf = (key: string): string[] => (grouped.includes(key) ? grouped : [key]);

export async function insist(key: string): Promise<void> {
  const image = await find(key);
  if (image) image.insist = true;
}

/** Returns an image file as base64, as requests carry it. */
export function base64(file: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result).replace(/^[^,]*,/, "")));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

const refusal = (code: string, text: Parameters<typeof t>[0], name: string) =>
  new Problem({ code, title: t("own.refused", { name }), detail: t(text), status: 422 });

// GIF, BMP, TIFF, gzip and NIfTI.
const OTHERS = ["GIF8", "BM", "II*\0", "MM\0*", "\u001f\u008b", "\u005c\u0001"];

// Files that readers often try, told by their first bytes; the server knows all others.
function foreign(head: Uint8Array): Parameters<typeof t>[0] | null {
  const text = String.fromCharCode(...head);
  if (text.startsWith("%PDF")) return "own.pdf";
  if (/^.{4}ftyp(hei|hev|mif1|msf1)/s.test(text)) return "own.heic";
  if (OTHERS.some((start) => text.startsWith(start))) return "own.format";
  return null;
}

const token = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function database(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("mirage", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("own", { keyPath: "key" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

async function store<T>(act: (images: IDBObjectStore) => IDBRequest): Promise<T> {
  const opened = await database();
  try {
    return await new Promise<T>((resolve, reject) => {
      const asked = act(opened.transaction("own", "readwrite").objectStore("own"));
      asked.onsuccess = () => resolve(asked.result as T);
      asked.onerror = () => reject(asked.error);
    });
  } finally {
    opened.close();
  }
}

// The oldest images go; keys are in no order, so a list is kept by age of use in memory only.
async function clean(): Promise<void> {
  const keys = await store<string[]>((images) => images.getAllKeys());
  const spare = keys.filter((key) => !memory.has(key)).slice(0, Math.max(0, keys.length - KEPT));
  for (const key of spare) await store((images) => images.delete(key));
}
