import gzip
import re
from importlib import resources
from pathlib import Path

import httpx
import pytest

from mirage_gateway.web.page import VIEWS

from .conftest import Gateway

PAGE = Path(str(resources.files("mirage_gateway") / "page"))
FILES = sorted(path.name for path in PAGE.iterdir())


async def test_every_file_is_served_with_its_type(http: httpx.AsyncClient) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for name in FILES:
        response = await http.get(f"/page/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(types[Path(name).suffix])


async def test_files_named_after_their_content_are_kept_for_ever_and_sent_compressed(http: httpx.AsyncClient) -> None:
    hashed = [name for name in FILES if name.startswith("app-")]
    assert [Path(name).suffix for name in hashed] == [".js", ".css"] or len(hashed) == 2
    for name in hashed:
        async with http.stream("GET", f"/page/{name}", headers={"accept-encoding": "gzip"}) as response:
            sent = b"".join([piece async for piece in response.aiter_raw()])
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert gzip.decompress(sent) == (PAGE / name).read_bytes()
        plain = await http.get(f"/page/{name}", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == (PAGE / name).read_bytes()


@pytest.mark.parametrize("path", [*VIEWS, "/i/any-record"])
async def test_every_view_is_the_page_and_needs_no_key(gateway: Gateway, path: str) -> None:
    http = await gateway(api_keys="teacher:secret-key-0123456789")
    response = await http.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in response.headers["content-security-policy"]
    assert "og:" not in response.text
    # Every file is found from where the view is.
    for name in re.findall(r'(?:src|href)="([^"]+)"', response.text):
        assert (await http.get(str(response.url.join(name)))).status_code == 200
    assert (await http.get("/openapi.json")).status_code == 200


async def test_a_file_that_is_current_is_not_sent_again(http: httpx.AsyncClient) -> None:
    etag = (await http.get("/")).headers["etag"]
    assert (await http.get("/", headers={"if-none-match": etag})).status_code == 304


def test_the_page_has_no_inline_code() -> None:
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_another_host(name: str) -> None:
    text = (PAGE / name).read_text()
    # Names of XML namespaces, which nothing is loaded from.
    text = re.sub(r"http://www\.w3\.org/[\w/]+", "", text)
    assert not re.search(r"https?://|//cdn|@import", text)
