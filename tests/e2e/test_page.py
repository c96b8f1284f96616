"""The page in a real browser, in front of a whole MIRAGE."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from mirage.client import Client
from mirage.uploads import Upload

SEARCH = "/?q=axial+T1+brain+MRI"
TERMS = "/?q=pons&term=0.5%7Ctext%7Ccerebellum&term=-1%7Ctext%7Caxial"
COMPARE = "/?q=axial+T1+brain&minus=axial&plus=sagittal&view=compare"


def cards(page: Page) -> Any:
    return page.locator("#answer .card:not(.skeleton)")


def address(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_a_typed_concept_is_searched_and_its_address_shows_the_same(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Concept").fill("axial T1 brain MRI")
    page.keyboard.press("Enter")
    expect(cards(page)).to_have_count(12)
    assert address(page) == {"q": ["axial T1 brain MRI"]}
    shown = page.locator(".caption").all_inner_texts()
    expect(page.locator(".frame img").first).to_have_js_property("complete", True)
    assert page.locator(".frame img").first.evaluate("image => image.naturalWidth") > 0
    page.reload()
    expect(cards(page)).to_have_count(12)
    assert page.locator(".caption").all_inner_texts() == shown


def test_a_card_names_source_licence_and_that_it_is_a_rendering(page: Page) -> None:
    page.goto(SEARCH)
    first = cards(page).first
    expect(first.locator(".mark")).to_have_text("Template rendering")
    expect(first.locator(".source")).not_to_be_empty()
    expect(first.locator(".licence")).not_to_be_empty()
    expect(page.locator(".purpose")).to_contain_text("Not for diagnosis")


def test_more_results_follow_without_repeating(page: Page) -> None:
    page.goto(SEARCH)
    page.get_by_role("button", name="Load more").click()
    expect(cards(page)).to_have_count(24)
    ids = cards(page).evaluate_all("cards => cards.map(card => card.dataset.id)")
    assert len(set(ids)) == 24


def test_a_comparison_stands_side_by_side_with_shift_and_shares(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Axial becomes sagittal").click()
    expect(page.locator(".column.base .card")).to_have_count(12)
    expect(page.locator(".column.shifted .card")).to_have_count(12)
    expect(page.locator(".facts")).to_contain_text("cosine")
    expect(page.locator(".shares li")).to_have_count(3)
    shares = [int(text.split()[0]) for text in page.locator(".shares .number").all_inner_texts()]
    assert abs(sum(shares) - 100) <= 2
    assert address(page)["view"] == ["compare"]


def test_similar_images_of_a_result_leave_it_out(page: Page) -> None:
    page.goto(SEARCH)
    chosen = cards(page).first.get_attribute("data-id")
    cards(page).first.get_by_role("button", name="Find similar").click()
    expect(page.get_by_role("heading", name=f"Similar to {chosen}")).to_be_visible()
    assert address(page) == {"similar": [chosen]}
    assert chosen not in cards(page).evaluate_all("cards => cards.map(card => card.dataset.id)")
    page.go_back()
    expect(cards(page).first).to_have_attribute("data-id", str(chosen))


def test_a_filter_holds_and_stands_in_the_address(page: Page) -> None:
    page.goto(SEARCH)
    expect(cards(page)).to_have_count(12)
    page.get_by_label("Plane").select_option("coronal")
    expect(page.locator(".labels li", has_text="Coronal")).to_have_count(12)
    assert address(page)["where"] == ["plane=coronal"]


def test_the_viewer_is_left_and_paged_by_keyboard(page: Page) -> None:
    page.goto(SEARCH)
    cards(page).first.locator(".frame").focus()
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    expect(viewer).to_contain_text("1 of 12")
    page.keyboard.press("ArrowRight")
    expect(viewer).to_contain_text("2 of 12")
    expect(viewer.locator("dt", has_text="Licence")).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(cards(page).first.locator(".frame")).to_be_focused()


def test_an_image_is_a_query(page: Page, disc: bytes) -> None:
    page.goto("/")
    page.set_input_files("#picture", {"name": "disc.png", "mimeType": "image/png", "buffer": disc})
    expect(cards(page)).to_have_count(12)
    expect(page.locator("#chosen")).to_contain_text("disc.png")
    page.locator("#chosen").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()


def test_a_file_that_is_no_image_is_told_so(page: Page) -> None:
    page.goto("/")
    page.set_input_files("#picture", {"name": "x.png", "mimeType": "image/png", "buffer": b"%PDF-1.7 not an image"})
    expect(page.get_by_role("alert")).to_contain_text("IMAGE_FORMAT_UNSUPPORTED")


def test_an_error_names_its_code_and_the_next_search_works(page: Page) -> None:
    page.goto("/?similar=no-such-record")
    expect(page.get_by_role("alert")).to_contain_text("RECORD_NOT_FOUND")
    page.get_by_label("Concept").fill("axial brain")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(cards(page)).to_have_count(12)


def test_a_server_that_is_gone_can_be_tried_again(page: Page) -> None:
    page.goto("/")

    def refuse(route: Route) -> None:
        route.abort("connectionrefused")

    page.route("**/v1/search", refuse)
    page.get_by_label("Concept").fill("axial brain")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/v1/search", refuse)
    page.get_by_role("button", name="Try again").click()
    expect(cards(page)).to_have_count(12)


def test_a_caption_is_text_and_never_markup(page: Page, system: Any, disc: bytes) -> None:
    caption = "<img src=x onerror=\"document.title='pwned'\"><b>bold</b>"
    with Client(system.http_url, timeout_s=60) as client:
        client.upsert([Upload("hostile-1", caption, disc, licence="CC0-1.0", source="<i>test</i>")])
        try:
            page.goto(f"/?q={'bold'}&vectors=caption")
            page.set_input_files("#picture", {"name": "d.png", "mimeType": "image/png", "buffer": disc})
            page.get_by_label("Compare with").select_option("image")
            hostile = page.locator("[data-id=hostile-1]")
            expect(hostile.locator(".caption")).to_have_text(caption)
            assert hostile.locator("b, i, img[src=x]").count() == 0
            assert "pwned" not in page.title()
        finally:
            client.delete("hostile-1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", SEARCH, COMPARE, "/?similar=no-such-record", "/?show=models", TERMS])
def test_axe_finds_nothing_wrong(browser: Browser, system: Any, scheme: Any, path: str) -> None:
    context = browser.new_context(base_url=system.http_url, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(path, timeout=60_000)
    expect(page.locator("#answer :is(.card:not(.skeleton), .problem, .examples, .model)").first).to_be_visible()
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    context.close()
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("path", ["/", SEARCH, COMPARE, "/?show=models", TERMS])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, system: Any, path: str) -> None:
    context = browser.new_context(base_url=system.http_url, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(path, timeout=60_000)
    expect(page.locator("#answer :is(.card:not(.skeleton), .examples, .model)").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
