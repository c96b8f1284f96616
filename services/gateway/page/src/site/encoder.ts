// The encoder in the browser: ONNX Runtime (WebAssembly), the bundle's tokenizer, and an own image's pixels.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web/wasm";
import { preview } from "../preview";
import { Failure } from "./failure";
import type { Files, SiteFile } from "./files";
import { type ImageInput, preprocess, type Rgb } from "./pixels";

export interface EncoderHead {
  fingerprint: string;
  dimension: number;
  output_name: string;
  text: {
    cleaning: "lower" | "whitespace" | "canonicalize";
    context_length: number;
    start_id: number;
    end_id: number;
    input_name: string;
  };
  image: ImageInput & { input_name: string };
  data: Record<string, string[]>;
}

export interface EncodedText {
  vector: Float32Array;
  tokens: number;
  truncated: boolean;
}

export type Role = "text" | "image";
const SIDE_MIN = 16;
const PIXELS_MAX = 50_000_000;

// One function of one type with a SIMD instruction: a browser that does not know it cannot run the model.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

/** Downloads what it needs when it is first asked. */
export class Encoder {
  readonly #head: EncoderHead;
  readonly #files: Record<string, SiteFile>;
  readonly #source: Files;
  readonly #sessions = new Map<Role, Promise<ort.InferenceSession>>();
  #runtime: Promise<void> | null = null;
  #tokenizer: Promise<Tokenizer> | null = null;

  constructor(head: EncoderHead, files: Record<string, SiteFile>, source: Files) {
    this.#head = head;
    this.#files = files;
    this.#source = source;
  }

  /** Returns the files that a role needs. */
  filesOf(role: Role): SiteFile[] {
    const names = ["runtime", role, ...(this.#head.data[role] ?? []).map((path) => `data:${path}`)];
    if (role === "text") names.push("tokenizer");
    return names.flatMap((name) => this.#files[name] ?? []);
  }

  /** True if a role's model is there or on its way. */
  has = (role: Role): boolean => this.#sessions.has(role);

  /** True if this browser can run the model. */
  readonly runs = typeof WebAssembly === "object" && WebAssembly.validate(Uint8Array.from(SIMD));

  async text(given: string, progress: (bytes: number) => void): Promise<EncodedText> {
    const { text } = this.#head;
    this.#tokenizer ??= this.#read("tokenizer", progress).then((content) => tokenizerOf(content));
    const tokenizer = await this.#tokenizer.catch((error: unknown) => {
      this.#tokenizer = null;
      throw error;
    });
    const content = tokenizer.encode(cleaned(given, text.cleaning), { add_special_tokens: false }).ids;
    if (!content.length) throw new Failure("TERM_EMPTY");
    const ids = [text.start_id, ...content.slice(0, text.context_length - 2), text.end_id];
    const input = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const vector = await this.#run("text", text.input_name, input, progress);
    return { vector, tokens: content.length + 2, truncated: content.length + 2 > ids.length };
  }

  async image(file: Blob, progress: (bytes: number) => void): Promise<Float32Array> {
    const { image } = this.#head;
    const pixels = preprocess(await decoded(file), image);
    const input = new ort.Tensor("float32", pixels, [1, 3, image.size, image.size]);
    return this.#run("image", image.input_name, input, progress);
  }

  async #run(role: Role, name: string, input: ort.Tensor, progress: (bytes: number) => void): Promise<Float32Array> {
    const session = await this.#session(role, progress);
    const { [this.#head.output_name]: output } = await session.run({ [name]: input });
    const vector = Float32Array.from((output?.data ?? []) as Float32Array);
    const length = Math.hypot(...vector);
    if (vector.length !== this.#head.dimension || !(length > 0)) throw new Failure("SITE_MODEL_FAILED");
    return vector.map((component) => component / length);
  }

  #session(role: Role, progress: (bytes: number) => void): Promise<ort.InferenceSession> {
    const kept = this.#sessions.get(role);
    if (kept) return kept;
    const made = this.#load(role, progress).catch((error: unknown) => {
      this.#sessions.delete(role);
      throw error instanceof Failure ? error : new Failure("SITE_MODEL_FAILED", { reason: String(error) });
    });
    this.#sessions.set(role, made);
    return made;
  }

  async #load(role: Role, progress: (bytes: number) => void): Promise<ort.InferenceSession> {
    this.#runtime ??= this.#start(progress);
    await this.#runtime.catch((error: unknown) => {
      this.#runtime = null;
      throw error;
    });
    const model = new Uint8Array(await this.#read(role, progress));
    const externalData: { path: string; data: Uint8Array }[] = [];
    for (const path of this.#head.data[role] ?? [])
      externalData.push({ path, data: new Uint8Array(await this.#read(`data:${path}`, progress)) });
    return ort.InferenceSession.create(model, { executionProviders: ["wasm"], externalData });
  }

  async #start(progress: (bytes: number) => void): Promise<void> {
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
    ort.env.wasm.wasmBinary = await this.#read("runtime", progress);
  }

  #read(name: string, progress: (bytes: number) => void): Promise<ArrayBuffer> {
    const file = this.#files[name];
    if (!file) throw new Failure("SITE_DAMAGED", { file: name });
    return this.#source.read(file, progress);
  }
}

function tokenizerOf(content: ArrayBuffer): Tokenizer {
  const given = JSON.parse(new TextDecoder().decode(content));
  return new Tokenizer({ ...given, truncation: null, padding: null }, {});
}

// As the encoder cleans a text before it is tokenised; of ftfy's repairs those of what people type.
function cleaned(given: string, mode: EncoderHead["text"]["cleaning"]): string {
  let text = given
    .normalize("NFC")
    .replace(/[\u2018\u2019\u201a\u201b]/g, "'")
    .replace(/[\u201c\u201d\u201e\u201f]/g, '"')
    .replace(/[\ufb00-\ufb06\uff01-\uffee\u3000]/g, (letter) => letter.normalize("NFKC"));
  text = unescaped(unescaped(text));
  if (mode === "canonicalize") text = text.replaceAll("_", " ").replace(/[!-/:-@[-`{-~]/g, "");
  text = text.split(/\s+/).filter(Boolean).join(" ");
  return mode === "whitespace" ? text : text.toLowerCase();
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

const unescaped = (text: string): string =>
  text.replace(/&(?:#(\d{1,6})|#x([0-9a-f]{1,5})|([a-z]+));/gi, (whole, decimal, hex, name) => {
    if (name) return ENTITIES[name.toLowerCase()] ?? whole;
    return String.fromCodePoint(Math.min(0x10ffff, decimal ? Number(decimal) : Number.parseInt(hex, 16)));
  });

// The picture as it is seen, on white where it is transparent.
async function decoded(file: Blob): Promise<Rgb> {
  const options: ImageBitmapOptions = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await preview(file)
    .then((shown) => createImageBitmap(shown, options))
    .catch(() => {
      throw new Failure("IMAGE_UNREADABLE", { format: "image" });
    });
  const { width, height } = bitmap;
  if (Math.min(width, height) < SIDE_MIN) throw new Failure("IMAGE_TOO_SMALL", { min: SIDE_MIN, width, height });
  if (width * height > PIXELS_MAX)
    throw new Failure("IMAGE_TOO_MANY_PIXELS", { max: PIXELS_MAX, given: width * height });
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Failure("IMAGE_UNREADABLE");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height * 3);
  for (let at = 0; at < width * height; at += 1) data.set(rgba.subarray(at * 4, at * 4 + 3), at * 3);
  return { width, height, data };
}
