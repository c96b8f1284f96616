// Builds the page into the gateway's package: one script and one stylesheet, each named after its content, and a small script that sends
// the first search meanwhile; and the page of a
// static site, with its worker. With --check nothing is written; it fails if the committed files are not what the sources build.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { constants, gunzipSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const OUT = join(HERE, "../mirage_gateway/page");
const SITE = join(HERE, "../mirage_gateway/site");
const RUNTIME = "runtime.wasm.gz";
const CONTAINS =
  "/* Contains Preact: MIT License, Copyright (c) 2015-present Jason Miller; services/gateway/page/LICENSE-preact */";
const WORKER_CONTAINS =
  "/* Contains ONNX Runtime Web (MIT, Microsoft), @huggingface/tokenizers (Apache-2.0, Hugging Face) or " +
  "wink-porter2-stemmer (MIT, Sanjaya Kumar Saxena) */";

const options = {
  absWorkingDir: HERE,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  write: false,
};

async function page() {
  const files = new Map();
  const built = await build({
    ...options,
    entryPoints: { app: "src/main.tsx", first: "src/first.ts" },
    outdir: OUT,
  });
  let html = readFileSync(join(HERE, "src/index.html"), "utf8");
  for (const { path, contents } of built.outputFiles) {
    const [name, kind] = basename(path).split(".");
    const whole = Buffer.from(basename(path) === "app.js" ? `${CONTAINS}\n${Buffer.from(contents)}` : contents);
    const hashed = `${name}-${createHash("sha256").update(whole).digest("hex").slice(0, 12)}.${kind}`;
    html = html.replace(basename(path), hashed);
    files.set(hashed, whole);
  }
  files.set("index.html", Buffer.from(html));
  files.set("icon.svg", readFileSync(join(HERE, "src/icon.svg")));
  return files;
}

// Scripts that share parts are split, so that what compares images is loaded only when it is needed.
async function split(entry, more) {
  const built = await build({
    ...options,
    entryPoints: [entry],
    splitting: true,
    outdir: SITE,
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    ...more,
  });
  return built.outputFiles.map(({ path, contents }) => [basename(path), Buffer.from(contents)]);
}

async function site() {
  const worker = await split("src/site/worker.ts", { banner: { js: WORKER_CONTAINS }, conditions: ["import"] });
  const [started] = worker.find(([name]) => name.startsWith("worker-"));
  const define = { WORKER: JSON.stringify(started) };
  const page = await split("src/site/entry.tsx", { banner: { js: CONTAINS }, define });
  const files = new Map([...worker, ...page]);
  const named = (start, end) => [...files.keys()].find((name) => name.startsWith(start) && name.endsWith(end));
  const html = readFileSync(join(HERE, "src/site/index.html"), "utf8");
  const script = named("entry-", ".js");
  const style = [...files.keys()].find((name) => name.endsWith(".css"));
  files.set("index.html", Buffer.from(html.replace("site.js", script).replace("site.css", style)));
  files.set("icon.svg", readFileSync(join(HERE, "src/icon.svg")));
  files.set("sw.js", readFileSync(join(HERE, "src/site/sw.js")));
  const wasm = readFileSync(join(HERE, "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"));
  files.set(RUNTIME, gzipSync(wasm, { level: constants.Z_BEST_COMPRESSION }));
  return files;
}

// The runtime is compared unpacked: versions of zlib differ.
const content = (name, bytes) => (name === RUNTIME ? gunzipSync(bytes) : bytes);
let wrong = false;
for (const [folder, files] of [
  [OUT, await page()],
  [SITE, await site()],
]) {
  if (process.argv.includes("--check")) {
    const committed = readdirSync(folder).sort();
    const same = (name) =>
      committed.includes(name) &&
      content(name, readFileSync(join(folder, name))).equals(content(name, files.get(name)));
    wrong ||= committed.join() !== [...files.keys()].sort().join() || ![...files.keys()].every(same);
  } else {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  }
}
if (wrong) {
  console.error("the page is not built from its sources: make page");
  process.exit(1);
}
