// The models in use: what they are, and how close they come to their originals.

import { useLayoutEffect } from "preact/hooks";
import { json, type Model } from "./api";
import { useData } from "./data";
import { Gate } from "./gate";
import { settled } from "./router";
import { type Key, t } from "./text";
import { Waiting } from "./ui";

type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

interface Collection {
  records: number;
  fingerprint: string;
}

export function About() {
  const { value, error, again } = useData<{ models: Model[] }>("models", (signal) => json("/v1/models", { signal }));
  const atlas = useData<Collection>("atlas ", (signal) => json("/v1/collection", { signal })).value;
  useLayoutEffect(() => {
    if (value) settled();
  }, [value]);
  return (
    <div class="prose">
      <h1 tabIndex={-1}>{t("about")}</h1>
      <p>{t("about.text")}</p>
      {atlas && (
        <p class="soft">{t("about.atlas", { n: atlas.records, fingerprint: atlas.fingerprint.slice(0, 12) })}</p>
      )}
      {error && <Gate problem={error} again={again} />}
      {!value && !error && <Waiting />}
      {value?.models.map((model) => (
        <Card key={model.fingerprint} model={model} />
      ))}
    </div>
  );
}

const TASKS = ["encode", "describe", "generate"];

function Card({ model }: { model: Model }) {
  const facts: [Key, string | number | undefined][] = [
    ["about.source", model.source],
    ["about.licence", model.licence],
    ["about.precision", model.precision],
    ["about.engine", model.engine],
    ["about.dimension", model.dimension],
    ["about.context", model.context_length],
    ["about.size", model.image_size],
    ["about.fingerprint", model.fingerprint],
  ];
  const manifest = (model.manifest ?? {}) as { [name: string]: Json };
  return (
    <article class="box">
      <h2>{model.name}</h2>
      <p>{TASKS.includes(model.task ?? "") ? t(`about.${model.task}` as Key) : model.task}</p>
      <dl>
        {facts
          .filter(([, value]) => value)
          .flatMap(([name, value]) => [<dt key={name}>{t(name)}</dt>, <dd key={`${name}=`}>{String(value)}</dd>])}
      </dl>
      <Numbers name={t("about.parity")} rows={parity(manifest.variants)} />
      <Numbers name={t("about.match")} rows={flat(manifest.match ?? null)} />
    </article>
  );
}

function parity(variants: Json | undefined): [string, string][] {
  if (!variants || typeof variants !== "object" || Array.isArray(variants)) return [];
  return Object.entries(variants).flatMap(([variant, each]) =>
    each && typeof each === "object" && !Array.isArray(each) ? flat(each.parity ?? null, variant) : [],
  );
}

// Numbers within numbers as lines, each named by the way to it.
function flat(value: Json, name = ""): [string, string][] {
  if (typeof value === "number") return [[name, Number.isInteger(value) ? String(value) : value.toFixed(4)]];
  if (!value || typeof value !== "object" || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([part, each]) =>
    flat(each, [name, part.replaceAll("_", " ")].filter(Boolean).join(", ")),
  );
}

function Numbers({ name, rows }: { name: string; rows: [string, string][] }) {
  if (!rows.length) return null;
  return (
    <details>
      <summary>{name}</summary>
      <table aria-label={name}>
        <tbody>
          {rows.map(([row, value]) => (
            <tr key={row}>
              <th scope="row">{row}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
