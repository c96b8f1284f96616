// How an image is to be made: options within the model's ranges, kept for this tab.

import { isVisitor } from "./access.js";
import { Problem } from "./api.js";
import { element } from "./elements.js";
import { tab } from "./storage.js";

const KEY = "mirage-making";
const SIDE_STEP = 64;
const IMAGES = 4;
const DIGITS = /^[0-9]{1,19}$/;
let count = 0;

// Gives the closed options and `read()`, the fields of a job that differ from the model's defaults; it throws a Problem where one
// cannot be read.
export function making(model) {
  const { steps, guidance, side, guidance_input: how } = model.manifest;
  const id = `making-${(count += 1)}`;
  const kept = load();
  // The hint stands beside the label, so that a field's name stays a word.
  const field = (name, label, input, note) => {
    if (note) input.setAttribute("aria-describedby", `${input.id}-note`);
    return element("div", { class: "field" }, element("label", { class: "name", for: input.id }, label), input, note && element("span", { id: `${input.id}-note`, class: "aside" }, note));
  };
  const number = (name, range, step) =>
    element("input", { id: `${id}-${name}`, name, type: "number", min: range.least, max: range.most, step, value: kept[name] ?? range.default });
  const select = (name, values, chosen) => {
    const made = element("select", { id: `${id}-${name}`, name }, values.map((value) => element("option", { value }, String(value))));
    made.value = String(kept[name] ?? chosen);
    if (!made.value) made.value = String(chosen);
    return made;
  };
  const sides = Array.from({ length: Math.floor((side.most - side.least) / SIDE_STEP) + 1 }, (_, index) => side.least + index * SIDE_STEP);
  const seed = element("input", { id: `${id}-seed`, name: "seed", type: "text", inputmode: "numeric", pattern: DIGITS.source, autocomplete: "off", placeholder: "chosen for you" });
  // Where guidance enters the model as a number, there is no second prompt to guide away from.
  const negative = how === "unconditional" && element("input", { id: `${id}-negative`, name: "negative_prompt", type: "text", maxlength: 2000, autocomplete: "off", value: kept.negative_prompt });
  const form = element(
    "form",
    { class: "grid", novalidate: true },
    field("steps", "Steps", number("steps", steps, 1), `${steps.least} to ${steps.most}`),
    field("guidance_scale", "Guidance", number("guidance_scale", guidance, 0.1), `${guidance.least} to ${guidance.most}`),
    field("width", "Width", select("width", sides, side.default)),
    field("height", "Height", select("height", sides, side.default)),
    field("images", "Images", select("images", Array.from({ length: isVisitor() ? 1 : IMAGES }, (_, index) => index + 1), 1)),
    field("seed", "Seed", seed, "the same seed, the same image"),
    negative && field("negative_prompt", "Without", negative, "heeded above a guidance of 1"),
  );
  form.addEventListener("submit", (event) => event.preventDefault());

  // An empty field is the model's default. One that the browser cannot read as a number looks empty, and is none.
  const numeric = (name, range) => {
    const { value, validity } = form.elements[name];
    if (validity.badInput) throw unreadable(name, `a number between ${range.least} and ${range.most}`);
    return value === "" ? undefined : Number(value);
  };
  const digits = () => {
    const given = seed.value.trim();
    if (given && !DIGITS.test(given)) throw unreadable("seed", "a whole number between 0 and 2^63-1", given.slice(0, 40));
    return given;
  };

  return {
    node: element("details", { class: "filters making" }, element("summary", {}, "Options"), form),
    seed: (value) => (seed.value = value),
    read() {
      const given = {
        steps: numeric("steps", steps),
        guidance_scale: numeric("guidance_scale", guidance),
        width: numeric("width", side),
        height: numeric("height", side),
        images: numeric("images"),
        negative_prompt: negative?.value?.trim() || undefined,
      };
      const chosen = { ...given, seed: digits() };
      save(given);
      return chosen;
    },
  };
}

// As the server says it of what it can read.
const unreadable = (field, range, given) =>
  new Problem({ code: "OPTION_OUT_OF_RANGE", title: "Option out of range", status: 422, detail: `${field} must be ${range}${given ? `; ${given} was asked for` : ""}.` });

function load() {
  const kept = tab.json(KEY, {});
  return typeof kept === "object" ? kept : {};
}

function save(given) {
  tab.set(KEY, JSON.stringify(given));
}
