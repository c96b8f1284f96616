"""The page in a real browser: first paint, first card and layout shift, locally and on a slow connection.

`python -m bench.page --url http://localhost:8080 --json FILE` against a running MIRAGE that holds the demonstration atlas
(or `--query` and `--record` of another one). The slow connection is DevTools' "slow 4G": 150 ms and 1.6 Mbit/s.
"""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from bench.report import Figure, Report, run

LOADS = 9
SIZES = ((1280, 800), (390, 844))
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_SLOW = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}
# Times in ms since the navigation began. A card and its image count once they are on the screen: at the frame after they came.
_WATCH = """window.seen = { shift: 0 };
new PerformanceObserver((list) => {
    for (const each of list.getEntries()) if (!each.hadRecentInput) seen.shift += each.value;
}).observe({ type: "layout-shift", buffered: true });
const note = (name) => requestAnimationFrame(() => setTimeout(() => { seen[name] ??= performance.now(); }));
new MutationObserver(() => {
    const cards = document.querySelectorAll(".grid .card:not(.skeleton)").length;
    if (cards) note("card");
    if (cards >= 12) note("twelve");
}).observe(document, { childList: true, subtree: true });
document.addEventListener("load", ({ target }) => target.matches?.(".grid .shot img") && note("image"), true);"""


@dataclass(frozen=True)
class Load:
    """Times of one load: what it showed when, in ms, and how much the page moved."""

    paint: float
    shift: float
    card: float
    twelve: float
    image: float
    received: float


def load(context: BrowserContext, url: str, *, ready: str, slow: bool = False) -> Load:
    """Opens an address in a new tab; returns once `ready` is there and nothing is asked for any more."""
    page = context.new_page()
    page.add_init_script(_WATCH)
    if slow:
        context.new_cdp_session(page).send("Network.emulateNetworkConditions", _SLOW)
    page.goto(url)
    page.wait_for_selector(ready)
    page.wait_for_load_state("networkidle")
    seen: dict[str, Any] = page.evaluate(
        """() => ({
            paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
            received: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
                .reduce((sum, each) => sum + each.transferSize, 0),
            card: 0, twelve: 0, image: 0, ...seen })"""
    )
    page.close()
    return Load(**{name: float(value) for name, value in seen.items()})


def fresh(browser: Browser, size: tuple[int, int] = SIZES[0]) -> BrowserContext:
    """Returns a context of its own: without a cache, as of a first visit."""
    return browser.new_context(viewport={"width": size[0], "height": size[1]})


def deep_links(browser: Browser, url: str, *, slow: bool) -> tuple[list[Load], list[Load]]:
    """Returns loads of a search by its address: on a first visit, and on the second one of each browser."""
    cold: list[Load] = []
    warm: list[Load] = []
    for _ in range(LOADS + 1):
        context = fresh(browser)
        for loads in (cold, warm):
            loads.append(load(context, url, ready=".grid .card:not(.skeleton) img", slow=slow))
        context.close()
    # The first loads also start the browser's processes and fill the server's caches.
    return cold[1:], warm[1:]


def worst_shift(browser: Browser, size: tuple[int, int], addresses: dict[str, str]) -> float:
    """Returns the layout shift of the address that moves most."""
    shifts = []
    for address, ready in addresses.items():
        for slow in (False, True):
            context = fresh(browser, size)
            shifts.append(load(context, address, ready=ready, slow=slow).shift)
            context.close()
    return max(shifts)


def _median(loads: list[Load], name: str) -> float:
    return float(statistics.median(getattr(each, name) for each in loads))


def measure(url: str, query: str, record: str) -> Report:
    """Measures medians over loads of a search, and the worst layout shift of every kind of address."""
    search = f"{url}/?q={quote_plus(query)}"
    addresses = {
        f"{url}/": ".mosaic .shot img",
        search: ".grid .card:not(.skeleton) img",
        f"{url}/?browse=": ".grid .card:not(.skeleton) img",
        f"{url}/i/{record}": ".stage img",
        f"{url}/compare?a={quote_plus(query)}&b=id:{record}": ".half .stage img",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or "chromium", args=list(_FLAGS))
        here, again = deep_links(browser, search, slow=False)
        slow_cold, slow_warm = deep_links(browser, search, slow=True)
        shifts = [worst_shift(browser, size, addresses) for size in SIZES]
        browser.close()

    def ms(name: str, loads: list[Load], of: str, bar: float | None = None) -> Figure:
        fastest = min(getattr(each, of) for each in loads)
        return Figure(name, _median(loads, of), "ms", bar=bar, better="lower", note=f"fastest {fastest:,.0f} ms")

    return Report(
        "Page",
        f"{LOADS} loads of a search by its address in Chromium without a GPU, medians. Cold: the browser's cache is empty. "
        "Warm: its second visit. Slow: 150 ms and 1.6 Mbit/s, by the DevTools protocol. Shift: the worst of the start page, "
        "a search, browsing, one image and a comparison, locally and slow.",
        (
            ms("local, cold: first contentful paint", here, "paint", 400),
            ms("local, cold: first card", here, "card", 600),
            ms("local, cold: first image of a card", here, "image"),
            ms("local, cold: twelve cards", here, "twelve"),
            ms("local, warm: first card", again, "card"),
            ms("slow, cold: first contentful paint", slow_cold, "paint"),
            ms("slow, cold: first card", slow_cold, "card", 1300),
            ms("slow, cold: first image of a card", slow_cold, "image"),
            ms("slow, warm: first contentful paint", slow_warm, "paint"),
            ms("slow, warm: first card", slow_warm, "card", 800),
            ms("slow, warm: first image of a card", slow_warm, "image"),
            *(
                Figure(f"layout shift at {width} x {height}", shift, "", bar=0.0, better="lower")
                for (width, height), shift in zip(SIZES, shifts, strict=True)
            ),
        ),
    )


if __name__ == "__main__":
    run("bench.page", __doc__, measure, url="http://localhost:8080", query="axial T1 brain", record="demo-axial-p08-t1")
