// Generated images of a prompt: the newest next to a real one, the attempts before it as a strip, and how it is made.

import { useEffect, useState } from "preact/hooks";
import { useModels, useRights } from "./access";
import { EMPTY, here, type Route } from "./address";
import { type Job, type Model, Problem, problemOf, type Shown } from "./api";
import { cancel, create, ended, forgetJob, read, recall, remember, useJob } from "./jobs";
import { type Key, number, t } from "./text";
import { Failure, Inline, Link, Notice, Picture, save } from "./ui";
import { facetName, nameOf, valueName } from "./words";

/** Returns the generator's model, or nothing if none runs, the reader may not use it, or `when` is still false. */
export function useGenerator(when: boolean): Model | undefined {
  const rights = useRights();
  const models = useModels(when);
  return rights.can("create_job") ? models.find(({ task }) => task === "generate") : undefined;
}

/** Returns a query in words, as the server says it: "q without minus, with plus". Empty for a query that is not of words. */
export function promptOf(route: Route): string {
  if (route.similar || route.own || route.terms.some(({ kind }) => kind !== "text")) return "";
  const terms = [
    { value: route.q, weight: 1 },
    { value: route.minus, weight: -1 },
    { value: route.plus, weight: 1 },
    ...route.terms,
  ];
  const [base, ...others] = terms
    .filter(({ value, weight }) => value && weight)
    .sort((a, b) => Number(b.weight > 0) - Number(a.weight > 0));
  if (!base || base.weight < 0) return "";
  const without = others.filter(({ weight }) => weight < 0).map(({ value }) => `without ${value}`);
  const plus = others.filter(({ weight }) => weight > 0).map(({ value }) => `with ${value}`);
  return `${base.value} ${[...without, ...plus].join(", ")}`.trim();
}

interface GenerationProps {
  prompt: string;
  model: Model;
  real?: Shown;
}

export function Generation({ prompt, model, real }: GenerationProps) {
  const [attempts, setAttempts] = useState<Job[]>([]);
  const [chosen, choose] = useState<Job | undefined>();
  const [problem, fail] = useState<Problem | null>(null);
  const [options, setOptions] = useState<Options>({});
  const [busy, setBusy] = useState(false);
  const start = async () => {
    fail(null);
    setBusy(true);
    try {
      const job = await create({ prompt, ...readable(options) });
      remember(prompt, job.id);
      setAttempts((before) => [job, ...before]);
      choose(job);
    } catch (error) {
      fail(problemOf(error));
    }
    setBusy(false);
  };
  // After a reload the attempts of this tab are there again.
  useEffect(() => {
    const known = recall(prompt);
    if (!known.length) return void start();
    Promise.all(known.map((id) => read(id).catch(() => forgetJob(id)))).then((found) => {
      const jobs = found.filter((job): job is Job => Boolean(job));
      setAttempts(jobs);
      choose(jobs[0]);
    });
  }, [prompt]);
  const draws = (model.manifest as { draws?: { about?: string } | null } | undefined)?.draws?.about;
  const lost = Boolean(chosen && !attempts.some((each) => each.id === chosen.id));
  return (
    <section class="box generate" aria-labelledby="generate">
      <div class="head">
        <h2 id="generate">{t("generate.title")}</h2>
        <span class="tag synthetic">{t("synthetic")}</span>
      </div>
      {chosen && <p class="soft">{t("generate.about", { prompt })}</p>}
      {draws && !problem && <p class="soft">{t("generate.draws", { about: draws })}</p>}
      {problem && <Failure problem={problem} again={start} />}
      <div class="pair-of">
        {chosen && (
          <Watched
            key={chosen.id}
            first={chosen}
            ended={(job) => setAttempts((all) => all.map((each) => (each.id === job.id ? job : each)))}
          />
        )}
        {real && <Real record={real} />}
      </div>
      <p class="line">
        <button type="button" class="button" disabled={busy || lost} onClick={start}>
          {attempts.length ? t("generate.another") : t("generate")}
        </button>
      </p>
      <Film attempts={attempts} chosen={chosen} choose={choose} />
      <Making model={model} set={setOptions} />
    </section>
  );
}

function Real({ record }: { record: Shown }) {
  return (
    <figure>
      <Link class="shot" to={{ ...EMPTY, view: "image", id: record.id }} aria-label={nameOf(record)}>
        <Picture url={record.thumbnail_url} alt="" width={256} height={256} />
      </Link>
      <figcaption>
        <strong>{t("generate.real")}</strong> {nameOf(record)}
      </figcaption>
    </figure>
  );
}

function Film({ attempts, chosen, choose }: { attempts: Job[]; chosen?: Job; choose: (job: Job) => void }) {
  const made = attempts.filter(({ images }) => images?.length);
  if (made.length < 2) return null;
  return (
    <ul class="strip" aria-label={t("generate.attempts")}>
      {made.map((job) => (
        <li key={job.id}>
          <button
            type="button"
            aria-current={job.id === chosen?.id}
            aria-label={t("generate.seed", { seed: String(job.images?.[0]?.seed ?? "") })}
            onClick={() => choose(job)}
          >
            <Picture url={job.images?.[0]?.url ?? ""} alt="" width={64} height={64} />
          </button>
        </li>
      ))}
    </ul>
  );
}

interface AttemptProps {
  job: Job;
  preview?: string;
  problem?: Problem;
  changed: (job: Job) => void;
}

function Watched({ first, ended: over }: { first: Job; ended: (job: Job) => void }) {
  const { job = first, preview, problem, set } = useJob(first);
  useEffect(() => {
    if (ended(job)) over(job);
  }, [job.state]);
  return <Attempt job={job} preview={preview} problem={problem} changed={set} />;
}

/** A job as it is: its progress, with a way to cancel it, or what became of it. */
export function Attempt({ job, preview, problem, changed }: AttemptProps) {
  const [stopping, stop] = useState(false);
  const end = () => {
    stop(true);
    cancel(job.id).then(changed, () => stop(false));
  };
  return (
    <div class="attempt">
      {!ended(job) && (
        <>
          {preview !== undefined && (
            <figure>
              <span class="shot">
                {preview && (
                  <Inline data={preview} type="image/png" alt={t("generate.preview")} width={256} height={256} />
                )}
              </span>
            </figure>
          )}
          <progress max={Math.max(1, job.steps ?? 1)} value={job.step ?? 0} aria-label={t("generate.progress")} />
          <p>{inWords(job)}</p>
          <button
            type="button"
            class="button"
            disabled={stopping}
            onClick={end}
            aria-label={t("generate.cancel", { prompt: job.request.prompt })}
          >
            {stopping ? t("generate.cancelling") : t("cancel")}
          </button>
        </>
      )}
      <p class="unseen" role="status">
        {ended(job) ? (job.state === "SUCCEEDED" ? t("generate.ready") : inWords(job)) : ""}
      </p>
      {problem && <Failure problem={problem} />}
      <Outcome job={job} />
      <Made job={job} />
    </div>
  );
}

/** The images of a job that has them, each said to be generated in its picture, its text and its name. */
export function Made({ job }: { job: Job }) {
  const prompt = job.request.prompt;
  return (
    <>
      {(job.images ?? []).map((image, index) => {
        const name = `mirage-synthetic-${job.id}-${index}.png`;
        return (
          <figure class="made" key={image.url}>
            <span class="shot">
              <Picture url={image.url} alt={t("generate.alt", { prompt })} width={image.width} height={image.height} />
              <span class="badge">{t("synthetic")}</span>
            </span>
            <figcaption>
              {t("generate.seed", { seed: String(image.seed) })}{" "}
              <a href={here(image.url)} download={name} onClick={(event) => save(event, image.url, name)}>
                {t("generate.download")}
              </a>
              <Checks image={image} />
            </figcaption>
          </figure>
        );
      })}
    </>
  );
}

type Image = NonNullable<Job["images"]>[number];

/** What the encoder sees in an image, for each aspect that the prompt names. */
function Checks({ image }: { image: Image }) {
  const checks = image.checks ?? [];
  if (!checks.length) return null;
  return (
    <ul class="checks" aria-label={t("generate.checks")}>
      {checks.map(({ aspect, asked, seen }) => {
        const words = { aspect: facetName(aspect), asked: checkValue(aspect, asked), seen: checkValue(aspect, seen) };
        return (
          <li key={aspect} class={asked === seen ? "agrees" : "differs"}>
            {asked === seen ? t("generate.agrees", words) : t("generate.differs", words)}
          </li>
        );
      })}
    </ul>
  );
}

const checkValue = (aspect: string, value: string): string =>
  aspect === "lesion" ? t(value === "yes" ? "generate.lesion.yes" : "generate.lesion.no") : valueName(value);

function Outcome({ job }: { job: Job }) {
  if (job.state === "FAILED")
    return (
      <Notice kind="bad">
        <strong>{job.problem?.title || t("job.FAILED")}</strong> {job.problem?.detail}{" "}
        {job.problem && <code>{job.problem.code}</code>}
      </Notice>
    );
  if (job.state === "CANCELLED") return <Notice kind="plain">{t("job.CANCELLED")}</Notice>;
  if (job.state === "EXPIRED") return <Notice kind="plain">{t("job.EXPIRED.text")}</Notice>;
  return job.prompt_truncated ? <Notice kind="plain">{t("query.cut")}</Notice> : null;
}

/** Returns the state of a job in words. */
export function inWords(job: Job): string {
  const left = typeof job.eta_s === "number" ? ` ${duration(job.eta_s)}` : "";
  if (job.state === "RUNNING") return t("job.step", { step: job.step ?? 0, steps: job.steps ?? 0 }) + left;
  if (job.state !== "PENDING") return t(`job.${job.state}`);
  if (job.queue_position) return t("job.ahead", { n: job.queue_position }) + left;
  return t("job.waiting") + left;
}

function duration(seconds: number): string {
  if (seconds < 1) return t("eta.now");
  return seconds < 90
    ? t("eta.seconds", { s: Math.round(seconds) })
    : t("eta.minutes", { m: Math.round(seconds / 60) });
}

/** What is asked for, as it was typed; a number that the browser cannot read is NaN. */
interface Options {
  steps?: number;
  guidance_scale?: number;
  width?: number;
  height?: number;
  images?: number;
  negative_prompt?: string;
  seed?: string;
}

interface Range {
  least: number;
  most: number;
  default: number;
}

/** Returns the options; raises a problem for one that cannot be read. */
function readable(options: Options): Options {
  const wrong = Object.entries(options).find(([name, value]) =>
    name === "seed" ? !/^\d{1,19}$/.test(value) : Number.isNaN(value),
  );
  if (!wrong) return options;
  const name = t(`generate.${wrong[0]}` as Key);
  throw new Problem({
    code: "OPTION_OUT_OF_RANGE",
    title: t("generate.unreadable", { name }),
    detail: t("generate.unreadable.text"),
    status: 422,
  });
}

const IMAGES = { least: 1, most: 4, default: 1 };

interface NumberFieldProps {
  name: string;
  range: Range;
  step: number;
  put: (value: number | "") => void;
}

function NumberField({ name, range, step, put }: NumberFieldProps) {
  return (
    <label>
      {name}
      <input
        type="number"
        min={range.least}
        max={range.most}
        step={step}
        placeholder={number(range.default)}
        onInput={({ currentTarget: field }) =>
          put(field.validity.badInput ? Number.NaN : field.value && Number(field.value))
        }
      />
    </label>
  );
}

// Within the model's ranges; an empty field is the model's default.
function Making({ model, set }: { model: Model; set: (change: (options: Options) => Options) => void }) {
  const { visitor } = useRights();
  const {
    steps,
    guidance,
    side,
    guidance_input: how,
    side_multiple: multiple = 64,
  } = (model.manifest ?? {}) as Record<string, Range | undefined> & { guidance_input?: string; side_multiple?: number };
  const put = (name: keyof Options, value: string | number) =>
    set(({ [name]: _, ...others }) => (value === "" ? others : { ...others, [name]: value }));
  const numbers: [keyof Options, Range | undefined, number][] = [
    ["steps", steps, 1],
    ["guidance_scale", guidance, 0.1],
    ["width", side, multiple],
    ["height", side, multiple],
    ["images", visitor ? undefined : IMAGES, 1],
  ];
  return (
    <details>
      <summary>{t("generate.options")}</summary>
      <form class="line" onSubmit={(event) => event.preventDefault()}>
        {numbers.map(
          ([name, range, step]) =>
            range && (
              <NumberField
                key={name}
                name={t(`generate.${name}` as Key)}
                range={range}
                step={step}
                put={(value) => put(name, value)}
              />
            ),
        )}
        <label>
          {t("generate.seed.label")}
          <input
            inputMode="numeric"
            autocomplete="off"
            placeholder={t("generate.random")}
            onInput={(event) => put("seed", event.currentTarget.value.trim())}
          />
        </label>
        {how === "unconditional" && (
          <label>
            {t("generate.negative_prompt")}
            <input
              maxLength={2000}
              autocomplete="off"
              onInput={(event) => put("negative_prompt", event.currentTarget.value.trim())}
            />
          </label>
        )}
      </form>
    </details>
  );
}
