// The reader's generated images, as the server keeps them.

import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { EMPTY } from "./address";
import { isAbort, type Job, type Problem, problemOf } from "./api";
import { Gate } from "./gate";
import { Attempt } from "./generate";
import { ended, list, read } from "./jobs";
import { settled } from "./router";
import { language, t } from "./text";
import { Link, Waiting } from "./ui";

const PERIOD_MS = 2000;

/** Returns the jobs so far, asked for again while one is unfinished and the page is looked at. */
function useJobs() {
  const [jobs, setJobs] = useState<Job[] | null>(null);
  const [token, setToken] = useState("");
  const [problem, fail] = useState<Problem | null>(null);
  const [turn, again] = useState(0);
  const open = jobs?.some((job) => !ended(job)) ?? true;
  useEffect(() => {
    if (!open) return;
    const controller = new AbortController();
    const renew = async () => {
      if (document.hidden && jobs) return;
      const page = await list("", controller.signal);
      const listed = new Set(page.jobs.map(({ id }) => id));
      // What was loaded beyond the first page is asked for one by one, as long as it is unfinished.
      const others = (jobs ?? []).filter(({ id }) => !listed.has(id));
      const renewed = await Promise.all(
        others.map((job) => (ended(job) ? job : read(job.id, controller.signal).catch(() => null))),
      );
      setJobs([...page.jobs, ...renewed.filter((job) => job !== null)]);
      if (!jobs) setToken(page.next_page_token ?? "");
      fail(null);
    };
    const wait = setTimeout(
      () =>
        renew()
          .catch((error: unknown) => isAbort(error) || fail(problemOf(error)))
          .finally(() => again(turn + 1)),
      jobs || turn ? PERIOD_MS : 0,
    );
    return () => {
      clearTimeout(wait);
      controller.abort();
    };
  }, [turn, open]);
  const more = async () => {
    const page = await list(token);
    setJobs([...(jobs ?? []), ...page.jobs]);
    setToken(page.next_page_token ?? "");
  };
  const put = (job: Job) => setJobs((jobs ?? []).map((each) => (each.id === job.id ? job : each)));
  return { jobs, token, problem, more, put, again: () => again(turn + 1) };
}

export function Generated() {
  const { jobs, token, problem, more, put, again } = useJobs();
  useLayoutEffect(() => {
    if (jobs) settled();
  }, [jobs === null]);
  return (
    <>
      <h1 tabIndex={-1}>{t("generated")}</h1>
      <p class="soft">{t("generated.about")}</p>
      {problem && <Gate problem={problem} again={again} />}
      {!jobs && !problem && <Waiting />}
      {jobs?.length === 0 && <p>{t("generated.none")}</p>}
      <ul class="grid jobs">
        {(jobs ?? []).map((job) => (
          <li class="card" key={job.id} data-id={job.id}>
            <Attempt job={job} changed={put} />
            <div class="about">
              <h2>{job.request.prompt}</h2>
              <p class="soft small">
                {job.expire_time &&
                  job.state === "SUCCEEDED" &&
                  t("generated.until", {
                    time: new Date(job.expire_time).toLocaleString(language, {
                      dateStyle: "medium",
                      timeStyle: "short",
                    }),
                  })}
              </p>
              <Link to={{ ...EMPTY, q: job.request.prompt }}>{t("generated.search")}</Link>
            </div>
          </li>
        ))}
      </ul>
      {token && (
        <p class="more">
          <button type="button" class="button" onClick={more}>
            {t("more")}
          </button>
        </p>
      )}
    </>
  );
}
