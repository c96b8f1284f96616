// One image, large: zoom, pan, brightness and contrast (or the window of stored values), invert. The view is given, so that two
// images can share one.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { request, type Shown, type StoredRecord, within } from "./api";
import { readPng, shade, type Values, type Window } from "./png";
import { t } from "./text";
import { Picture } from "./ui";

export interface Look {
  zoom: number;
  x: number;
  y: number;
  invert: boolean;
  brightness: number;
  contrast: number;
  /** Of stored values; null for the image as it is served. */
  window: Window | null;
}

export const PLAIN: Look = { zoom: 1, x: 0, y: 0, invert: false, brightness: 100, contrast: 100, window: null };
const ZOOM_MAX = 12;
export const STEP = 1.4;

const clamp = (value: number, least: number, most: number) => Math.max(least, Math.min(most, value));

/** Returns a look that is zoomed by a factor; the point at (x, y), in shares of the stage from its middle, stays where it is. */
export function zoomed(look: Look, factor: number, x = 0, y = 0): Look {
  const zoom = clamp(look.zoom * factor, 1, ZOOM_MAX);
  const ratio = zoom / look.zoom;
  return moved({ ...look, zoom, x: x - (x - look.x) * ratio, y: y - (y - look.y) * ratio }, 0, 0);
}

/** Returns a look that is moved, in shares of the stage, not beyond the image. */
export function moved(look: Look, dx: number, dy: number): Look {
  const room = (look.zoom - 1) / 2;
  return { ...look, x: clamp(look.x + dx, -room, room), y: clamp(look.y + dy, -room, room) };
}

/** Returns a look whose light changed, as by a drag in pixels: to the right more contrast, up brighter. */
export function lit(look: Look, dx: number, dy: number): Look {
  if (look.window) {
    const { center, width } = look.window;
    const speed = Math.max(width, 50) / 300;
    return { ...look, window: { center: center + dy * speed, width: Math.max(1, width - dx * speed) } };
  }
  return {
    ...look,
    brightness: clamp(look.brightness - dy / 2, 20, 300),
    contrast: clamp(look.contrast + dx / 2, 20, 300),
  };
}

type Pixels = NonNullable<StoredRecord["pixels"]>;
export const pixelsOf = (record: Shown): Pixels | null => (record as StoredRecord).pixels ?? null;

/** Returns the windows to offer for a record with stored values; the first is the one that it is served in. */
export function windowsOf(record: Shown): (Window & { name: string })[] {
  return [...(pixelsOf(record)?.windows ?? [])].map((each) => ({ ...each, name: each.name ?? "" }));
}

interface StageProps {
  record: Shown;
  look: Look;
  change: (look: Look) => void;
  /** A swipe to a neighbour: -1 or 1. */
  swipe?: (by: number) => void;
  children?: ComponentChildren;
}

export function Stage({ record, look, change, swipe, children }: StageProps) {
  const frame = useRef<HTMLDivElement>(null);
  const hand = usePointer(frame, look, change, swipe);
  const { width, height } = record;
  const style = { transform: `translate(${look.x * 100}%, ${look.y * 100}%) scale(${look.zoom})` };
  const light = look.window ? "" : `brightness(${look.brightness}%) contrast(${look.contrast}%)`;
  const filter = `${light}${look.invert ? " invert(1)" : ""}`.trim() || "none";
  return (
    <div class={look.zoom > 1 ? "stage zoomed" : "stage"} ref={frame} {...hand}>
      <div class="moving" style={style}>
        <div
          class="sheet-of"
          style={{ aspectRatio: `${width || 1} / ${height || 1}`, "--ratio": String((width || 1) / (height || 1)) }}
        >
          <div class="light" style={{ filter }}>
            <Picture url={record.image_url} alt={record.caption} />
            {look.window && <Stored record={record} window={look.window} />}
          </div>
          {children}
        </div>
      </div>
    </div>
  );
}

// The stored values in a window, drawn over the image as it is served.
function Stored({ record, window }: { record: Shown; window: Window }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [values, setValues] = useState<Values | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    setValues(null);
    request(`/v1/images/${encodeURIComponent(record.id)}/pixels${within(record.collection ?? "")}`, {
      signal: controller.signal,
    })
      .then((response) => response.arrayBuffer())
      .then(readPng)
      .then((read) => controller.signal.aborted || setValues(read))
      .catch(() => {}); // the image as it is served stays
    return () => controller.abort();
  }, [record.id]);
  useEffect(() => {
    if (values) canvas.current?.getContext("2d")?.putImageData(shade(values, pixelsOf(record) ?? {}, window), 0, 0);
  }, [values, window.center, window.width]);
  return values && <canvas ref={canvas} width={values.width} height={values.height} />;
}

const SWIPE_PX = 60;
type Point = [number, number];

// A listener that may keep the page from scrolling, which one of Preact's may not.
function useWheel(frame: { current: HTMLDivElement | null }, zoom: (factor: number, x: number, y: number) => void) {
  useEffect(() => {
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      zoom(event.deltaY < 0 ? STEP : 1 / STEP, event.clientX, event.clientY);
    };
    frame.current?.addEventListener("wheel", wheel, { passive: false });
    return () => frame.current?.removeEventListener("wheel", wheel);
  }, []);
}

// Wheel and pinch zoom; a drag moves a zoomed image and changes the light of one that is not; a finger swipes to the neighbours.
function usePointer(
  frame: { current: HTMLDivElement | null },
  look: Look,
  change: (look: Look) => void,
  swipe?: (by: number) => void,
) {
  const pointers = useRef(new Map<number, Point>());
  const start = useRef<Point>([0, 0]);
  const latest = useRef({ look, change });
  latest.current = { look, change };
  // Several events may come before what the first one changed is drawn.
  const alter = (by: (look: Look) => Look) => {
    latest.current.look = by(latest.current.look);
    latest.current.change(latest.current.look);
  };
  const share = (x: number, y: number): Point => {
    const box = frame.current?.getBoundingClientRect() ?? new DOMRect(0, 0, 1, 1);
    return [(x - box.left) / box.width - 0.5, (y - box.top) / box.height - 0.5];
  };
  useWheel(frame, (factor, x, y) => alter((now) => zoomed(now, factor, ...share(x, y))));
  const pinch = (before: Point, event: PointerEvent) => {
    const [other] = [...pointers.current].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    if (!other) return;
    const spread = (point: Point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    const middle = share((event.clientX + other[0]) / 2, (event.clientY + other[1]) / 2);
    alter((now) => zoomed(now, spread([event.clientX, event.clientY]) / spread(before), ...middle));
  };
  const up = (event: PointerEvent) => {
    const last = pointers.current.size === 1;
    const [dx, dy] = [event.clientX - start.current[0], event.clientY - start.current[1]];
    pointers.current.delete(event.pointerId);
    const far = Math.abs(dx) > SWIPE_PX && Math.abs(dx) > 2 * Math.abs(dy);
    if (last && event.type === "pointerup" && event.pointerType === "touch" && look.zoom === 1 && far)
      swipe?.(dx < 0 ? 1 : -1);
  };
  return {
    onPointerDown(event: PointerEvent) {
      if (event.button || (event.target as HTMLElement).closest("button, a")) return;
      pointers.current.set(event.pointerId, [event.clientX, event.clientY]);
      start.current = [event.clientX, event.clientY];
      frame.current?.setPointerCapture(event.pointerId);
    },
    onPointerMove(event: PointerEvent) {
      const before = pointers.current.get(event.pointerId);
      if (!before) return;
      pointers.current.set(event.pointerId, [event.clientX, event.clientY]);
      const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
      const box = frame.current?.getBoundingClientRect();
      if (pointers.current.size > 1) pinch(before, event);
      else if (latest.current.look.zoom > 1 && !event.shiftKey && box)
        alter((now) => moved(now, dx / box.width, dy / box.height));
      else if (event.pointerType !== "touch") alter((now) => lit(now, dx, dy));
    },
    onPointerUp: up,
    onPointerCancel: up,
  };
}

/** The controls of a look, for those who do not drag: windows or light, zoom, invert, reset. */
export function Tools({ record, look, change }: { record: Shown; look: Look; change: (look: Look) => void }) {
  const windows = windowsOf(record);
  const same = (each: Window) => look.window?.center === each.center && look.window.width === each.width;
  return (
    <div class="tools" role="group" aria-label={t("tools")}>
      {windows.map((each) => (
        <button
          type="button"
          class="chip"
          key={each.name}
          aria-pressed={same(each)}
          onClick={() => change({ ...look, window: { center: each.center, width: each.width } })}
        >
          {each.name || `${each.center} / ${each.width}`}
        </button>
      ))}
      <button type="button" class="chip" aria-label={t("zoom.out")} onClick={() => change(zoomed(look, 1 / STEP))}>
        −
      </button>
      <output class="level">{`${Math.round(look.zoom * 100)} %`}</output>
      <button type="button" class="chip" aria-label={t("zoom.in")} onClick={() => change(zoomed(look, STEP))}>
        +
      </button>
      <button
        type="button"
        class="chip"
        aria-pressed={look.invert}
        onClick={() => change({ ...look, invert: !look.invert })}
      >
        {t("invert")}
      </button>
      <button type="button" class="chip" onClick={() => change(PLAIN)}>
        {t("reset")}
      </button>
      <details class="adjust">
        <summary class="chip">{t("adjust")}</summary>
        <Light look={look} change={change} />
      </details>
    </div>
  );
}

function Light({ look, change }: { look: Look; change: (look: Look) => void }) {
  const { window } = look;
  if (window)
    return (
      <>
        <Slider
          name={t("window.center")}
          value={window.center}
          least={-1200}
          most={3000}
          set={(center) => change({ ...look, window: { ...window, center } })}
        />
        <Slider
          name={t("window.width")}
          value={window.width}
          least={1}
          most={4000}
          set={(width) => change({ ...look, window: { ...window, width } })}
        />
      </>
    );
  return (
    <>
      <Slider
        name={t("brightness")}
        value={look.brightness}
        least={20}
        most={300}
        set={(brightness) => change({ ...look, brightness })}
      />
      <Slider
        name={t("contrast")}
        value={look.contrast}
        least={20}
        most={300}
        set={(contrast) => change({ ...look, contrast })}
      />
    </>
  );
}

interface SliderProps {
  name: string;
  value: number;
  least: number;
  most: number;
  set: (value: number) => void;
}

function Slider({ name, value, least, most, set }: SliderProps) {
  return (
    <label>
      {name}
      <input
        type="range"
        min={least}
        max={most}
        value={value}
        onInput={(event) => set(Number(event.currentTarget.value))}
      />
    </label>
  );
}

/** Returns the look after a key, or null for a key that is not one of the image's. */
export function pressed(look: Look, event: KeyboardEvent): Look | null {
  const pan = 0.1;
  const arrows: Record<string, Point> = {
    ArrowLeft: [pan, 0],
    ArrowRight: [-pan, 0],
    ArrowUp: [0, pan],
    ArrowDown: [0, -pan],
  };
  const arrow = event.shiftKey && arrows[event.key];
  if (arrow) return moved(look, ...arrow);
  switch (event.key) {
    case "+":
    case "=":
      return zoomed(look, STEP);
    case "-":
      return zoomed(look, 1 / STEP);
    case "0":
      return PLAIN;
    case "i":
      return { ...look, invert: !look.invert };
    case "b":
      return lit(look, 0, 20);
    case "B":
      return lit(look, 0, -20);
    case "c":
      return lit(look, -20, 0);
    case "C":
      return lit(look, 20, 0);
    default:
      return null;
  }
}
