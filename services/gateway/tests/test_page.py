import re
from importlib import resources
from pathlib import Path

import httpx
import pytest

from .conftest import Gateway

PAGE = Path(str(resources.files("mirage_gateway") / "page"))
FILES = sorted(path.name for path in PAGE.iterdir())


async def test_every_file_is_served_with_its_type(http: httpx.AsyncClient) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for name in FILES:
        response = await http.get(f"/page/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(types[Path(name).suffix])


async def test_the_api_is_described_at_docs_without_a_key(gateway: Gateway) -> None:
    http = await gateway(api_keys="teacher:secret-key-0123456789")
    response = await http.get("/docs")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in response.headers["content-security-policy"]
    assert (await http.get("/openapi.json")).status_code == 200


async def test_a_file_that_is_current_is_not_sent_again(http: httpx.AsyncClient) -> None:
    etag = (await http.get("/")).headers["etag"]
    assert (await http.get("/", headers={"if-none-match": etag})).status_code == 304


@pytest.mark.parametrize("name", ["index.html", "docs.html"])
def test_the_page_has_no_inline_code(name: str) -> None:
    html = (PAGE / name).read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_another_host(name: str) -> None:
    text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import", text)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_a_module_finds_its_imports_and_writes_no_html(name: str) -> None:
    text = (PAGE / name).read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    imported = re.findall(r'from "\./([\w.]+)"', text)
    assert set(imported) <= set(FILES)
