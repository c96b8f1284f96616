// What the reader may do here, as the server says. Until it has said, everything is offered.

import { access } from "./api.js";

let known = null;

export async function load() {
  known = await access().catch(() => null);
}

export const can = (action) => !known || known.may.includes(action);

// True for a reader without a key of a server that has keys.
export const isVisitor = () => known?.role === "public";
