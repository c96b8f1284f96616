// A picture of a file that a browser can show: the file itself, or of a DICOM file the first frame.

import { shade, type Values } from "./png";

const MAGIC = 128;

interface Element_ {
  at: number;
  length: number;
}

/** Returns an image file to show. Raises an error for a DICOM file in a form that is not read here. */
export async function preview(file: Blob): Promise<Blob> {
  const bytes = await file.arrayBuffer();
  const view = new DataView(bytes);
  const isDicom = bytes.byteLength > 140 && view.getUint32(MAGIC) === 0x4449434d; // "DICM"
  return isDicom ? frame(view) : file;
}

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const JPEG = /^1\.2\.840\.10008\.1\.2\.4\.5[01]$/;
const LONG = new Set(["OB", "OW", "OF", "OD", "OL", "SQ", "UC", "UN", "UR", "UT"]);
const PIXELS = 0x7fe00010;

async function frame(view: DataView): Promise<Blob> {
  const header = elements(view, MAGIC + 4, false, 0x00030000);
  const syntax = text(view, header.found.get(0x00020010));
  if (JPEG.test(syntax))
    return jpeg(view, elements(view, header.end, false, Number.MAX_SAFE_INTEGER).found.get(PIXELS));
  if (syntax !== IMPLICIT && syntax !== EXPLICIT) throw new Error("a compressed DICOM file");
  const { found } = elements(view, header.end, syntax === IMPLICIT, Number.MAX_SAFE_INTEGER);
  const short = (tag: number, otherwise: number) =>
    found.has(tag) ? view.getUint16(found.get(tag)?.at ?? 0, true) : otherwise;
  const decimal = (tag: number, otherwise: number) => Number.parseFloat(text(view, found.get(tag))) || otherwise;
  const pixels = found.get(PIXELS);
  if (!pixels || short(0x00280002, 1) !== 1) throw new Error("not a grey DICOM image");
  const [height, width, bits] = [short(0x00280010, 0), short(0x00280011, 0), short(0x00280100, 16)];
  const signed = short(0x00280103, 0) === 1;
  const values = read(view, pixels.at, { width, height, bits, signed });
  const slope = decimal(0x00281053, 1);
  const intercept = decimal(0x00281052, 0) - (signed ? slope * 2 ** (bits - 1) : 0);
  const window = { center: decimal(0x00281050, 0), width: decimal(0x00281051, 0) };
  return draw(
    values,
    slope,
    intercept,
    window.width ? window : range(values, slope, intercept),
    text(view, found.get(0x00280004)) === "MONOCHROME1",
  );
}

// Signed values are moved up, so that all are at least 0.
function read(
  view: DataView,
  at: number,
  { width, height, bits, signed }: { width: number; height: number; bits: number; signed: boolean },
): Values {
  const data = new Uint16Array(width * height);
  const moved = signed ? 2 ** (bits - 1) : 0;
  for (let index = 0; index < data.length; index += 1)
    data[index] =
      bits > 8
        ? (signed ? view.getInt16(at + 2 * index, true) : view.getUint16(at + 2 * index, true)) + moved
        : view.getUint8(at + index);
  return { width, height, data };
}

function range({ data }: Values, slope: number, intercept: number) {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of data) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return { center: ((least + most) / 2) * slope + intercept, width: Math.max(1, (most - least) * Math.abs(slope)) };
}

async function draw(
  values: Values,
  slope: number,
  intercept: number,
  window: { center: number; width: number },
  inverted: boolean,
): Promise<Blob> {
  const picture = shade(values, { slope, intercept }, window);
  if (inverted)
    for (let at = 0; at < picture.data.length; at += 1)
      if (at % 4 < 3) picture.data[at] = 255 - (picture.data[at] ?? 0);
  const canvas = new OffscreenCanvas(values.width, values.height);
  canvas.getContext("2d")?.putImageData(picture, 0, 0);
  return canvas.convertToBlob();
}

// The pixel data of an encapsulated file is a list of items: an offset table, and the frames.
function jpeg(view: DataView, pixels: Element_ | undefined): Blob {
  if (!pixels) throw new Error("no pixels");
  const table = view.getUint32(pixels.at + 4, true);
  const at = pixels.at + 8 + table;
  const length = view.getUint32(at + 4, true);
  return new Blob([view.buffer.slice(at + 8, at + 8 + length) as ArrayBuffer], { type: "image/jpeg" });
}

function text(view: DataView, element: Element_ | undefined): string {
  if (!element) return "";
  const letters = new Uint8Array(view.buffer, element.at, element.length);
  return String.fromCharCode(...letters).replace(/[\0 ]+$/, "");
}

// The elements from a place on, up to the first of a tag not below `until`; sequences are stepped over.
function elements(
  view: DataView,
  from: number,
  implicit: boolean,
  until: number,
): { found: Map<number, Element_>; end: number } {
  const found = new Map<number, Element_>();
  let at = from;
  while (at + 8 <= view.byteLength) {
    const tag = view.getUint16(at, true) * 2 ** 16 + view.getUint16(at + 2, true);
    if (tag >= until) break;
    const kind = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
    const long = !implicit && LONG.has(kind);
    const length = implicit
      ? view.getUint32(at + 4, true)
      : long
        ? view.getUint32(at + 8, true)
        : view.getUint16(at + 6, true);
    const start = at + (long ? 12 : 8);
    found.set(tag, { at: start, length });
    if (tag === PIXELS) break;
    at = length === 0xffffffff ? afterSequence(view, start) : start + length;
  }
  return { found, end: at };
}

// A sequence of unknown length ends with its delimiter; one within it has a delimiter of its own.
function afterSequence(view: DataView, from: number): number {
  let depth = 1;
  for (let at = from; at + 8 <= view.byteLength; at += 2) {
    // "SQ", two bytes that are reserved, and a length that is not known
    if (view.getUint32(at, true) === 0x5153 && view.getUint32(at + 4, true) === 0xffffffff) depth += 1;
    if (view.getUint16(at, true) !== 0xfffe) continue;
    const tag = view.getUint16(at + 2, true);
    if (tag === 0xe0dd) depth -= 1;
    if (!depth) return at + 8;
  }
  return view.byteLength;
}
