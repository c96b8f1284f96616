// The link to the reader's jobs, with how many are not finished. It stands there only where images can be made.

import { byId } from "./elements.js";
import * as jobs from "./jobs.js";

export async function refresh() {
  const link = byId("jobs-link");
  if (!(await jobs.model())) {
    link.hidden = true;
    return;
  }
  const found = await jobs.list({ states: ["PENDING", "RUNNING"], limit: 100 }).catch(() => ({ jobs: [] }));
  link.hidden = false;
  const count = byId("jobs-count");
  count.hidden = !found.jobs.length;
  count.textContent = found.jobs.length ? `${found.jobs.length} in the making` : "";
}
