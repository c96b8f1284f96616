// The named structures of an image: outlines over it, the name under the pointer, and a legend by group.

import { useMemo } from "preact/hooks";
import { type Region, request, type Shown, within } from "./api";
import { useData } from "./data";
import { readPng, type Values } from "./png";
import { t } from "./text";

export const regionsOf = (record: Shown): Region[] => record.regions ?? [];

/** Returns the region of each pixel, or nothing while it is not read or if the record has none. */
export function useMap(record: Shown | undefined): Values | undefined {
  const id = record && regionsOf(record).length ? record.id : "";
  return useData(id && `regions ${id}`, async (signal) => {
    const response = await request(`/v1/images/${encodeURIComponent(id)}/regions${within(record?.collection ?? "")}`, {
      signal,
    });
    return readPng(await response.arrayBuffer());
  }).value;
}

/** Returns the outline of a region as an SVG path: the sides that its pixels do not share with each other. */
export function outline({ width, height, data }: Values, id: number): string {
  const at = (x: number, y: number) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x] === id;
  const parts: string[] = [];
  // Sides that follow each other on a line become one stroke.
  for (let y = 0; y <= height; y += 1)
    for (let x = 0; x < width; x += 1) {
      const from = x;
      while (x < width && at(x, y) !== at(x, y - 1)) x += 1;
      if (x > from) parts.push(`M${from} ${y}H${x}`);
    }
  for (let x = 0; x <= width; x += 1)
    for (let y = 0; y < height; y += 1) {
      const from = y;
      while (y < height && at(x, y) !== at(x - 1, y)) y += 1;
      if (y > from) parts.push(`M${x} ${from}V${y}`);
    }
  return parts.join("");
}

/** The region at a point of the image, in shares of its sides. */
export function regionAt(map: Values, regions: Region[], x: number, y: number): Region | undefined {
  const [column, row] = [Math.floor(x * map.width), Math.floor(y * map.height)];
  const id = map.data[row * map.width + column];
  return regions.find((each) => each.id === id);
}

interface OutlinesProps {
  map: Values;
  regions: Region[];
  shown: boolean;
  lit: string[];
  hover: (name: string) => void;
}

export function Outlines({ map, regions, shown, lit, hover }: OutlinesProps) {
  const paths = useMemo(() => new Map(regions.map((each) => [each.id, outline(map, each.id)])), [map, regions]);
  const point = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    hover(
      regionAt(map, regions, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height)?.name ??
        "",
    );
  };
  return (
    <svg
      class="outlines"
      viewBox={`0 0 ${map.width} ${map.height}`}
      preserveAspectRatio="none"
      onPointerMove={point}
      onPointerLeave={() => hover("")}
      aria-hidden="true"
    >
      {regions
        .filter(({ name }) => shown || lit.includes(name))
        .map(({ id, name, colour }) => (
          <path key={id} d={paths.get(id)} style={{ stroke: colour }} class={lit.includes(name) ? "lit" : ""} />
        ))}
    </svg>
  );
}

interface LegendProps {
  regions: Region[];
  lit: string[];
  choose: (names: string[]) => void;
}

export function Legend({ regions, lit, choose }: LegendProps) {
  const groups = new Map<string, Region[]>();
  for (const each of regions) groups.set(each.group, [...(groups.get(each.group) ?? []), each]);
  return (
    <div class="legend">
      {[...groups].map(([group, members]) => (
        <section key={group}>
          <h3>
            <span class="swatch" style={{ background: members[0]?.colour }} /> {group}
          </h3>
          <ul>
            {members.map(({ id, name }) => (
              <li key={id}>
                <button
                  type="button"
                  class="region"
                  aria-pressed={lit.includes(name)}
                  onClick={() => choose(lit.includes(name) ? [] : [name])}
                >
                  {name}
                </button>
              </li>
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

interface QuizProps {
  regions: Region[];
  at: number;
  told: boolean;
  tell: () => void;
  next: () => void;
}

/** Asks for the names of the outlined structures one after the other, the largest first. */
export function Quiz({ regions, at, told, tell, next }: QuizProps) {
  const asked = quizOrder(regions)[at];
  return (
    <div class="quiz" role="status">
      {asked ? (
        <>
          <p>{told ? <strong>{asked.name}</strong> : t("quiz.what", { n: at + 1, of: regions.length })}</p>
          <button type="button" class="button primary" onClick={told ? next : tell}>
            {told ? t("quiz.next") : t("quiz.tell")}
          </button>
        </>
      ) : (
        <p>{t("quiz.done")}</p>
      )}
    </div>
  );
}

export const quizOrder = (regions: Region[]): Region[] => [...regions].sort((a, b) => b.area - a.area);
