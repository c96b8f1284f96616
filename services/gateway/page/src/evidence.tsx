// The middle of a reading: what similar cases have, the sentences for each item, and the label.

import type { Route } from "./address";
import { EMPTY } from "./address";
import type { Reads } from "./api";
import { thumbnail } from "./quality";
import { namesHidden, type Session, type Skill } from "./reading";
import { language, number, t } from "./text";
import { Link, Notice, Picture } from "./ui";
import { facetName, valueName } from "./words";

const PICTURES = 6;
const percent = (share: number): string => `${number(Math.round(100 * share))} %`;

interface EvidenceProps {
  evidence: Reads["ReadEvidence"];
  skill: Skill;
  route: Route;
}

export function Evidence({ evidence, skill, route }: EvidenceProps) {
  const { cases, records, where = {}, facets = [], guesses = [] } = evidence;
  const kind = Object.values(where)
    .flat()
    .map((each) => valueName(each));
  const shown = facets.map((each) => ({
    ...each,
    values: each.values.filter(({ value }) => each.facet !== "finding" || !skill.hidden.has(value)),
  }));
  const withheld = facets.flatMap(({ values }) => values).length - shown.flatMap(({ values }) => values).length;
  const ids = [...new Set(shown.flatMap(({ values }) => values.flatMap((each) => each.ids ?? [])))].slice(0, PICTURES);
  return (
    <section class="box" aria-labelledby="evidence">
      <h2 id="evidence">{`3 · ${t("read.evidence")}`}</h2>
      <p class="soft small">
        {t(kind.length ? "read.evidence.kind" : "read.evidence.all", { n: cases, records, kind: kind.join(", ") })}
      </p>
      {evidence.notice && <Notice>{t("read.few.cases")}</Notice>}
      {cases > 0 && !facets.some(({ facet }) => facet === "finding") && <p>{t("read.unlabelled")}</p>}
      {shown
        .filter(({ values }) => values.length)
        .map((each) => (
          <Shares key={each.facet} facet={each.facet} values={each.values} cases={cases} />
        ))}
      <Pictures ids={ids} route={route} />
      {withheld > 0 && <p>{t("read.hidden", { n: withheld })}</p>}
      <p class="soft small">
        {t(skill.measured ? "read.measured" : "read.unmeasured")}{" "}
        <Link to={{ ...EMPTY, view: "quality", collection: route.collection }}>{t("view.quality")}</Link>
      </p>
      {guesses.length > 0 && (
        <details class="small">
          <summary>{t("read.guesses")}</summary>
          <dl>
            {guesses.flatMap(({ facet, values }) => [
              <dt key={facet}>{facetName(facet)}</dt>,
              <dd key={`${facet}=`}>
                {(values ?? []).map((each) => `${valueName(each.value)} ${percent(each.probability)}`).join(", ")}
              </dd>,
            ])}
          </dl>
        </details>
      )}
    </section>
  );
}

type Label = Reads["LabelEvidence"];

function Shares({ facet, values, cases }: { facet: string; values: readonly Label[]; cases: number }) {
  return (
    <table class="shares">
      <caption>{facetName(facet)}</caption>
      <thead class="unseen">
        <tr>
          <th scope="col">{t("quality.label")}</th>
          <th scope="col">{t("read.share")}</th>
          <th scope="col">{t("read.compared")}</th>
        </tr>
      </thead>
      <tbody>
        {values.map((each) => (
          <tr key={each.value}>
            <th scope="row">{valueName(each.value)}</th>
            <td>
              {each.enough && (
                <span class="share" aria-hidden="true">
                  <span style={{ width: `${100 * each.share}%` }} />
                </span>
              )}
              {t("read.of", { n: each.cases, of: cases })}
            </td>
            <td class="soft small">{each.enough ? figuresOf(each) : t("read.few")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function figuresOf({ low, high, prior, lift }: Label): string {
  const range = t("quality.range", { low: percent(low), high: percent(high) });
  const times = lift.toLocaleString(language, { maximumFractionDigits: 1 });
  return [range, prior > 0 ? t("read.lift", { times, prior: percent(prior) }) : t("read.nowhere")].join(" · ");
}

function Pictures({ ids, route, size = 72 }: { ids: readonly string[]; route: Route; size?: number }) {
  if (!ids.length) return null;
  return (
    <ul class="strip" aria-label={t("read.records")}>
      {ids.map((id) => (
        <li key={id} data-id={id}>
          <Link
            to={{ ...EMPTY, view: "image", id, collection: route.collection }}
            focus={id}
            aria-label={t("quality.open", { id })}
          >
            <Picture url={thumbnail(id, route.collection)} alt="" width={size} height={size} lazy />
          </Link>
        </li>
      ))}
    </ul>
  );
}

type Step = Reads["ReadStep"];

/** The sentences by item, each next to the student's own note. */
export function Readings({ session, skill, route }: { session: Session; skill: Skill; route: Route }) {
  const { checklist, steps, done } = session.reading;
  const items = [...(checklist?.items ?? []), { id: "", title: t("read.further") }];
  const model = steps.some(({ source }) => source === "model") || (done && done.engine !== "composed");
  const known = new Set(items.map(({ id }) => id));
  const summary = steps.filter(({ source }) => source === "summary");
  const read = steps.filter(({ source }) => source !== "summary");
  const ofItem = (id: string) => read.filter((each) => (known.has(each.item) ? each.item : "") === id);
  const shown = items.filter(({ id }) => ofItem(id).length);
  return (
    <section class="box reading" aria-labelledby="reading" aria-live="polite">
      <div class="head">
        <h2 id="reading">{`4 · ${t("read.reading")}`}</h2>
        {done && <span class="tag">{model ? (done.engine ?? "") : t("read.nomodel")}</span>}
      </div>
      <p class="soft small">{t("read.reading.text")}</p>
      {done && !shown.length && <p>{t("read.reading.none")}</p>}
      {summary.length > 0 && (
        <div class="block">
          <h3>{t("read.summary")}</h3>
          {summary.map((step, index) => (
            <Sentence key={index} step={step} skill={skill} route={route} />
          ))}
        </div>
      )}
      {shown.map(({ id, title }) => (
        <div class="block" key={id}>
          <h3>{title}</h3>
          {session.notes[id]?.trim() && <p class="mine">{t("read.yours", { text: session.notes[id] ?? "" })}</p>}
          {ofItem(id).map((step, index) => (
            <Sentence key={index} step={step} skill={skill} route={route} />
          ))}
        </div>
      ))}
      {done?.notice && <Notice>{done.notice}</Notice>}
      {(done?.withheld ?? 0) > 0 && <p class="soft small">{t("read.withheld", { n: done?.withheld ?? 0 })}</p>}
    </section>
  );
}

function Sentence({ step, skill, route }: { step: Step; skill: Skill; route: Route }) {
  if (namesHidden(step.text, skill)) return <p class="soft">{t("read.hidden", { n: 1 })}</p>;
  if (step.state === "contradicted")
    return (
      <Notice>
        <p>
          <strong>{t("read.contradicted")}</strong> <span lang="en">{step.text}</span>
        </p>
        <details class="small">
          <summary>{t("read.claim")}</summary>
          <q lang="en">{step.claim}</q>
        </details>
        <Pictures ids={step.ids ?? []} route={route} size={48} />
      </Notice>
    );
  return (
    <>
      <p class={step.state === "not_judged" ? "soft" : ""}>
        {step.source === "model" && <span class="tag">{t("read.model")}</span>} <span lang="en">{step.text}</span>
      </p>
      {step.state === "supported" && <Pictures ids={step.ids ?? []} route={route} size={48} />}
    </>
  );
}

/** The label; one that is not found better than by chance is not said. */
export function LabelFound({
  label,
  hidden,
  number: step,
}: {
  label: Reads["ReadLabel"];
  hidden: boolean;
  number: string;
}) {
  const properties = label.properties ?? [];
  return (
    <section class="box" aria-labelledby="label">
      <div class="head">
        <h2 id="label">{`${step}${t("read.label")}`}</h2>
        <strong>
          {hidden ? t("read.label.hidden") : label.finding ? valueName(label.finding) : t(`read.label.${label.state}`)}
        </strong>
        {properties.map(({ facet, value }) => (
          <span class="tag" key={facet}>{`${facetName(facet)}: ${valueName(value)}`}</span>
        ))}
      </div>
      {!hidden && <p lang="en">{label.text}</p>}
      {hidden && <p class="soft">{t("read.hidden", { n: 1 })}</p>}
    </section>
  );
}
