"""A browser in front of a whole MIRAGE, and pictures to search with."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from mirage.client import Client
from tests.support.paths import chromium

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# Other work may share the machine.
PATIENCE_MS = 20_000


# Per module: while it runs, Playwright's event loop keeps asynchronous tests in this process from theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS, timeout=90_000)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, system: Any) -> Iterator[Page]:
    """A page of 1280 px that must neither log an error nor ask another host for anything."""
    with open_page(browser, system.http_url) as page:
        yield page


@contextmanager
def open_page(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of the gateway at `url`, 1280 px unless `options` say otherwise; it fails as `page` does."""
    context = browser.new_context(**{"base_url": url, "viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.set_default_navigation_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    host = urlsplit(url).netloc
    page.on("request", lambda sent: _keep_foreign(sent.url, host, wrong))
    yield page
    # A handler may still wait for an answer that nobody looks at any more.
    page.unroute_all(behavior="ignoreErrors")
    context.close()
    assert wrong == []


def _keep_foreign(url: str, host: str, wrong: list[str]) -> None:
    if urlsplit(url).netloc != host and not url.startswith(("blob:", "data:")):
        wrong.append(f"asked {url}")


def cards(page: Page) -> Locator:
    """The results on the page."""
    return page.locator(".grid .card:not(.skeleton)")


def search(page: Page, text: str) -> None:
    """Asks the search box."""
    page.get_by_label("What do you want to see?").fill(text)
    page.keyboard.press("Enter")


def check_with_axe(page: Page) -> None:
    """Fails for each thing that axe finds wrong."""
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    assert results.violations_count == 0, results.generate_report()


@pytest.fixture(scope="session")
def disc() -> bytes:
    """A grey disc: a picture that nothing keeps from being medical."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def drawing() -> bytes:
    """A coloured drawing: surely no medical image."""
    picture = Image.new("RGB", (320, 320), (250, 220, 60))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 40, 200, 200), fill=(220, 30, 60))
    draw.rectangle((150, 150, 300, 300), fill=(20, 160, 80))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def section(system: Any) -> bytes:
    """A brain section of the atlas."""
    with Client(system.http_url, timeout_s=60) as client:
        found = client.search("axial T1 brain", k=1).results[0]
        return client.image(found.id).data


@pytest.fixture
def choose(page: Page) -> Callable[[bytes, str], None]:
    """Chooses an image by the file dialogue."""

    def put(data: bytes, name: str = "picture.png") -> None:
        page.set_input_files("#own", {"name": name, "mimeType": "image/png", "buffer": data})

    return put
