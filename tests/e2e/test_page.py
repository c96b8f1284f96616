"""The start page and the results, in front of a whole MIRAGE."""

import html
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from mirage.client import Client
from mirage.uploads import Upload

from .conftest import cards, check_with_axe, open_page, search

SEARCH = "/?q=axial+T1+brain+MRI"
NONE = "/?q=how+to+bake+bread"
PAGE_SIZE = 24


def address(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query, keep_blank_values=True)


def test_the_start_page_shows_this_atlas(page: Page, system: Any) -> None:
    with Client(system.http_url) as client:
        records = client.collection().records
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("See what it looks like.")
    expect(page.get_by_text(f"Search {records:,} captioned")).to_be_visible()
    images = page.get_by_role("list", name="Images of this atlas").get_by_role("link")
    expect(images).to_have_count(9)
    assert images.first.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.get_by_role("region", name="Browse by region").get_by_role("link").first.click()
    expect(cards(page).first).to_be_visible()
    (where,) = address(page)["where"]
    part = where.removeprefix("body_part=").capitalize()
    expect(page.get_by_role("button", name=f"Remove the filter Body part: {part}")).to_be_visible()
    expect(cards(page).filter(has_not=page.locator(".labels li", has_text=part))).to_have_count(0)


def test_words_are_searched_and_the_address_shows_the_same(page: Page) -> None:
    page.goto("/")
    search(page, "axial T1 brain MRI")
    expect(cards(page)).to_have_count(PAGE_SIZE)
    assert address(page) == {"q": ["axial T1 brain MRI"]}
    expect(page).to_have_title("axial T1 brain MRI · MIRAGE")
    shown = cards(page).evaluate_all("cards => cards.map(card => card.dataset.id)")
    expect(cards(page).first.locator("mark").first).to_be_visible()
    page.reload()
    expect(cards(page)).to_have_count(PAGE_SIZE)
    assert cards(page).evaluate_all("cards => cards.map(card => card.dataset.id)") == shown


@pytest.mark.parametrize("is_late", [False, True], ids=["script first", "script last"])
def test_a_search_of_an_address_is_sent_once(page: Page, is_late: bool) -> None:
    sent: list[Request] = []
    held: list[Route] = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/v1/search") else None)
    if is_late:
        # The script that is to send it before the page's script is there.
        page.route("**/page/first-*.js", lambda route: held.append(route))
    page.goto(SEARCH, wait_until="commit")
    expect(cards(page).first).to_be_visible()
    if is_late:
        with page.expect_response("**/page/first-*.js"):
            held[0].continue_()
    page.wait_for_load_state("networkidle")
    assert len(sent) == 1


def test_an_empty_search_says_so_on_the_screen(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("Enter what you want to see, or add an image.")).to_be_visible()


def test_a_card_names_its_source_and_a_rendering_is_said_once(page: Page) -> None:
    page.goto(SEARCH)
    expect(cards(page).first.locator(".source")).not_to_be_empty()
    expect(page.get_by_text("Template rendering: not a photograph of a patient.")).to_have_count(1)
    expect(page.locator(".card").first).not_to_contain_text("0.")


def test_more_results_follow_without_repeating(page: Page) -> None:
    page.goto(SEARCH)
    page.get_by_role("button", name="Load more").click()
    expect(cards(page)).to_have_count(2 * PAGE_SIZE)
    ids = cards(page).evaluate_all("cards => cards.map(card => card.dataset.id)")
    assert len(set(ids)) == 2 * PAGE_SIZE


def test_filters_are_chips_of_several_values(page: Page) -> None:
    page.goto(SEARCH)
    page.get_by_role("button", name="Plane", exact=True).click()
    menu = page.get_by_role("group", name="Plane", exact=True).first
    menu.get_by_label("Coronal").check()
    expect(page.locator(".labels li", has_text="Coronal")).to_have_count(PAGE_SIZE)
    menu.get_by_label("Sagittal").check()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Plane", exact=True)).to_be_focused()
    assert address(page)["where"] == ["plane=coronal", "plane=sagittal"]
    page.get_by_role("button", name="Remove the filter Plane: Coronal").click()
    expect(page.locator(".labels li", has_text="Sagittal")).to_have_count(PAGE_SIZE)


def test_filters_that_nothing_passes_can_be_cleared(page: Page) -> None:
    page.goto("/?q=brain&where=plane%3Daxial&where=modality%3Dus")
    expect(page.get_by_role("heading", name="No images match these filters.")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(cards(page)).to_have_count(PAGE_SIZE)


def test_back_restores_the_place_and_the_focus(page: Page) -> None:
    page.goto(SEARCH)
    page.get_by_role("button", name="Load more").click()
    expect(cards(page)).to_have_count(2 * PAGE_SIZE)
    card = cards(page).nth(30)
    card.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    card.locator("a.shot").click()
    expect(page.get_by_role("button", name="Hide answer")).to_be_visible()
    page.go_back()
    expect(cards(page)).to_have_count(2 * PAGE_SIZE)
    expect(card.locator("a.shot")).to_be_focused()
    assert page.evaluate("scrollY") == before > 0


def test_similar_images_show_what_they_are_similar_to(page: Page) -> None:
    page.goto(SEARCH)
    chosen = cards(page).first.get_attribute("data-id")
    cards(page).first.hover()
    cards(page).first.get_by_role("link", name="Similar").click()
    expect(page.locator(".anchor")).to_contain_text("Similar to this image")
    expect(page.locator(".anchor img")).to_be_visible()
    assert address(page) == {"similar": [chosen]}
    expect(cards(page).first).to_be_visible()
    assert chosen not in cards(page).evaluate_all("cards => cards.map(card => card.dataset.id)")


def test_what_the_atlas_does_not_have_is_said_with_a_way_on(page: Page) -> None:
    page.goto(NONE)
    expect(page.get_by_role("heading", name="No image here matches “how to bake bread”.")).to_be_visible()
    expect(cards(page).first).to_be_hidden()
    expect(page.get_by_role("button", name="Explain")).to_have_count(0)
    page.get_by_text("Look-alikes").click()
    expect(cards(page).first).to_be_visible()
    page.get_by_role("list", name="What this atlas has").get_by_role("link").first.click()
    expect(cards(page).first).to_be_visible()


def test_the_numbers_are_there_for_those_who_ask(page: Page) -> None:
    page.goto(SEARCH)
    page.get_by_text("How it was found").click()
    expect(page.get_by_text("Match: good.")).to_be_visible()
    expect(page.get_by_text(" ms")).to_be_visible()


def test_recent_searches_are_listed_and_cleared(page: Page) -> None:
    page.goto("/?q=coronal+T2+brain")
    expect(cards(page).first).to_be_visible()
    page.goto("/")
    recent = page.get_by_role("region", name="Recent")
    expect(recent.get_by_role("link", name="coronal T2 brain")).to_be_visible()
    recent.get_by_role("button", name="Clear history").click()
    expect(recent).to_have_count(0)
    page.reload()
    expect(page.get_by_role("list", name="Images of this atlas").get_by_role("link")).to_have_count(9)
    assert page.get_by_role("region", name="Recent").count() == 0


def test_a_caption_is_text_and_never_markup(page: Page, system: Any, disc: bytes) -> None:
    caption = "<img src=x onerror=\"document.title='pwned'\"><b>bold</b>"
    with Client(system.http_url, timeout_s=60) as client:
        client.upsert([Upload("hostile-1", caption, disc, licence="CC0-1.0", source="<i>test</i>")])
        try:
            page.goto("/?q=onerror&mode=words")
            hostile = page.locator("[data-id=hostile-1]")
            expect(hostile.locator(".caption")).to_have_text(caption)
            hostile.locator("a.shot").click()
            expect(page.locator(".told").or_(page.locator("h1")).first).to_contain_text("<img src=x")
            assert page.locator("main b, main i, img[src=x]").count() == 0
            assert page.title() != "pwned"
            preview = httpx.get(f"{system.http_url}/i/hostile-1").text
            assert html.escape(caption) in preview
            assert "<b>" not in preview
        finally:
            client.delete("hostile-1")


def test_the_page_is_read_in_spanish(page: Page) -> None:
    page.goto(SEARCH)
    page.get_by_label("Language").select_option("es")
    expect(page.get_by_role("button", name="Explicar")).to_be_visible()
    expect(page.get_by_label("¿Qué quieres ver?")).to_have_value("axial T1 brain MRI")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.get_by_role("button", name="Plano")).to_be_visible()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/i/no-such-record", "RECORD_NOT_FOUND"),
        ("/no-such-page", "There is no page at this address"),
        ("/compare/no/such/page", "There is no page at this address"),
    ],
)
def test_an_address_that_does_not_exist_leads_back(page: Page, path: str, said: str) -> None:
    answer = page.goto(path)
    assert answer
    assert answer.status == 404
    expect(page.get_by_role("main")).to_contain_text(said)
    page.get_by_role("link", name="Go to the start page").click()
    expect(page.get_by_role("heading", name="See what it looks like.")).to_be_visible()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize(
    ("path", "image"), [("/", ".mosaic .shot"), (SEARCH, ".grid .shot"), ("/?browse=", ".grid .shot")]
)
def test_the_first_image_is_at_the_top(
    browser: Browser, system: Any, size: tuple[int, int], path: str, image: str
) -> None:
    width, height = size
    with open_page(browser, system.http_url, viewport={"width": width, "height": height}) as page:
        page.goto(path)
        expect(page.locator(image).first.locator("img")).to_be_visible()
        bar = page.get_by_role("banner").bounding_box()
        first = page.locator(image).first.bounding_box()
        assert bar
        assert first
        assert first["y"] - (bar["y"] + bar["height"]) <= 120
        assert first["y"] + first["height"] <= height
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_few_tab_stops_come_before_the_first_result_and_arrows_move_among_them(page: Page) -> None:
    page.goto(SEARCH)
    expect(cards(page).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    stops = 0
    while not page.evaluate("document.activeElement.classList.contains('shot')"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops < 20
    assert stops - 1 <= 6
    page.keyboard.press("ArrowRight")
    expect(cards(page).nth(1).locator("a.shot")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(cards(page).nth(5).locator("a.shot")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Hide answer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(cards(page).nth(5).locator("a.shot")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("What do you want to see?")).to_be_focused()


NARROW = {"viewport": {"width": 320, "height": 640}}
# What is left of 1280 x 800 at 200 %.
ZOOMED = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}
VIEWS = [
    "/",
    SEARCH,
    NONE,
    "/?where=plane%3Daxial",
    "/compare?a=axial+brain&b=sagittal+brain",
    "/compare?q=axial+brain&minus=axial&plus=sagittal",
    "/read",
    "/quality",
    "/about",
    "/generated",
    "/docs",
    "/i/no-such-record",
    "/no-such-page",
]


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}, NARROW, ZOOMED],
    ids=["light", "dark", "forced-colors", "320-px", "200-percent"],
)
def test_axe_finds_nothing_wrong(browser: Browser, system: Any, options: dict[str, Any]) -> None:
    with open_page(browser, system.http_url, bypass_csp=True, **options) as page:
        for path in VIEWS:
            page.goto(path)
            page.wait_for_load_state("networkidle")
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            check_with_axe(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
