// One result in a grid: the image, what it is, the words that were found, and where it comes from.

import type { Route } from "./address";
import { EMPTY, pathOf } from "./address";
import type { SearchResult, Shown } from "./api";
import { t } from "./text";
import { Labels, Link, Marked, Picture } from "./ui";
import { nameOf, originOf } from "./words";

type Spans = readonly (readonly number[])[];

/** What else a search says about a record. */
interface Extra {
  matched?: Record<string, Spans>;
  section?: "words" | "likeness";
  case?: { id: string; images: number };
}

export const extraOf = (record: Shown): Extra => record as Partial<SearchResult> as Extra;

const ELSEWHERE = ["findings", "history", "impression", "keywords", "labels"] as const;

// Where else the words were found: a card shows title and caption only.
function elsewhere(matched: Record<string, Spans> = {}): string {
  if (matched.title || matched.caption) return "";
  const fields = new Set(Object.keys(matched).map((path) => path.split(/[.[]/)[0]));
  const names = ELSEWHERE.filter((name) => fields.has(name)).map((name) => t(`field.${name}`));
  return names.length ? t("card.elsewhere", { fields: names.join(", ") }) : "";
}

// The beginning of a caption hides what was found late in it: the text starts shortly before the first word found.
const BEFORE = 60;

function excerpt(text: string, spans: Spans = []): { text: string; spans: Spans } {
  const first = spans[0]?.[0] ?? 0;
  if (first <= BEFORE + 30) return { text, spans };
  const characters = [...text];
  let from = first - BEFORE;
  while (from < first && characters[from - 1] !== " ") from += 1;
  const moved = spans.map(([start = 0, end = 0]) => [start - from + 2, end - from + 2]);
  return { text: `… ${characters.slice(from).join("")}`, spans: moved };
}

/** How many cards are on most screens before one scrolls. */
export const FIRST_SCREEN = 8;

interface CardProps {
  record: Shown;
  index: number;
  /** The search that the card is part of. */
  from: Route;
}

export function Card({ record, index, from }: CardProps) {
  const { matched, case: of } = extraOf(record);
  const name = nameOf(record);
  const origin = originOf(record);
  const text = excerpt(record.caption, matched?.caption);
  const open = { ...EMPTY, view: "image" as const, id: record.id, collection: from.collection };
  const similar = { ...EMPTY, similar: record.id, collection: from.collection };
  const compare = { ...EMPTY, view: "compare" as const, a: `id:${record.id}`, collection: from.collection };
  const described = `${record.id}-text`;
  return (
    <li class="card" data-id={record.id}>
      <Link class="shot" to={open} from={pathOf(from)} focus={record.id} aria-label={name} aria-describedby={described}>
        <Picture
          url={record.thumbnail_url}
          larger={{ url: record.image_url, width: record.width }}
          alt=""
          width={256}
          height={256}
          lazy={index >= FIRST_SCREEN}
        />
        {of && of.images > 1 && <span class="badge">{t("card.images", { n: of.images })}</span>}
        {origin && <span class="origin" title={origin} aria-hidden="true" />}
      </Link>
      <div class="about">
        <h2>
          <Marked text={name} spans={record.title ? matched?.title : undefined} />
        </h2>
        <p class="caption" id={described}>
          <Marked {...text} />
        </p>
        {matched && <p class="soft small">{elsewhere(matched)}</p>}
        <div class="foot">
          <Labels record={record} />
          <span class="source">{record.source || t("source.unknown")}</span>
        </div>
        <p class="actions">
          <Link class="mini" to={compare} focus={record.id}>
            {t("compare")}
          </Link>
          <Link class="mini" to={similar} focus={record.id}>
            {t("similar")}
          </Link>
        </p>
      </div>
    </li>
  );
}

/** The places of cards that are not there yet, so that nothing moves when they come. */
export function Skeletons() {
  return (
    <ul class="grid" aria-hidden="true">
      {Array.from({ length: FIRST_SCREEN }, (_, index) => (
        <li class="card skeleton" key={index}>
          <span class="shot" />
          <div class="about" />
        </li>
      ))}
    </ul>
  );
}
