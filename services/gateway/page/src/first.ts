// Sends the search of the address before the page's script is there, which takes the answer over.

import { asks, readRoute } from "./address";
import { optionsOf, searchBody, termsOf } from "./asked";
import { send } from "./early";

const route = readRoute();
// A similar search has an address of its own, and an own image is to be read first.
if (route.view === "search" && asks(route) && !route.own && !route.similar)
  send("/v1/search", JSON.stringify(searchBody(route, { terms: termsOf(route), ...optionsOf(route) })));
