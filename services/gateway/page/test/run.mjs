// Runs the unit tests: bundled for Node, without a browser.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

const folder = mkdtempSync(join(tmpdir(), "page-"));
// As much of a browser as the modules touch when they are read.
const page = `Object.assign(globalThis, {
  document: { documentElement: {} }, history: {}, location: { pathname: "/", search: "" }, addEventListener() {},
}); globalThis.navigator ??= { languages: ["en"] };`;
await build({
  entryPoints: readdirSync(import.meta.dirname)
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join(import.meta.dirname, name)),
  bundle: true,
  platform: "node",
  format: "esm",
  outExtension: { ".js": ".mjs" },
  outdir: folder,
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".css": "empty" },
  banner: { js: page },
  logLevel: "error",
});
const { status } = spawnSync(process.execPath, ["--test", "--test-reporter=dot", folder], { stdio: "inherit" });
rmSync(folder, { recursive: true });
process.exit(status ?? 1);
