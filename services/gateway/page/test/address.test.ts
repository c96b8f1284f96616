import assert from "node:assert/strict";
import { test } from "node:test";
import { asks, EMPTY, parse, pathOf, type Route } from "../src/address";

const again = (route: Route): Route => {
  const [path = "", query = ""] = pathOf(route).split("?");
  return parse(path, query);
};

test("a link shows what its sender saw", () => {
  const routes: Route[] = [
    { ...EMPTY, q: "liver & spleen", where: { plane: ["axial", "coronal"], licence: ["a=b"] }, mode: "words" },
    { ...EMPTY, view: "image", id: "MPX-1.2:3_4", collection: "medpix", region: "Left kidney" },
    { ...EMPTY, view: "compare", a: "id:x", b: "100 %" },
    {
      ...EMPTY,
      view: "compare",
      tab: "shift",
      q: "pons",
      minus: "a",
      terms: [{ kind: "id", value: "a|b", weight: -0.5 }],
    },
    { ...EMPTY, view: "compare", tab: "shift" },
    { ...EMPTY, browse: true },
    { ...EMPTY, view: "read", id: "MPX-1", where: { modality: ["ct"] } },
    { ...EMPTY, view: "read", q: "pneumothorax" },
  ];
  for (const route of routes) assert.deepEqual(again(route), route);
});

test("what a link cannot mean is left out", () => {
  const route = parse(
    "",
    "q=brain&mode=magic&where=plane&where==x&where=plane%3D&term=9|text|x&term=a|text|b&term=1|script|x&term=|",
  );
  assert.deepEqual(route, { ...EMPTY, q: "brain" });
  assert.equal(parse("no/such/page", "").view, "lost");
  assert.equal(parse("i/%E0%A4%A", "").id, "%E0%A4%A");
});

test("a link of an earlier version still compares", () => {
  const route = parse("", "q=axial+T1&minus=axial&plus=sagittal&view=compare");
  assert.deepEqual([route.view, route.tab, route.minus], ["compare", "shift", "axial"]);
});

test("a filter alone asks for something, an empty address does not", () => {
  assert.ok(asks({ ...EMPTY, where: { plane: ["axial"] } }));
  assert.ok(!asks(EMPTY));
});
