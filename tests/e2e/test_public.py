"""A public atlas in the browser: it works without a login, and offers what a visitor may do."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from mirage_launcher import ports

from .conftest import open_page

SEARCH = "/?q=axial+T1+brain+MRI"
KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def public_url(explaining_system: Any) -> Iterator[str]:
    """A gateway before the same services that anybody may read."""
    http_port = ports.any_free()
    environment = {
        **explaining_system.environment,
        "MIRAGE_GATEWAY_HTTP_PORT": str(http_port),
        "MIRAGE_GATEWAY_PORT": str(ports.any_free(taken=frozenset({http_port}))),
        "MIRAGE_PUBLIC_READ": "true",
        "MIRAGE_API_KEYS": f"teacher:{KEY}",
    }
    command = [sys.executable, "-P", "-m", "mirage_gateway"]
    gateway = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{http_port}"
    give_up = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=10).status_code == 200:
                break
        except httpx.HTTPError:
            assert time.monotonic() < give_up
        time.sleep(0.05)
    yield url
    gateway.terminate()
    gateway.wait()


@pytest.fixture
def visitor(browser: Browser, public_url: str, generating: Any) -> Iterator[Page]:
    with open_page(browser, public_url) as page:
        yield page


def cards(page: Page) -> Any:
    return page.locator("#answer .card:not(.skeleton)")


def open_first(page: Page) -> Any:
    cards(page).first.get_by_role("button", name=re.compile("^Enlarge")).click()
    return page.get_by_role("dialog")


def test_a_visitor_searches_and_is_not_offered_what_needs_a_key(visitor: Page) -> None:
    visitor.goto(SEARCH)
    expect(cards(visitor)).to_have_count(12)
    viewer = open_first(visitor)
    expect(viewer.get_by_role("button", name="Find similar")).to_be_visible()
    expect(viewer.get_by_text("Something is wrong with this record")).to_have_count(0)
    viewer.get_by_role("button", name="Close").click()
    visitor.get_by_role("button", name=re.compile("^Explain")).first.click()
    expect(
        visitor.get_by_text("What your question found").or_(visitor.locator(".explanation .sources")).first
    ).to_be_visible()
    expect(visitor.get_by_text("A sentence is wrong")).to_have_count(0)


def test_with_a_key_all_is_offered(visitor: Page) -> None:
    visitor.goto(SEARCH)
    expect(cards(visitor)).to_have_count(12)
    visitor.get_by_role("button", name="Use a key").click()
    visitor.get_by_label("API key").fill("wrong")
    visitor.get_by_role("button", name="Use it").click()
    expect(visitor.get_by_text("That key is not known here.")).to_be_visible()
    visitor.get_by_role("button", name="Go on without a key").click()
    expect(cards(visitor)).to_have_count(12)
    visitor.get_by_role("button", name="Use a key").click()
    visitor.get_by_label("API key").fill(KEY)
    visitor.get_by_role("button", name="Use it").click()
    expect(cards(visitor)).to_have_count(12)
    expect(visitor.get_by_role("button", name="Use a key")).to_be_hidden()
    expect(open_first(visitor).get_by_text("Something is wrong with this record")).to_be_visible()


def test_images_that_a_visitor_makes_are_seen_in_that_browser_alone(
    visitor: Page, browser: Browser, public_url: str
) -> None:
    visitor.goto(SEARCH)
    visitor.get_by_role("button", name=re.compile("^Generate:")).click()
    expect(visitor.locator(".synthesis .made:not(.unfinished) img")).to_be_visible()
    visitor.goto("/?show=jobs")
    expect(visitor.locator(".job")).to_have_count(1)
    expect(visitor.locator(".job .made img")).to_have_js_property("complete", True)
    with open_page(browser, public_url) as other:
        other.goto("/?show=jobs")
        expect(other.get_by_text("None yet.")).to_be_visible()
        expect(other.locator(".job")).to_have_count(0)
