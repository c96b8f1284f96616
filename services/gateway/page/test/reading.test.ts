import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY } from "../src/address";
import type { Evaluation } from "../src/api";
import { correctionOf, namesHidden, sessionOf, skillOf, taken, UNREAD } from "../src/reading";

test("steps come one by one, everything else once, and an event of a newer server changes nothing", () => {
  const step = { item: "lungs", text: "Three.", source: "rules", state: "supported" };
  const events = [
    { name: "kind", data: { medical: "medical" } },
    { name: "reading", data: step },
    { name: "reading", data: step },
    { name: "surprise", data: {} },
    { name: "done", data: { finish: "complete" } },
  ];
  const reading = events.reduce(taken, UNREAD);
  assert.deepEqual(Object.keys(reading).sort(), ["done", "kind", "steps"]);
  assert.deepEqual(reading.steps, [step, step]);
});

const read = (...figures: object[]): Evaluation[] => [{ subject: "read", figures }] as unknown as Evaluation[];

test("a label whose interval includes chance is hidden, and what was not measured is not", () => {
  const auroc = (label: string, low: number) => ({
    name: "AUROC",
    group: `finding ${label}`,
    value: 0.7,
    low,
    high: 0.9,
    chance: 0.5,
  });
  const skill = skillOf(read(auroc("pneumonia", 0.45), auroc("nevus", 0.5), auroc("effusion", 0.51)));
  assert.ok(skill.measured);
  assert.deepEqual([...skill.hidden], ["pneumonia", "nevus"]);
  assert.ok(namesHidden("Viral Pneumonia: 3 of 5.", skill));
  assert.ok(!namesHidden("Effusion: 3 of 5.", skill));
  assert.deepEqual(skillOf([]), { measured: false, hidden: new Set() });
});

test("that images without a finding are not told apart hides no sentence that says none", () => {
  const skill = skillOf(read({ name: "AUROC", group: "finding none", value: 0.5, low: 0.4, chance: 0.5 }));
  assert.ok(!namesHidden("None of the 20 nearest cases has it.", skill));
});

test("a kind is corrected by the address, and notes stay with the image", () => {
  const route = { ...EMPTY, view: "read" as const, own: "k" };
  const corrected = { ...route, where: { modality: ["ct"], plane: ["axial"], licence: ["x"] } };
  assert.deepEqual(correctionOf(corrected), { modality: "ct", view: "axial" });
  sessionOf(route).notes.lungs = "clear";
  assert.equal(sessionOf(corrected).notes.lungs, "clear");
  assert.deepEqual(sessionOf({ ...route, own: "l" }).notes, {});
});

test("an answer to a question has nothing to look at first", () => {
  assert.ok(sessionOf({ ...EMPTY, view: "read", q: "pneumothorax" }).revealed);
  assert.ok(!sessionOf({ ...EMPTY, view: "read", id: "r1" }).revealed);
});
