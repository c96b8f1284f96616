import assert from "node:assert/strict";
import { test } from "node:test";
import { BLANK, taken } from "../src/describe";

const after = (...events: { name: string; data: unknown }[]) => events.reduce(taken, BLANK);

test("checked sentences come one by one, and the end says how many were withheld", () => {
  const sentence = { text: "Look at the thalami.", ids: ["a"], kind: "caption", block: "where" };
  const end = { shown: 1, withheld: 2, source: "model" };
  const written = after({ name: "sentence", data: sentence }, { name: "done", data: end });
  assert.deepEqual(written.sentences, [sentence]);
  assert.equal(written.withheld, 2);
  assert.ok(written.done);
});

test("the sources of a comparison are the records of both sides", () => {
  const side = (id: string) => ({ results: [{ id }] });
  const written = after({ name: "retrieval", data: side("a") }, { name: "against", data: side("b") });
  assert.deepEqual(
    written.sources.map(({ id }) => id),
    ["a", "b"],
  );
});

test("an event of a newer server changes nothing", () => {
  assert.deepEqual(after({ name: "surprise", data: {} }), BLANK);
});
