// Reads the values of a grey or indexed PNG as they are stored. A browser gives 8 bits of 16, and colours for indices.

export interface Values {
  width: number;
  height: number;
  data: Uint16Array;
}

const SIGNATURE = 0x89504e47;
const GREY = 0;
const INDEXED = 3;

/** Returns the values of a PNG of one channel that is not interlaced; raises an error for any other file. */
export async function readPng(file: ArrayBuffer): Promise<Values> {
  const view = new DataView(file);
  if (file.byteLength < 33 || view.getUint32(0) !== SIGNATURE) throw new Error("not a PNG");
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [depth, colour, interlaced] = [view.getUint8(24), view.getUint8(25), view.getUint8(28)];
  if ((colour !== GREY && colour !== INDEXED) || interlaced) throw new Error("not a PNG of one channel");
  const stride = Math.ceil((width * depth) / 8);
  const rows = await inflate(compressed(view), height * (stride + 1));
  unfilter(rows, height, stride, Math.max(1, depth >> 3));
  return { width, height, data: unpack(rows, width, height, depth, stride) };
}

function compressed(view: DataView): Blob {
  const parts: ArrayBuffer[] = [];
  for (let at = 8; at + 8 <= view.byteLength; ) {
    const length = view.getUint32(at);
    // IDAT
    if (view.getUint32(at + 4) === 0x49444154) parts.push(view.buffer.slice(at + 8, at + 8 + length) as ArrayBuffer);
    at += 12 + length;
  }
  return new Blob(parts);
}

async function inflate(parts: Blob, bytes: number): Promise<Uint8Array> {
  const stream = parts.stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  if (rows.length < bytes) throw new Error("the PNG is cut");
  return rows;
}

// Each byte of a row was stored as its difference to what its row's filter foretells from the bytes before.
function unfilter(rows: Uint8Array, height: number, stride: number, pixel: number): void {
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1) + 1;
    const filter = rows[start - 1];
    for (let x = 0; x < stride; x += 1) {
      const left = x >= pixel ? (rows[start + x - pixel] ?? 0) : 0;
      const up = y ? (rows[start + x - stride - 1] ?? 0) : 0;
      const corner = y && x >= pixel ? (rows[start + x - stride - 1 - pixel] ?? 0) : 0;
      const foretold =
        filter === 1
          ? left
          : filter === 2
            ? up
            : filter === 3
              ? (left + up) >> 1
              : filter === 4
                ? paeth(left, up, corner)
                : 0;
      rows[start + x] = (rows[start + x] ?? 0) + foretold;
    }
  }
}

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

function unpack(rows: Uint8Array, width: number, height: number, depth: number, stride: number): Uint16Array {
  const data = new Uint16Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1) + 1;
    for (let x = 0; x < width; x += 1) {
      const at = start + ((x * depth) >> 3);
      const byte = rows[at] ?? 0;
      if (depth === 16) data[y * width + x] = (byte << 8) | (rows[at + 1] ?? 0);
      else data[y * width + x] = (byte >> (8 - depth - ((x * depth) & 7))) & ((1 << depth) - 1);
    }
  }
  return data;
}

export interface Window {
  center: number;
  width: number;
}

/** Writes values as greys: value * slope + intercept, the window's range from black to white. */
export function shade(
  { width, height, data }: Values,
  { slope = 1, intercept = 0 }: { slope?: number; intercept?: number },
  window: Window,
): ImageData {
  const picture = new ImageData(width, height);
  const words = new Uint32Array(picture.data.buffer);
  const low = window.center - window.width / 2;
  const greys = new Map<number, number>();
  data.forEach((stored, index) => {
    let grey = greys.get(stored);
    if (grey === undefined) {
      const share = (stored * slope + intercept - low) / window.width;
      const level = Math.max(0, Math.min(255, Math.round(share * 255)));
      grey = (0xff000000 | (level << 16) | (level << 8) | level) >>> 0;
      greys.set(stored, grey);
    }
    words[index] = grey;
  });
  return picture;
}
