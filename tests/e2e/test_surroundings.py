"""The page in a browser that stores nothing, below a path of another server, and with a file that has no bytes."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.paths import chromium

from .conftest import ARGUMENTS, PATIENCE_MS, open_page

SEARCH = "?q=axial+T1+brain+MRI"


def cards(page: Page) -> Any:
    return page.locator("#answer .card:not(.skeleton)")


@pytest.fixture
def blocked(browser: Browser, system: Any, tmp_path: Path) -> Iterator[Page]:
    """A page whose reader blocks site data: each use of the browser's storage is an error."""
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text(json.dumps({"profile": {"default_content_setting_values": {"cookies": 2}}}))
    context = browser.browser_type.launch_persistent_context(
        str(tmp_path), executable_path=chromium(), args=ARGUMENTS, base_url=system.http_url, timeout=90_000
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.set_default_navigation_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    yield page
    context.close()
    assert wrong == []


def test_a_browser_that_stores_nothing_only_forgets(blocked: Page) -> None:
    blocked.goto("/")
    with pytest.raises(Exception, match="denied"):
        blocked.evaluate("() => sessionStorage.length")
    blocked.get_by_label("Concept").fill("axial T1 brain MRI")
    blocked.keyboard.press("Enter")
    expect(cards(blocked)).to_have_count(12)
    # Until the page is left it remembers.
    blocked.go_back()
    expect(blocked.get_by_role("heading", name="Try one of these")).to_be_visible()
    expect(blocked.get_by_role("link", name="axial T1 brain MRI")).to_be_visible()
    blocked.reload()
    expect(blocked.get_by_role("heading", name="Try one of these")).to_be_visible()
    expect(blocked.get_by_role("link", name="axial T1 brain MRI")).to_have_count(0)


def _below(path: str, upstream: str) -> type[BaseHTTPRequestHandler]:
    """A reverse proxy that serves the upstream below a path, and nothing else."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if not self.path.startswith(f"{path}/"):
                self.send_response(404)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            length = int(self.headers.get("content-length") or 0)
            connection = http.client.HTTPConnection(upstream, timeout=60)
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
            connection.request(
                self.command, self.path[len(path) :], self.rfile.read(length), {**kept, "host": self.headers["host"]}
            )
            response = connection.getresponse()
            body = response.read()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            connection.close()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

    return Proxy


@pytest.fixture
def below(system: Any) -> Iterator[str]:
    """The address of the page below a path of another server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _below("/library/atlas", urlsplit(system.http_url).netloc)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/library/atlas/"
        server.shutdown()
        thread.join(10)


def test_the_page_works_below_a_path(browser: Browser, below: str) -> None:
    with open_page(browser, below) as page:
        page.goto(SEARCH)
        expect(cards(page)).to_have_count(12)
        picture = cards(page).first.locator("img")
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
        cards(page).first.get_by_role("button", name="Find similar").click()
        expect(page.locator("#answer")).to_contain_text("Similar to")
        assert page.url.startswith(f"{below}?similar=")
        page.get_by_role("link", name="MIRAGE").first.click()
        expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()
        assert page.url == below
        page.get_by_role("link", name="Models in use").click()
        expect(page.get_by_role("heading", name="Models")).to_be_visible()


def test_an_empty_file_is_named(page: Page, choose: Any, disc: bytes) -> None:
    page.goto("/")
    choose(b"", "nothing.png")
    expect(page.get_by_role("alert")).to_contain_text("nothing.png is empty")
    expect(page.locator("#chosen")).to_be_hidden()
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    choose(disc, "disc.png")
    expect(page.locator("#chosen")).to_contain_text("disc.png")
    expect(cards(page)).to_have_count(12)
    assert any(url.endswith("/v1/classify") for url in asked)
