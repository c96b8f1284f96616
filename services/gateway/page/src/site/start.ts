// Before anything of the page asks for something: a worker answers, not a server.

import { use } from "../api";
import { local } from "./transport";

use(local);
