// Searches of the page as requests, and their replies page by page.

import { asks, type Route } from "./address";
import { json, of, parameters, type SearchReply, type Shown } from "./api";
import { optionsOf, PAGE_SIZE, searchBody, termsOf } from "./asked";
import { type Data, useData } from "./data";
import * as own from "./own";

/** What was found so far; without a query, all that passes the filter. */
export interface Found {
  results: Shown[];
  reply: SearchReply;
  token: string;
}

/** Returns the fields of a query: its terms, how to compare, filter and atlas. Raises a problem if an own image is gone. */
export async function queryBody(route: Route): Promise<Record<string, unknown>> {
  const image = route.own ? await own.given(route.own) : null;
  const terms = termsOf(route, image ? [{ image: await own.base64(image.file) }] : []);
  return { terms, ...optionsOf(route), ...(image?.insist ? { accept_any_image: true } : {}) };
}

async function page(route: Route, token: string, signal?: AbortSignal): Promise<Found> {
  const body = searchBody(route, await queryBody(route), token);
  const similar = route.similar && !route.q && !route.own && !route.terms.length;
  const reply = similar
    ? await json<SearchReply>(
        `${of(route.similar)}/similar?${parameters(route, { k: PAGE_SIZE, page_token: token })}`,
        { signal },
      )
    : await json<SearchReply>("/v1/search", { body, signal });
  return { results: reply.results, reply, token: reply.next_page_token ?? "" };
}

const nameOf = (route: Route): string => {
  const { view: _, id: __, region: ___, ...asked } = route;
  return asks(route) ? `search ${JSON.stringify(asked)}` : "";
};

/** Returns what a route finds, and `more`, which adds the next page to it. */
export function useSearch(route: Route): Data<Found> & { more(): Promise<void> } {
  const found = useData(nameOf(route), (signal) => page(route, "", signal));
  return {
    ...found,
    async more() {
      if (!found.value) return;
      const next = await page(route, found.value.token);
      const known = new Set(found.value.results.map(({ id }) => id));
      const fresh = next.results.filter(({ id }) => !known.has(id));
      found.set({ ...found.value, results: [...found.value.results, ...fresh], token: next.token });
    },
  };
}
