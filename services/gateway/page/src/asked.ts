// What a search asks the gateway for, told from its address alone.

import type { Route } from "./address";

export const PAGE_SIZE = 24;

type Fields = Record<string, unknown>;

/** Returns the terms of a query, those of an own image between the others. */
export const termsOf = (route: Route, images: Fields[] = []): Fields[] => [
  ...(route.q ? [{ text: route.q }] : []),
  ...(route.similar ? [{ id: route.similar }] : []),
  ...images,
  ...(route.minus ? [{ text: route.minus, weight: -1 }] : []),
  ...(route.plus ? [{ text: route.plus, weight: 1 }] : []),
  ...route.terms.map(({ kind, value, weight }) => ({ [kind]: value, weight })),
];

export const optionsOf = (route: Route): Fields => ({
  ...(route.mode ? { mode: route.mode } : {}),
  ...(Object.keys(route.where).length ? { where: route.where } : {}),
  ...(route.collection ? { collection: route.collection } : {}),
});

/** Returns the body of a search for the page of results that a token names, the first without one. */
export const searchBody = (route: Route, query: Fields, token = ""): Fields => ({
  ...query,
  ...(route.flat ? {} : { group_by: "case" }),
  k: PAGE_SIZE,
  ...(token ? { page_token: token } : {}),
});
