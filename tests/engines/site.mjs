// `node site.mjs FOLDER [ENGINE...]`: the main journeys of an exported site, in each engine; the last without its server of files.

import { createReadStream, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { ENGINES } from "./engines.mjs";
import { CARDS, count, drawn, holds } from "./journeys.mjs";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml",
  ".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".webmanifest": "application/manifest+json" };
const [folder, ...chosen] = process.argv.slice(2);
const [image] = readdirSync(join(folder, "images"), { recursive: true, withFileTypes: true })
  .filter((each) => each.isFile())
  .map((each) => join(each.parentPath ?? each.path, each.name));

function serve() {
  const server = createServer(({ url }, response) => {
    const path = normalize(decodeURIComponent(new URL(url, "http://site").pathname)).replace(/\/$/, "/index.html");
    const file = join(folder, path);
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const PATIENCE_MS = 60_000;
const until = (engine, expression) => holds(engine, expression, PATIENCE_MS);
const said = (text) => `document.body.innerText.includes(${JSON.stringify(text)})`;

const JOURNEYS = {
  async "the start page"(engine, url) {
    await engine.goto(url);
    await until(engine, drawn(".mosaic .shot img"));
  },
  async "a search by text"(engine) {
    await engine.type("#q", "an unusual question about the thalami");
    await until(engine, `${count(CARDS)} > 0`);
    await until(engine, drawn(`${CARDS} img`));
  },
  async "an image of it"(engine) {
    await engine.click(`${CARDS} a.shot`);
    await until(engine, drawn(".stage img"));
  },
  async "a query changed by arithmetic"(engine, url) {
    await engine.goto(`${url}#/compare?q=axial+T1+brain&minus=axial&plus=sagittal`);
    await until(engine, `${count(".half")} === 2 && ${count(".half .stage img")} > 0`);
  },
  async "an own image"(engine, url, { image }) {
    await engine.goto(`${url}#/`);
    await engine.upload("#own", image);
    await until(engine, `location.hash.includes("own=") && ${count(CARDS)} > 0`);
  },
  async "all of it is kept"(engine, url) {
    await engine.goto(`${url}#/`);
    await engine.shown(".site button.link");
    await engine.evaluate(`document.querySelector(".site button.link").click()`);
    await until(engine, `${said("All of it is kept")} || ${said("keeps no more")}`);
    if (!(await engine.evaluate(said("All of it is kept")))) throw new Error("the browser keeps nothing");
  },
  async "a search and an image without a network"(engine, url, { server }) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    // Another address of the page, so that it is opened again.
    await engine.goto(`${url}?again#/?q=a+coronal+section+at+the+hippocampi`);
    await until(engine, `${count(CARDS)} > 0`);
    await engine.click(`${CARDS} a.shot`);
    await until(engine, drawn(".stage img"));
  },
  async "a comparison without a network"(engine, url) {
    await engine.goto(`${url}?more#/compare?q=coronal+brain&minus=coronal&plus=sagittal`);
    await until(engine, `${count(".half")} === 2 && ${drawn(".half .stage img")}`);
  },
};

let failed = 0;
for (const name of chosen.length ? chosen : Object.keys(ENGINES)) {
  const server = await serve();
  const url = `http://127.0.0.1:${server.address().port}/`;
  const engine = await ENGINES[name]();
  for (const [journey, walk] of Object.entries(JOURNEYS)) {
    const began = Date.now();
    let outcome = "ok";
    try {
      await walk(engine, url, { image, server });
    } catch (error) {
      failed += 1;
      const shown = await engine.evaluate("location.href + document.body.innerText").catch(() => "");
      outcome = `FAILED: ${error.message}\nThe page said:\n${shown}\n`;
    }
    console.log(`${name}: site: ${journey}: ${outcome} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
  await engine.close().catch(() => {});
  server.closeAllConnections();
  server.close();
}
process.exit(failed ? 1 : 0);
