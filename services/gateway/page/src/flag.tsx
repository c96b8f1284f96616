// A reader's report that something is wrong with a record, or with a sentence about it.

import { useState } from "preact/hooks";
import { json, of, problemOf, within } from "./api";
import { t } from "./text";

const REASONS = ["wrong-caption", "wrong-image", "licence", "privacy", "other"] as const;
const COMMENT = 1000;

interface ReportProps {
  record: { id: string; collection?: string };
  /** The sentence of a description that the report is about. */
  sentence?: string;
}

export function Report({ record, sentence }: ReportProps) {
  const [reason, setReason] = useState<string>(REASONS[0]);
  const [comment, setComment] = useState("");
  const [outcome, setOutcome] = useState("");
  const [sent, setSent] = useState(false);
  const send = (event: Event) => {
    event.preventDefault();
    const quoted = sentence ? `“${[...sentence].slice(0, 500).join("")}” ` : "";
    const body = {
      reason: sentence ? "description" : reason,
      comment: `${quoted}${comment.trim()}`.trim().slice(0, COMMENT),
    };
    json(`${of(record.id)}/flags${within(record.collection ?? "")}`, { body }).then(
      () => {
        setSent(true);
        setOutcome(t("report.thanks"));
      },
      (error: unknown) => setOutcome(problemOf(error).message),
    );
  };
  return (
    <details class="report">
      <summary>{sentence ? t("report.sentence") : t("report")}</summary>
      {!sent && (
        <form onSubmit={send}>
          {!sentence && (
            <label>
              {t("report.what")}
              <select value={reason} onChange={(event) => setReason(event.currentTarget.value)}>
                {REASONS.map((each) => (
                  <option value={each} key={each}>
                    {t(`report.${each}`)}
                  </option>
                ))}
              </select>
            </label>
          )}
          <label>
            {t("report.comment")}
            <textarea
              rows={3}
              maxLength={sentence ? 400 : COMMENT}
              value={comment}
              onInput={(event) => setComment(event.currentTarget.value)}
            />
          </label>
          <button type="submit" class="button">
            {t("report.send")}
          </button>
        </form>
      )}
      <p role="status" class="soft">
        {outcome}
      </p>
    </details>
  );
}
