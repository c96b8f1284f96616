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

from .conftest import cards, open_page

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


def open_first(page: Page) -> None:
    cards(page).first.locator("a.shot").click()
    expect(page.get_by_role("button", name="Hide answer")).to_be_visible()


def test_a_visitor_searches_and_is_not_offered_what_needs_a_key(visitor: Page) -> None:
    visitor.goto(SEARCH)
    expect(cards(visitor).first).to_be_visible()
    visitor.get_by_role("button", name="Explain").click()
    expect(visitor.locator(".describe .tag")).to_be_visible()
    expect(visitor.get_by_text("Report a wrong sentence")).to_have_count(0)
    open_first(visitor)
    expect(visitor.get_by_role("link", name="Similar")).to_be_visible()
    expect(visitor.get_by_text("Report a problem")).to_have_count(0)


def test_with_a_key_all_is_offered(visitor: Page) -> None:
    visitor.goto(SEARCH)
    expect(cards(visitor).first).to_be_visible()
    visitor.get_by_role("button", name="Use a key").click()
    visitor.get_by_label("Access key").fill("wrong")
    visitor.get_by_role("button", name="Continue").click()
    expect(visitor.get_by_text("That key was not accepted.")).to_be_visible()
    visitor.get_by_role("button", name="Go on without a key").click()
    expect(cards(visitor).first).to_be_visible()
    visitor.get_by_role("button", name="Use a key").click()
    visitor.get_by_label("Access key").fill(KEY)
    visitor.get_by_role("button", name="Continue").click()
    expect(visitor.get_by_role("button", name="Use a key")).to_be_hidden()
    open_first(visitor)
    expect(visitor.get_by_text("Report a problem")).to_be_visible()
    expect(visitor.locator(".stage img")).to_have_attribute("src", re.compile("^blob:"))


def test_nothing_of_a_record_is_in_the_html_if_there_are_keys(visitor: Page, public_url: str) -> None:
    visitor.goto(SEARCH)
    record = cards(visitor).first.get_attribute("data-id")
    reply = httpx.get(f"{public_url}/i/{record}")
    assert reply.status_code == 200
    assert "og:" not in reply.text


def test_images_that_a_visitor_makes_are_seen_in_that_browser_alone(
    visitor: Page, browser: Browser, public_url: str
) -> None:
    visitor.goto(SEARCH)
    visitor.get_by_role("button", name="Generate", exact=True).click()
    expect(visitor.locator(".made img")).to_be_visible()
    visitor.goto("/generated")
    expect(visitor.locator(".jobs .made img")).to_have_count(1)
    with open_page(browser, public_url) as other:
        other.goto("/generated")
        expect(other.get_by_text("None yet.")).to_be_visible()
        expect(other.locator(".jobs .made")).to_have_count(0)
