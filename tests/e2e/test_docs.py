"""The description of the HTTP API, and the page's parser of event streams, in a real browser."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

STREAM = (
    ": a comment\n\n"
    "event: one\ndata: first line\ndata:second line\nid: 7\n\n"
    "data\n\n"
    "event: nothing\n\n"
    "event: ü\ndata:  𝔸\n\n"
    "data: unfinished"
)
EVENTS = [["", ""], ["one", "first line\nsecond line"], ["message", ""], ["ü", " 𝔸"]]
PARSE = """async (pieces) => {
  const { EventParser } = await import("/page/events.js");
  const parser = new EventParser();
  return pieces.flatMap((piece) => [...parser.feed(piece)]).map(({ name, data }) => [name, data]);
}"""


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_pieces_and_line_ends_of_a_stream_change_nothing(page: Page, end: str, size: int) -> None:
    page.goto("/docs")
    text = STREAM.replace("\n", end)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert page.evaluate(PARSE, pieces) == EVENTS


def test_every_operation_is_described(page: Page, system: Any) -> None:
    described = httpx.get(f"{system.http_url}/openapi.json").json()
    operations = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
    assert "post_v1_search" in operations
    page.goto("/docs")
    for each in operations:
        expect(page.locator(f"#{each}")).to_have_count(1)
    for name in described["components"]["schemas"]:
        expect(page.locator(f"#model-{name}")).to_have_count(1)


def test_an_operation_leads_to_its_models(page: Page) -> None:
    page.goto("/docs")
    search = page.locator("#post_v1_search")
    search.locator("summary").click()
    expect(search).to_contain_text("K_OUT_OF_RANGE")
    search.get_by_role("link", name="SearchRequest").click()
    expect(page.locator("#model-SearchRequest table")).to_be_visible()
    expect(page.locator("#model-SearchRequest")).to_contain_text("accept_any_image")
