"""The page in a browser that stores nothing, below a path of another server, and with a file that has no bytes."""

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.paths import chromium

from .conftest import ARGUMENTS, PATIENCE_MS, cards, open_page, search

SEARCH = "?q=axial+T1+brain+MRI"


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
    search(blocked, "axial T1 brain MRI")
    expect(cards(blocked).first).to_be_visible()
    # Until the page is left it remembers.
    blocked.go_back()
    expect(blocked.get_by_role("link", name="axial T1 brain MRI")).to_be_visible()
    blocked.get_by_label("Language").select_option("es")
    expect(blocked.get_by_role("heading", name="Mira cómo se ve.")).to_be_visible()
    blocked.reload()
    expect(blocked.get_by_role("heading", name="See what it looks like.")).to_be_visible()
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
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
            with closing(http.client.HTTPConnection(upstream, timeout=60)) as connection:
                connection.request(
                    self.command,
                    self.path[len(path) :],
                    self.rfile.read(length),
                    {**kept, "host": self.headers["host"]},
                )
                response = connection.getresponse()
                body = response.read()
            # The browser goes away from answers that it no longer needs.
            with suppress(ConnectionError):
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.close_connection = True

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
        picture = cards(page).first.locator("img")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        cards(page).first.locator("a.shot").click()
        expect(page.get_by_role("button", name="Hide answer")).to_be_visible()
        assert page.url.startswith(f"{below}i/")
        page.reload()
        picture = page.locator(".stage img")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.get_by_role("link", name="Similar").click()
        expect(page.locator(".anchor")).to_contain_text("Similar to")
        page.get_by_role("link", name="MIRAGE").click()
        expect(page.get_by_role("heading", name="See what it looks like.")).to_be_visible()
        assert page.url == below
        page.get_by_role("link", name="About").click()
        expect(page.get_by_role("heading", name="mini-clip")).to_be_visible()


def test_the_script_is_kept_for_ever_and_the_page_is_not(system: Any) -> None:
    html = httpx.get(f"{system.http_url}/")
    assert html.headers["cache-control"] == "no-cache"
    names = re.findall(r'(?:src|href)="(page/app-[0-9a-f]+\.(?:js|css))"', html.text)
    assert len(names) == 2
    for name in names:
        reply = httpx.get(f"{system.http_url}/{name}")
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert reply.headers["content-encoding"] == "gzip"
