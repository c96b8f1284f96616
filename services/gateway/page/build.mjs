// Builds the page into the gateway's package: one script and one stylesheet, each named after its content.
// With --check nothing is written; it fails if the committed files are not what the sources build.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const OUT = join(import.meta.dirname, "../mirage_gateway/page");

const built = await build({
  entryPoints: { app: "src/main.tsx" },
  absWorkingDir: import.meta.dirname,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  banner: {
    js: "/* Contains Preact: MIT License, Copyright (c) 2015-present Jason Miller; services/gateway/page/LICENSE-preact */",
  },
  outdir: OUT,
  write: false,
});

const files = new Map();
const names = {};
for (const { path, contents } of built.outputFiles) {
  const kind = path.split(".").pop();
  const digest = createHash("sha256").update(contents).digest("hex").slice(0, 12);
  names[kind] = `app-${digest}.${kind}`;
  files.set(names[kind], Buffer.from(contents));
}
const html = readFileSync(join(import.meta.dirname, "src/index.html"), "utf8");
files.set("index.html", Buffer.from(html.replace("app.js", names.js).replace("app.css", names.css)));
files.set("icon.svg", readFileSync(join(import.meta.dirname, "src/icon.svg")));

if (process.argv.includes("--check")) {
  const committed = readdirSync(OUT).sort();
  const same = (name) => committed.includes(name) && readFileSync(join(OUT, name)).equals(files.get(name));
  if (committed.join() !== [...files.keys()].sort().join() || ![...files.keys()].every(same)) {
    console.error("the page is not built from its sources: make page");
    process.exit(1);
  }
} else {
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  for (const [name, content] of files) writeFileSync(join(OUT, name), content);
}
