import gzip
import re
from importlib import resources
from pathlib import Path

import httpx
import pytest

from mirage_core.errors import Code, MirageError
from mirage_gateway.web.page import VIEWS

from .conftest import Gateway, Peer

PAGE = Path(str(resources.files("mirage_gateway") / "page"))
FILES = sorted(path.name for path in PAGE.iterdir())


async def test_every_file_is_served_with_its_type(http: httpx.AsyncClient) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for name in FILES:
        response = await http.get(f"/page/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(types[Path(name).suffix])


async def test_files_named_after_their_content_are_kept_for_ever_and_sent_compressed(http: httpx.AsyncClient) -> None:
    hashed = [name for name in FILES if name.startswith(("app-", "first-"))]
    assert sorted(Path(name).suffix for name in hashed) == [".css", ".js", ".js"]
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


BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("path", ["/nosuch", "/docs/", "/several/levels/further%2Fdown", "/i/", "/v1"])
@pytest.mark.parametrize("keys", ["", "teacher:secret-key-0123456789"])
async def test_a_browser_that_opens_an_unknown_address_gets_the_page(gateway: Gateway, path: str, keys: str) -> None:
    http = await gateway(api_keys=keys)
    response = await http.get(path, headers=BROWSER)
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "script-src 'self'" in response.headers["content-security-policy"]
    names = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert names
    for name in names:
        assert (await http.get(str(response.url.join(name)))).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/nosuch", {"accept": "*/*"}),
        ("GET", "/v1/nosuch", BROWSER),
        ("GET", "/page/nosuch.js", BROWSER),
        ("POST", "/nosuch", BROWSER),
    ],
)
async def test_other_clients_and_paths_of_the_api_get_a_problem(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    response = await http.request(method, path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (404, "ROUTE_NOT_FOUND")


async def test_asking_for_a_page_opens_nothing_that_needs_a_key(gateway: Gateway) -> None:
    http = await gateway(api_keys="teacher:secret-key-0123456789")
    for path in ("/metrics", "/v1/records/r1", "/v1/nosuch"):
        response = await http.get(path, headers=BROWSER)
        assert (response.status_code, response.json()["code"]) == (401, "API_KEY_MISSING")


async def test_the_page_of_an_image_that_is_not_there_is_not_found(http: httpx.AsyncClient, peer: Peer) -> None:
    assert (await http.get("/i/r1", headers=BROWSER)).status_code == 200
    peer.script.error = MirageError(Code.RECORD_NOT_FOUND, id="r9")
    response = await http.get("/i/r9", headers=BROWSER)
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "og:" not in response.text
    # Of a record that cannot be read now, nobody knows; the page says it, and asks again.
    peer.script.error = MirageError(Code.DEPENDENCY_UNAVAILABLE, name="retriever")
    assert (await http.get("/i/r1", headers=BROWSER)).status_code == 200


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
