import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompareReply, Shown } from "../src/api";
import { differences, effect } from "../src/changes";
import { varied } from "../src/home";
import { neighbours } from "../src/image";
import { outline, regionAt } from "../src/regions";
import { citationOf, nameOf } from "../src/words";

const record = (id: string, labels: Record<string, string[]> = {}, more: Partial<Shown> = {}): Shown =>
  ({
    id,
    caption: "",
    labels,
    licence: "",
    source: "",
    attribution: "",
    image_url: "",
    thumbnail_url: "",
    image_type: "",
    width: 1,
    height: 1,
    flags: 0,
    ...more,
  }) as Shown;

test("the start page shows as many kinds as there are", () => {
  const brains = Array.from({ length: 20 }, (_, index) => record(`brain-${index}`, { body_part: ["brain"] }));
  const others = ["chest", "eye", "hip"].map((part) => record(part, { body_part: [part] }));
  const shown = varied([...brains, ...others], 4).map(({ labels }) => labels.body_part?.[0]);
  assert.deepEqual(new Set(shown), new Set(["brain", "chest", "eye", "hip"]));
});

test("arrows go through the case first, then through the results", () => {
  const [a1, a2, b, c] = [
    record("a1", {}, { case_id: "a" }),
    record("a2", {}, { case_id: "a" }),
    record("b"),
    record("c"),
  ];
  const ids = (of: Shown, records: Shown[]) => neighbours(of, records, [c, a1, b]).map((each) => each?.id);
  assert.deepEqual(ids(a1, [a1, a2]), ["c", "a2"]);
  assert.deepEqual(ids(a2, [a1, a2]), ["a1", "b"]);
  assert.deepEqual(ids(b, []), ["a1", undefined]);
});

test("a citation names source, attribution and licence", () => {
  const cited = citationOf(
    record("x", {}, { title: "Liver", source: "Atlas.", attribution: "A. Author", licence: "CC-BY-4.0" }),
    "http://h/i/x",
  );
  assert.equal(cited, "Liver. Atlas. A. Author. Licence: CC-BY-4.0. http://h/i/x.");
  assert.match(citationOf(record("x"), "l"), /Source not stated. No open licence stated/);
});

test("a record without a title is named after the first clause of its caption", () => {
  assert.equal(nameOf(record("x", {}, { caption: "Axial CT of the chest. It shows ribs." })), "Axial CT of the chest");
  assert.equal(nameOf(record("x")), "x");
});

test("labels that only one image has are what differs", () => {
  const rows = differences(
    record("a", { plane: ["axial"], modality: ["ct"] }),
    record("b", { plane: ["coronal"], modality: ["ct"], side: ["left"] }),
  );
  assert.deepEqual(rows, [
    { facet: "plane", sides: [["axial"], ["coronal"]] },
    { facet: "side", sides: [[], ["left"]] },
  ]);
});

const reply = (base: Shown[], shifted: Shown[]) =>
  ({ base: { results: base }, shifted: { results: shifted }, shift: 0.5 }) as unknown as CompareReply;
const many = (plane: string, from = 0) =>
  Array.from({ length: 4 }, (_, index) => record(`${plane}-${index + from}`, { plane: [plane], modality: ["mr"] }));

test("one sentence says what a change did", () => {
  assert.equal(
    effect(reply(many("axial"), many("sagittal"))),
    "All 4 turned from Axial to Sagittal. Unchanged: Modality MR.",
  );
  assert.match(effect(reply(many("axial"), many("axial"))), /^Nothing changed/);
  assert.match(effect(reply(many("axial"), many("axial", 9))), /^4 of 4 images are others/);
});

test("an outline is the sides that a region does not share with itself", () => {
  const map = { width: 3, height: 2, data: Uint16Array.from([1, 1, 0, 0, 1, 2]) };
  const area = outline(map, 1);
  assert.equal(area, "M0 0H2M0 1H1M1 2H2M0 0V1M1 1V2M2 0V2");
  const region = (id: number, name: string) => ({ id, name, group: "", colour: "", box: [], area: 0 });
  assert.equal(regionAt(map, [region(1, "liver"), region(2, "spleen")], 0.9, 0.9)?.name, "spleen");
});
