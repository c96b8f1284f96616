// How a job looks: its progress in words and as a bar, its images, and what became of it.

import { here } from "./api.js";
import { element } from "./elements.js";
import * as images from "./images.js";
import { ended, imageName } from "./jobs.js";

const UNHEARD_MS = 8000;

export function inWords(job, waitedMs = 0) {
  const left = job.eta_s === null || job.eta_s === undefined ? "" : `, ${duration(job.eta_s)} left`;
  if (job.state === "RUNNING") return `Step ${job.step} of ${job.steps}${left}`;
  if (job.state === "PENDING") {
    if (job.queue_position > 0) return `Waiting: ${job.queue_position} ${job.queue_position === 1 ? "job" : "jobs"} ahead${left}`;
    if (!left && waitedMs > UNHEARD_MS) return "Waiting: no worker is free, or none is running. It stays in the queue.";
    return `Waiting: next in the queue${left}`;
  }
  return { SUCCEEDED: "Done", FAILED: "Failed", CANCELLED: "Cancelled", EXPIRED: "Not finished in time" }[job.state] || job.state;
}

function duration(seconds) {
  if (seconds < 1) return "less than a second";
  return seconds < 90 ? `about ${Math.round(seconds)} s` : `about ${Math.round(seconds / 60)} min`;
}

// A bar and words, kept up to date by `show(job)`.
export function progress(label) {
  const bar = element("progress", { max: 1, value: 0, "aria-label": label });
  const words = element("p", { class: "facts" });
  const node = element("div", { class: "progress" }, bar, words);
  const since = performance.now();
  let last = null;
  function show(job) {
    last = job;
    bar.max = Math.max(1, job.steps);
    bar.value = job.step;
    words.textContent = inWords(job, performance.now() - since);
    node.hidden = ended(job);
  }
  // A queue that nobody serves sends nothing, and that is worth a word.
  setTimeout(() => last && show(last), UNHEARD_MS + 100);
  return { node, show };
}

// A note about a job that is not as its maker wished, or null.
export function notice(job) {
  const [kind, title, text] =
    {
      FAILED: ["none", job.problem?.title || "Failed", job.problem ? `${job.problem.detail} (${job.problem.code})` : "The image could not be made."],
      CANCELLED: ["weak", "Cancelled", "No image was made."],
      EXPIRED: ["weak", "Too late", "The job was not finished within its deadline. Try again when less is waiting."],
    }[job.state] || [];
  return title ? element("p", { class: `match ${kind}` }, element("strong", {}, title), " ", element("span", {}, text)) : null;
}

export function cutNotice(job) {
  if (!job.prompt_truncated) return null;
  const text = `The model reads only the beginning of a text this long (${job.prompt_tokens} tokens).`;
  return element("p", { class: "match weak" }, element("strong", {}, "Text cut"), " ", element("span", {}, text));
}

// The images of a job that has them, each said to be synthetic in its picture, its text and its name.
export function figures(job) {
  return job.images.map((image, index) => {
    const picture = element("img", { alt: altText(job, index), width: image.width, height: image.height, decoding: "async" });
    const name = imageName(job, index);
    const figure = element(
      "figure",
      { class: "made" },
      element("div", { class: "frame" }, picture, mark("Synthetic")),
      element(
        "figcaption",
        {},
        element("span", {}, `Seed ${image.seed}`),
        element("a", { href: here(image.url), download: name, onclick: (event) => images.save(event, image.url, name), "aria-label": `Download synthetic image ${index + 1} as PNG` }, "Download PNG"),
      ),
    );
    images.show(picture, image.url);
    return figure;
  });
}

export const badge = () => element("span", { class: "badge synthetic" }, "AI-generated");
export const mark = (text) => element("span", { class: "mark synthetic" }, text);

export function altText(job, index) {
  const which = job.request.images > 1 ? ` ${index + 1} of ${job.request.images}` : "";
  return `Synthetic image${which}, made by a model for “${job.request.prompt}”. Not a patient.`;
}

// An unfinished image, from the preview's base64.
export function previews() {
  const picture = element("img", { alt: "Preview of the unfinished synthetic image", width: 256, height: 256 });
  const node = element("figure", { class: "made unfinished", hidden: true }, element("div", { class: "frame" }, picture, mark("Synthetic, unfinished")));
  let address = "";
  const clear = () => {
    if (address) URL.revokeObjectURL(address);
    address = "";
  };
  return {
    node,
    show(data) {
      clear();
      const bytes = Uint8Array.from(atob(data.image), (letter) => letter.charCodeAt(0));
      address = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
      picture.src = address;
      node.hidden = false;
    },
    end() {
      clear();
      node.remove();
    },
  };
}

export function facts(job) {
  const { steps, guidance_scale: guidance, width, height, negative_prompt: negative } = job.request;
  const parts = [
    `${steps} ${steps === 1 ? "step" : "steps"}`,
    `guidance ${guidance}`,
    `${width} × ${height} pixels`,
    negative && `without “${negative}”`,
    job.fingerprint && `model ${job.fingerprint.slice(0, 12)}`,
    job.expire_time && job.state === "SUCCEEDED" && `kept until ${new Date(job.expire_time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })}`,
  ];
  return element("p", { class: "aside" }, parts.filter(Boolean).join(" · "));
}
