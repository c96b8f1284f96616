// `node run.mjs URL [ENGINE...]`: the main journeys against a MIRAGE that runs, with its demonstration, in each engine.

import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ENGINES } from "./engines.mjs";
import { JOURNEYS } from "./journeys.mjs";

const [url, ...chosen] = process.argv.slice(2);
const base = url.replace(/\/$/, "");
const found = await (await fetch(`${base}/v1/search`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ terms: [{ text: "axial T1 brain MRI" }], k: 1 }),
})).json();
const [{ id, image_url: address }] = found.results;
const reply = await fetch(`${base}${address}`);
const image = join(tmpdir(), `section.${reply.headers.get("content-type").split("/")[1]}`);
writeFileSync(image, Buffer.from(await reply.arrayBuffer()));

let failed = 0;
for (const name of chosen.length ? chosen : Object.keys(ENGINES)) {
  for (const [journey, walk] of Object.entries(JOURNEYS)) {
    if (!journey.includes(process.env.JOURNEY ?? "")) continue;
    const began = Date.now();
    let engine;
    let said = "ok";
    try {
      engine = await ENGINES[name]();
      await walk(engine, base, { id, image });
    } catch (error) {
      failed += 1;
      const shown = await engine?.evaluate("document.body.innerText").catch(() => "");
      said = `FAILED: ${error.message}\nThe page said:\n${shown}\n`;
    } finally {
      await engine?.close().catch(() => {});
    }
    console.log(`${name}: ${journey}: ${said} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
}
process.exit(failed ? 1 : 0);
