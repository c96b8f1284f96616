"""The page in a real browser: first paint, layout shift and time to results, over fresh loads.

`python -m bench.page --url http://localhost:8080 --json FILE` against a running MIRAGE.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from bench.report import Figure, Report

LOADS = 9
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
_WATCH = """window.shift = 0;
new PerformanceObserver((list) => {
    for (const each of list.getEntries()) if (!each.hadRecentInput) window.shift += each.value;
}).observe({ type: "layout-shift", buffered: true });"""


def load(browser: Browser, url: str) -> tuple[float, float, float]:
    """First contentful paint and time to the last result in ms, and the cumulative layout shift, of one fresh load."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(_WATCH)
    page.goto(url)
    page.wait_for_selector(".grid .card:not(.skeleton):nth-child(12)")
    shown = page.evaluate("performance.now()")
    page.wait_for_load_state("networkidle")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    shift = page.evaluate("window.shift")
    context.close()
    return float(paint), float(shown), float(shift)


def measure(url: str) -> Report:
    """Medians over fresh loads of a search, each in a browser context without a cache."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or "chromium", args=list(_FLAGS))
        load(browser, f"{url}/?q=axial+T1+brain")
        loads = [load(browser, f"{url}/?q=axial+T1+brain") for _ in range(LOADS)]
        browser.close()
    paints, shown, shifts = zip(*loads, strict=True)
    return Report(
        "Page",
        f"{LOADS} fresh loads of a search in Chromium without a GPU, medians; the first load is not counted.",
        (
            Figure("first contentful paint", statistics.median(paints), "ms", bar=500, better="lower"),
            Figure("twelve results shown", statistics.median(shown), "ms", better="lower"),
            Figure("cumulative layout shift, worst load", max(shifts), "", bar=0.01, better="lower"),
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--url", default="http://localhost:8080")
    parser.add_argument("--json", type=Path)
    parsed = parser.parse_args(arguments)
    report = measure(parsed.url)
    print(report.markdown())
    if parsed.json:
        report.save(parsed.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
