// How good the answers are: what was measured on this atlas, next to chance, and the cases that went wrong.

import { useLayoutEffect } from "preact/hooks";
import { EMPTY, type Route } from "./address";
import { type Evaluation, type Figure, type HardCase, json } from "./api";
import { useData } from "./data";
import { Gate } from "./gate";
import { settled } from "./router";
import { type Key, language, number, t } from "./text";
import { Link, Picture, Waiting } from "./ui";
import { valueName } from "./words";

const SHOWN_CASES = 12;
const TRUST = 0.6;
const DOUBT = 0.3;

export function Quality({ route }: { route: Route }) {
  const query = route.collection && `?collection=${encodeURIComponent(route.collection)}`;
  const { value, error, again } = useData<{ evaluations: Evaluation[] }>(`quality ${query}`, (signal) =>
    json(`/v1/quality${query}`, { signal }),
  );
  useLayoutEffect(() => {
    if (value) settled();
  }, [value]);
  const found = value?.evaluations ?? [];
  return (
    <div class="quality">
      <h1 tabIndex={-1}>{t("quality")}</h1>
      {error && <Gate problem={error} again={again} />}
      {!value && !error && <Waiting />}
      {value && !found.length && <p>{t("quality.none")}</p>}
      {found.length > 0 && <Head found={found} />}
      {found.length > 0 && <Tiles found={found} />}
      <Parts figures={figuresOf(found, "retrieval")} />
      <Cases cases={found.flatMap((each) => each.hard_cases)} collection={route.collection} />
      {found.map((each) => (
        <All key={each.subject} evaluation={each} />
      ))}
      <Cannot />
      {found.length > 0 && <Downloads found={found} />}
    </div>
  );
}

const figuresOf = (found: Evaluation[], subject: string): Figure[] =>
  found.find((each) => each.subject === subject)?.figures ?? [];
const figure = (figures: Figure[], name: string, group: string): Figure | undefined =>
  figures.find((each) => each.name === name && each.group === group);

/** A share in percent; a figure with a unit as it is. */
function shown(value: number, unit = ""): string {
  if (!unit) return `${(100 * value).toLocaleString(language, { maximumFractionDigits: 1 })} %`;
  return `${value.toLocaleString(language, { maximumFractionDigits: ["cosine", "distance"].includes(unit) ? 3 : 1 })} ${unit}`;
}

function Head({ found }: { found: Evaluation[] }) {
  const [first] = found;
  if (!first) return null;
  const date = new Date(first.create_time).toLocaleDateString(language, { dateStyle: "long" });
  return (
    <>
      <p class="soft">
        {t("quality.when", {
          collection: first.collection,
          n: first.records,
          date,
          model: first.fingerprint.slice(0, 12),
        })}
      </p>
      {found.some((each) => each.outdated) && <p class="notice">{t("quality.outdated")}</p>}
    </>
  );
}

const TILES: [Key, string, string, string][] = [
  ["quality.first", "retrieval", "recall@1", "text to image, likeness"],
  ["quality.ten", "retrieval", "recall@10", "text to image, likeness"],
  ["quality.title", "retrieval", "recall@10", "title to image, hybrid, served"],
  ["quality.good", "calibration", "right among the first 5", "hybrid: called good"],
];

function Tiles({ found }: { found: Evaluation[] }) {
  return (
    <ul class="tiles">
      {TILES.map(([name, subject, measure, group]) => {
        const each = figure(figuresOf(found, subject), measure, group);
        return (
          <li class="box" key={name}>
            <h2 class="soft small">{t(name)}</h2>
            <p class="figure">{each ? shown(each.value) : "–"}</p>
            <p class="soft small">{each ? rangeOf(each) : t("quality.not")}</p>
          </li>
        );
      })}
    </ul>
  );
}

function rangeOf(each: Figure): string {
  const chance = each.chance == null ? "" : t("quality.chance", { chance: shown(each.chance, each.unit) });
  const range =
    each.low == null || each.high == null
      ? ""
      : t("quality.range", { low: shown(each.low, each.unit), high: shown(each.high, each.unit) });
  return [range, chance].filter(Boolean).join(" · ");
}

const FIRST = "first result has the label";

/** How often the first result has the label that the caption names, by label: where to trust it. */
function Parts({ figures }: { figures: Figure[] }) {
  const parts = figures.filter((each) => each.name === FIRST);
  if (!parts.length) return null;
  return (
    <section class="box">
      <h2>{t("quality.parts")}</h2>
      <p class="soft small">{t("quality.parts.text")}</p>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("quality.label")}</th>
            <th scope="col">{t("quality.right")}</th>
            <th scope="col">{t("quality.random")}</th>
            <th scope="col">{t("quality.advice")}</th>
          </tr>
        </thead>
        <tbody>
          {parts.map((each) => {
            const [, ...rest] = (each.group.split(":")[0] ?? "").split(" ");
            const low = each.low ?? each.value;
            const advice: Key =
              low >= TRUST
                ? "quality.trust"
                : low > (each.chance ?? 0) && low >= DOUBT
                  ? "quality.doubt"
                  : "quality.donot";
            return (
              <tr key={each.group}>
                <th scope="row">{valueName(rest.join(" "))}</th>
                <td>
                  <meter min={0} max={1} value={each.value} aria-hidden="true" /> {shown(each.value)}{" "}
                  <span class="soft small">{t("quality.over", { n: each.count })}</span>
                </td>
                <td>{each.chance == null ? "" : shown(each.chance)}</td>
                <td>{t(advice)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Cases({ cases, collection }: { cases: HardCase[]; collection: string }) {
  if (!cases.length) return null;
  // Some of each kind, not many of one.
  const kinds = [...new Set(cases.map((each) => each.kind))];
  const some = kinds.flatMap((kind) => cases.filter((each) => each.kind === kind).slice(0, SHOWN_CASES / 2));
  const picture = (id: string) => (
    <Link to={{ ...EMPTY, view: "image", id, collection }} key={id} aria-label={t("quality.open", { id })}>
      <Picture url={thumbnail(id, collection)} alt="" width={64} height={64} lazy />
    </Link>
  );
  return (
    <section class="box">
      <h2>{t("quality.cases")}</h2>
      <p class="soft small">{t("quality.cases.text")}</p>
      <ul class="cases">
        {some.map((each) => (
          <li key={`${each.kind} ${each.id} ${each.text}`}>
            {picture(each.id)}
            <p>
              <strong>{t(`quality.case.${each.kind}` as Key, { n: each.count })}</strong> {each.text}
            </p>
            {each.found_ids.length > 0 && <span class="instead">→ {each.found_ids.slice(0, 3).map(picture)}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

export const thumbnail = (id: string, collection: string): string =>
  `/v1/images/${encodeURIComponent(id)}/thumbnail${collection && `?collection=${encodeURIComponent(collection)}`}`;

function All({ evaluation }: { evaluation: Evaluation }) {
  const curves = evaluation.series.filter((each) => each.x.length > 1);
  return (
    <details class="box">
      <summary>
        {t(`quality.of.${evaluation.subject}` as Key)}{" "}
        <span class="soft small">{number(evaluation.figures.length)}</span>
      </summary>
      <table>
        <tbody>
          {evaluation.figures.map((each) => (
            <tr key={`${each.group} ${each.name}`}>
              <th scope="row">
                {each.name} <span class="soft small">{each.group}</span>
              </th>
              <td>{shown(each.value, each.unit)}</td>
              <td class="soft small">{rangeOf(each)}</td>
              <td class="soft small">{t("quality.over", { n: each.count })}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {curves.map((each) => (
        <Curve key={`${each.name} ${each.group}`} name={each.name} group={each.group} x={each.x} y={each.y} />
      ))}
      {evaluation.notes.map((each) => (
        <p class="soft small" key={each}>
          {each}
        </p>
      ))}
      <p class="soft small">
        <code>{evaluation.command}</code>
      </p>
    </details>
  );
}

function Curve({ name, group, x, y }: { name: string; group: string; x: number[]; y: number[] }) {
  const [left = 0, right = 1] = [x[0], x.at(-1)];
  const top = Math.max(...y, 1e-9);
  const points = x.map((each, place) => {
    const across = (100 * (each - left)) / (right - left || 1);
    return `${across.toFixed(2)},${(40 - (40 * (y[place] ?? 0)) / top).toFixed(2)}`;
  });
  return (
    <figure>
      <svg viewBox="-1 -1 102 42" role="img" aria-label={`${name}, ${group}`} preserveAspectRatio="none">
        <polyline points={points.join(" ")} fill="none" stroke="currentColor" vector-effect="non-scaling-stroke" />
      </svg>
      <figcaption class="soft small">
        {name}: {group} ({shown(left, "cosine")} – {shown(right, "cosine")}; {shown(top)})
      </figcaption>
    </figure>
  );
}

function Cannot() {
  const lines: Key[] = ["quality.cannot.read", "quality.cannot.invent", "quality.cannot.holds", "quality.cannot.real"];
  return (
    <section class="box">
      <h2>{t("quality.cannot")}</h2>
      <ul>
        {lines.map((each) => (
          <li key={each}>{t(each)}</li>
        ))}
      </ul>
    </section>
  );
}

function Downloads({ found }: { found: Evaluation[] }) {
  const address = (text: string, type: string) => `data:${type};charset=utf-8,${encodeURIComponent(text)}`;
  const head = ["subject", "group", "name", "value", "low", "high", "chance", "count", "unit"];
  const rows = found.flatMap(({ subject, figures }) =>
    figures.map((each) =>
      [subject, each.group, each.name, each.value, each.low, each.high, each.chance, each.count, each.unit ?? ""]
        .map((cell) => `"${String(cell ?? "").replaceAll('"', '""')}"`)
        .join(","),
    ),
  );
  return (
    <p class="line">
      <a class="button" download="evaluation.json" href={address(JSON.stringify(found, null, 2), "application/json")}>
        {t("quality.json")}
      </a>
      <a class="button" download="evaluation.csv" href={address([head.join(","), ...rows].join("\n"), "text/csv")}>
        {t("quality.csv")}
      </a>
    </p>
  );
}
