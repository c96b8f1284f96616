"""The description of the HTTP API, in a real browser."""

from typing import Any

import httpx
from playwright.sync_api import Page, expect


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
