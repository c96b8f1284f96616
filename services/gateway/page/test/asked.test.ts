import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY } from "../src/address";
import { optionsOf, searchBody, termsOf } from "../src/asked";
import { send, taken } from "../src/early";
import { queryBody } from "../src/search";

test("what is sent early is what the page asks for, letter by letter", async () => {
  const routes = [
    { ...EMPTY, q: "liver", where: { plane: ["axial", "coronal"] }, mode: "words" as const, collection: "medpix" },
    {
      ...EMPTY,
      q: "pons",
      minus: "a",
      plus: "b",
      terms: [{ kind: "id" as const, value: "x", weight: -0.5 }],
      flat: true,
    },
  ];
  for (const route of routes) {
    const early = searchBody(route, { terms: termsOf(route), ...optionsOf(route) });
    assert.equal(JSON.stringify(early), JSON.stringify(searchBody(route, await queryBody(route))));
  }
});

test("an early answer is handed out once, and only to the same request", async () => {
  const sent: RequestInit[] = [];
  globalThis.fetch = async (_, asked = {}) => {
    sent.push(asked);
    return new Response("{}");
  };
  send("/v1/search", "a");
  assert.equal(taken("/v1/facets", undefined), undefined);
  const leaving = new AbortController();
  const answer = await taken("/v1/search", "a", leaving.signal);
  assert.equal(await answer?.text(), "{}");
  assert.equal(taken("/v1/search", "a"), undefined);
  leaving.abort();
  assert.equal(sent[0]?.signal?.aborted, true);
  // From now on the page's script asks.
  send("/v1/search", "b");
  assert.equal(sent.length, 1);
  globalThis.mirageEarly = undefined;
  send("/v1/search", "c");
  assert.equal(taken("/v1/search", "another"), undefined);
  assert.equal(sent[1]?.signal?.aborted, true);
});
