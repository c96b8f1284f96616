// An expert rates the items of a sheet one by one, without knowing where each came from. The link is all that it takes.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { here } from "./address";
import { type Answer, json, type Problem, problemOf, type Question, type Rating } from "./api";
import { useData } from "./data";
import { settled } from "./router";
import { type Key, t } from "./text";
import { Failure, Notice, Picture, Waiting } from "./ui";

type Given = Pick<Answer, "relevance" | "verdict" | "origin">;

const CANNOT_TELL: Given = { relevance: null, verdict: null, origin: null };
const RELEVANCE = ["0", "1", "2", "3"];
const VERDICTS = { result: ["correct", "mislabelled", "misleading"], description: ["correct", "misleading"] };
const ORIGINS = ["real", "generated"];

export function Rate({ token }: { token: string }) {
  const path = `/v1/rate/${encodeURIComponent(token)}`;
  const { value, error, again, set } = useData<Rating>(path, (signal) => json(path, { signal }));
  const [begun, begin] = useState(false);
  const [place, go] = useState<number | null>(null);
  useLayoutEffect(() => {
    if (value) settled();
  }, [value]);
  if (error) return <Failure problem={error} again={again} whole />;
  if (!value) return <Waiting />;
  const open = value.questions.filter((each) => !each.gone);
  const answered = new Map(value.answers.map((each) => [each.number, each]));
  const left = open.filter((each) => !answered.has(each.number));
  if (!begun && !answered.size) return <Intro questions={value.questions} begin={() => begin(true)} />;
  const next = left.length ? open.indexOf(left[0] as Question) : open.length;
  const at = place ?? next;
  const question = open[at];
  if (!question) return <Done open={open} back={() => go(open.length - 1)} />;
  const store = (given: Given) =>
    json<{ version: number }>(path, {
      body: { answer: { number: question.number, ...given }, version: value.version },
    }).then(({ version }) => {
      const answer = { number: question.number, rater: 0, ...given };
      set({ ...value, version, answers: [...value.answers.filter((each) => each.number !== answer.number), answer] });
      // Who went back goes on from there; all others to the first one without an answer.
      go(place !== null && at + 1 < open.length ? at + 1 : null);
    });
  return (
    <Item
      key={question.number}
      question={question}
      image={`${path}/images/${question.number}`}
      given={answered.get(question.number)}
      at={at + 1}
      of={open.length}
      done={open.length - left.length}
      back={at > 0 ? () => go(at - 1) : undefined}
      store={store}
      again={() => {
        go(null);
        again();
      }}
    />
  );
}

function Intro({ questions, begin }: { questions: Question[]; begin: () => void }) {
  const open = questions.filter((each) => !each.gone).length;
  return (
    <section class="rate">
      <h1 tabIndex={-1}>{t("rate")}</h1>
      <p>{open ? t("rate.what", { n: open }) : t("rate.empty")}</p>
      <ul class="told-list">
        <li>{t("rate.blind")}</li>
        <li>{t("rate.generated")}</li>
        <li>{t("rate.later")}</li>
        <li>{t("rate.names")}</li>
      </ul>
      {open > 0 && (
        <p>
          <button type="button" class="button primary" onClick={begin}>
            {t("rate.begin")}
          </button>
        </p>
      )}
    </section>
  );
}

function Done({ open, back }: { open: Question[]; back: () => void }) {
  return (
    <section class="rate">
      <h1 tabIndex={-1}>{open.length ? t("rate.done") : t("rate.empty")}</h1>
      {open.length > 0 && <p>{t("rate.thanks")}</p>}
      {open.length > 0 && (
        <p>
          <button type="button" class="button" onClick={back}>
            {t("rate.back")}
          </button>
        </p>
      )}
    </section>
  );
}

interface ItemProps {
  question: Question;
  image: string;
  given: Given | undefined;
  at: number;
  of: number;
  done: number;
  back: (() => void) | undefined;
  store: (given: Given) => Promise<void>;
  again: () => void;
}

function Item({ question, image, given, at, of, done, back, store, again }: ItemProps) {
  const { relevance, verdict, origin } = given ?? CANNOT_TELL;
  const [answer, change] = useState<Given>({ relevance, verdict, origin });
  const [problem, fail] = useState<Problem | null>(null);
  const [busy, wait] = useState(false);
  const { kind } = question;
  const second = kind === "image" ? "origin" : "verdict";
  const whole = answer.relevance !== null && answer[second] !== null;
  const send = (sent: Given) => {
    fail(null);
    wait(true);
    store(sent).catch((error: unknown) => {
      wait(false);
      fail(problemOf(error));
    });
  };
  const choices = kind === "image" ? ORIGINS : VERDICTS[kind];
  return (
    <form
      class="rate"
      onSubmit={(event) => {
        event.preventDefault();
        if (whole && !busy) send(answer);
      }}
    >
      <p class="soft small">
        {t("rate.place", { at, of })} <progress max={of} value={done} aria-label={t("rate.progress")} />
      </p>
      <Asked question={question} image={image} />
      <Choice
        name={t(`rate.relevance.${kind}`)}
        choices={RELEVANCE}
        word={(each) => t(`rate.relevance.${each}` as Key)}
        chosen={answer.relevance === null || answer.relevance === undefined ? "" : String(answer.relevance)}
        choose={(each) => change({ ...answer, relevance: Number(each) })}
      />
      <Choice
        name={t(`rate.${second}`)}
        choices={choices}
        word={(each) => t(`rate.${second}.${each}` as Key)}
        chosen={answer[second] ?? ""}
        choose={(each) => change({ ...answer, [second]: each })}
      />
      {problem && <NotSaved problem={problem} again={again} />}
      <p class="line">
        <button type="submit" class="button primary" disabled={!whole || busy}>
          {t("rate.save")}
        </button>
        <button type="button" class="button" disabled={busy} onClick={() => send(CANNOT_TELL)}>
          {t("rate.cannot")}
        </button>
        {back && (
          <button type="button" class="link" onClick={back}>
            {t("rate.back")}
          </button>
        )}
      </p>
    </form>
  );
}

function Asked({ question, image }: { question: Question; image: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    scrollTo({ top: 0, behavior: "instant" });
    heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <>
      <h1 tabIndex={-1} ref={heading}>
        {question.query}
      </h1>
      {question.has_image && (
        <a class="shot" href={here(image)} target="_blank" rel="noreferrer" aria-label={t("rate.open")}>
          <Picture url={image} alt={t("rate.image")} />
        </a>
      )}
      {question.text && <p class="box told">{question.text}</p>}
    </>
  );
}

function NotSaved({ problem, again }: { problem: Problem; again: () => void }) {
  return (
    <Notice kind="bad">
      <p role="alert">
        <strong>{problem.title}</strong> {problem.message}
      </p>
      {["RATING_CHANGED", "RATING_ITEM_NOT_FOUND"].includes(problem.code) && (
        <button type="button" class="button" onClick={again}>
          {t("rate.reload")}
        </button>
      )}
    </Notice>
  );
}

interface ChoiceProps {
  name: string;
  choices: string[];
  word: (each: string) => ComponentChildren;
  chosen: string;
  choose: (each: string) => void;
}

function Choice({ name, choices, word, chosen, choose }: ChoiceProps) {
  return (
    <fieldset>
      <legend>{name}</legend>
      <div class="choices">
        {choices.map((each) => (
          <label class="choice" key={each}>
            <input type="radio" name={name} checked={chosen === each} onChange={() => choose(each)} />
            <span>{word(each)}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
