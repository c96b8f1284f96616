// The page of a static site: the same page, with a worker in place of the server.

import "./start";
import "../main";
import { render } from "preact";
import { root } from "../address";
import { Status } from "./status";

const place = document.getElementById("site");
if (place) render(<Status />, place);
// Without a secure context there is none, and the site needs its network.
navigator.serviceWorker?.register(new URL("sw.js", root), { scope: root.pathname }).catch(() => {});
