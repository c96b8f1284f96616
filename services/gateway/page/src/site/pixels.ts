// RGB pixels to what the image tower takes, as mirage_inference.encoder.preprocessing does it with Pillow's filters.

export interface ImageInput {
  size: number;
  mean: number[];
  std: number[];
  resize_mode: "shortest" | "longest" | "squash";
  interpolation: "bicubic" | "bilinear";
  fill_color: number;
}

/** Pixels in rows, three bytes each. */
export interface Rgb {
  width: number;
  height: number;
  data: Uint8Array;
}

const PRECISION = 22;
const STRIP = 64;

const FILTERS = {
  // As Pillow: a = -0.5, two pixels wide.
  bicubic: {
    support: 2,
    at: (given: number) => {
      const x = Math.abs(given);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
  bilinear: { support: 1, at: (x: number) => Math.max(0, 1 - Math.abs(x)) },
};

interface Kernel {
  start: number;
  weights: Int32Array;
}

// The pixels that each output pixel is made of, with weights as whole numbers: Pillow's `precompute_coeffs`.
function kernels(from: number, box: [number, number], to: number, filter: keyof typeof FILTERS): Kernel[] {
  const { support, at } = FILTERS[filter];
  const scale = (box[1] - box[0]) / to;
  const wide = Math.max(scale, 1);
  const reach = support * wide;
  return Array.from({ length: to }, (_, index) => {
    const center = box[0] + (index + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(from, Math.trunc(center + reach + 0.5));
    const weights = Array.from({ length: end - start }, (_, k) => at((k + start - center + 0.5) / wide));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const whole = weights.map((weight) => {
      const scaled = (sum ? weight / sum : weight) * 2 ** PRECISION;
      return Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
    return { start, weights: Int32Array.from(whole) };
  });
}

const clipped = (sum: number): number => Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION)));

function horizontal({ width, height, data }: Rgb, rows: Kernel[]): Rgb {
  const out = new Uint8Array(rows.length * height * 3);
  for (let y = 0; y < height; y += 1)
    rows.forEach(({ start, weights }, x) => {
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 2 ** (PRECISION - 1);
        for (let k = 0; k < weights.length; k += 1)
          sum += (data[(y * width + start + k) * 3 + channel] ?? 0) * (weights[k] ?? 0);
        out[(y * rows.length + x) * 3 + channel] = clipped(sum);
      }
    });
  return { width: rows.length, height, data: out };
}

function vertical({ width, data }: Rgb, columns: Kernel[]): Rgb {
  const stride = width * 3;
  const out = new Uint8Array(columns.length * stride);
  columns.forEach(({ start, weights }, y) => {
    for (let x = 0; x < stride; x += 1) {
      let sum = 2 ** (PRECISION - 1);
      for (let k = 0; k < weights.length; k += 1) sum += (data[(start + k) * stride + x] ?? 0) * (weights[k] ?? 0);
      out[y * stride + x] = clipped(sum);
    }
  });
  return { width, height: columns.length, data: out };
}

type Box = [number, number, number, number];

/** Returns a resized image, or a resized box (left, top, right, bottom) of it; rows first, then columns, as Pillow does it. */
export function resize(
  image: Rgb,
  width: number,
  height: number,
  filter: keyof typeof FILTERS,
  box: Box = [0, 0, image.width, image.height],
): Rgb {
  const whole = box[0] === 0 && box[1] === 0 && box[2] === image.width && box[3] === image.height;
  if (whole && image.width === width && image.height === height) return image;
  const across = whole && image.width === width ? null : kernels(image.width, [box[0], box[2]], width, filter);
  const down = whole && image.height === height ? null : kernels(image.height, [box[1], box[3]], height, filter);
  const first = across ? horizontal(image, across) : image;
  return down ? vertical(first, down) : first;
}

// Half to even, as Python rounds.
function rounded(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 ? floor + 1 : floor;
}

function cropOrPad(image: Rgb, size: number, fill: number): Rgb {
  const width = Math.max(image.width, size);
  const height = Math.max(image.height, size);
  const [right, below] = [Math.floor((width - image.width) / 2), Math.floor((height - image.height) / 2)];
  const [left, top] = [rounded((width - size) / 2), rounded((height - size) / 2)];
  const data = new Uint8Array(size * size * 3).fill(fill);
  for (let y = 0; y < size; y += 1) {
    const row = y + top - below;
    if (row < 0 || row >= image.height) continue;
    for (let x = 0; x < size; x += 1) {
      const column = x + left - right;
      if (column < 0 || column >= image.width) continue;
      const at = (row * image.width + column) * 3;
      data.set(image.data.subarray(at, at + 3), (y * size + x) * 3);
    }
  }
  return { width: size, height: size, data };
}

/** Returns a square of the size that the tower takes. */
export function square(image: Rgb, spec: ImageInput): Rgb {
  const { size, interpolation: filter } = spec;
  const { width, height } = image;
  if (spec.resize_mode === "squash") return resize(image, size, size, filter);
  if (spec.resize_mode === "longest") {
    const ratio = Math.max(height / size, width / size);
    const [w, h] = [width, height].map((side) => Math.max(1, rounded(side / ratio))) as [number, number];
    return cropOrPad(resize(image, w, h, filter), size, spec.fill_color);
  }
  const longer = Math.trunc((size * Math.max(width, height)) / Math.min(width, height));
  if (longer > STRIP * size) {
    // Only the part of an extreme strip that is not cropped is resized.
    const offset = rounded((longer - size) / 2);
    const step = Math.max(width, height) / longer;
    const box: Box =
      width <= height
        ? [0, offset * step, width, (offset + size) * step]
        : [offset * step, 0, (offset + size) * step, height];
    return resize(image, size, size, filter, box);
  }
  const [w, h] = width <= height ? [size, longer] : [longer, size];
  return cropOrPad(resize(image, w, h, filter), size, spec.fill_color);
}

/** Returns the tower's input: three planes, normalised. */
export function preprocess(image: Rgb, spec: ImageInput): Float32Array {
  const { data } = square(image, spec);
  const plane = spec.size * spec.size;
  const out = new Float32Array(3 * plane);
  for (let channel = 0; channel < 3; channel += 1) {
    const mean = Math.fround(spec.mean[channel] ?? 0);
    const std = Math.fround(spec.std[channel] ?? 1);
    for (let at = 0; at < plane; at += 1)
      out[channel * plane + at] = Math.fround(Math.fround((data[at * 3 + channel] ?? 0) / 255) - mean) / std;
  }
  return out;
}
