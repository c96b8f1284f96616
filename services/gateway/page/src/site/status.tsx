// A line at the foot of a site: what is being downloaded, and how to keep all of it.

import { useEffect, useState } from "preact/hooks";
import { here } from "../address";
import { useRoute } from "../router";
import { maybe, number, t } from "../text";
import { listen, send } from "./transport";
import type { FromWorker } from "./worker";

type Progress = Extract<FromWorker, { kind: "progress" }>["progress"];

const megabytes = (bytes: number): string => number(Math.max(0.1, Math.round(bytes / 2 ** 20 / 0.1) / 10));

export function Status() {
  useRoute(); // in another language it is drawn again
  const [model, setModel] = useState<Progress>(null);
  const [all, setAll] = useState<Progress>(null);
  const [asked, ask] = useState(0);
  const [kept, setKept] = useState("");
  const [limited, limit] = useState(false);
  useEffect(
    () =>
      listen((message) => {
        if (message.kind === "progress") (message.what === "all" ? setAll : setModel)(message.progress);
        if (message.kind === "consent") ask(message.bytes);
        if (message.kind === "limited") limit(true);
        if (message.kind === "kept") setKept(message.problem ?? (message.full ? "SITE_STORAGE" : "done"));
      }),
    [],
  );
  const agree = () => {
    ask(0);
    send({ kind: "consent" });
  };
  return (
    <div class="wide site">
      <p class={model ? "site-model" : undefined} role="status">
        {model && t("site.model", { done: megabytes(model.done), total: megabytes(model.total) })}
        {limited && t("site.limited")}
        {all && t("site.keeping", { done: all.done, total: all.total })}
        {!all && kept === "done" && t("site.kept")}
        {!all && kept && kept !== "done" && maybe(kept.toLowerCase().replace("site_", "site."), t("site.failed"))}
      </p>
      {asked > 0 && (
        <p class="site-model">
          {t("site.ask", { size: megabytes(asked) })}{" "}
          <button type="button" class="button primary" onClick={agree}>
            {t("site.download")}
          </button>
        </p>
      )}
      <p class="soft small">
        {t("site.serverless")}{" "}
        {!all && kept !== "done" && (
          <button type="button" class="link" onClick={() => send({ kind: "keep" })}>
            {t("site.keep")}
          </button>
        )}{" "}
        <a href={here("licences.txt")}>{t("site.licences")}</a>
      </p>
    </div>
  );
}
