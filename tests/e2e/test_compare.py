"""Two searches next to each other, and a query before and after a change."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import cards, check_with_axe, open_page

PAIR = "/compare?a=axial+T1+brain&b=sagittal+T1+brain"
SHIFT = "/compare?q=axial+T1+brain&minus=axial&plus=sagittal"


def test_two_questions_are_compared_from_the_results(page: Page) -> None:
    page.goto("/?q=axial+T1+brain")
    expect(cards(page).first).to_be_visible()
    page.get_by_role("link", name="Compare with …").click()
    page.get_by_label("What to show as B").fill("sagittal T1 brain")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("region", name="A: axial T1 brain").locator(".stage img")).to_be_visible()
    expect(page.get_by_role("region", name="B: sagittal T1 brain").locator(".stage img")).to_be_visible()
    expect(page.get_by_role("row", name="Plane Axial Sagittal")).to_be_visible()
    page.get_by_role("button", name="Swap A and B").click()
    expect(page.get_by_role("region", name="A: sagittal T1 brain")).to_be_visible()


def test_sides_are_paged_and_zoom_together(page: Page) -> None:
    page.goto(PAIR)
    a = page.get_by_role("region", name="A: axial T1 brain")
    expect(a.locator(".stage img")).to_be_visible()
    first = a.locator(".caption").inner_text()
    a.get_by_role("button", name="Next image").click()
    expect(a).to_contain_text("2 of 12")
    expect(a.locator(".caption")).not_to_have_text(first)
    page.get_by_role("button", name="Zoom in").click()
    moves = page.locator(".moving").evaluate_all("all => all.map(each => each.style.transform)")
    assert moves[0] == moves[1] != ""
    page.get_by_role("button", name="Zoom and window together").click()
    page.get_by_role("button", name="Zoom in").click()
    moves = page.locator(".moving").evaluate_all("all => all.map(each => each.style.transform)")
    assert moves[0] != moves[1]


def test_an_image_is_compared_with_a_question(page: Page) -> None:
    page.goto("/?q=axial+T1+brain")
    chosen = str(cards(page).first.get_attribute("data-id"))
    cards(page).first.locator("a.shot").click()
    page.locator(".panel").get_by_role("link", name="Compare").click()
    assert parse_qs(urlsplit(page.url).query)["a"] == [f"id:{chosen}"]
    expect(page.locator(".half").first.locator(".stage img")).to_be_visible()
    expect(page.get_by_text("Enter what to show as B.")).to_be_visible()


def test_a_change_of_a_query_is_one_action_away_and_says_what_it_did(page: Page) -> None:
    page.goto("/compare?a=axial+T1+brain")
    page.get_by_role("link", name="Change a query").click()
    page.get_by_label("without").fill("axial")
    page.get_by_label("with", exact=True).fill("sagittal")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator(".effect")).to_contain_text("turned from Axial to Sagittal.")
    expect(page.locator(".half")).to_have_count(2)
    page.get_by_text("How it worked").click()
    expect(page.get_by_text("Cosine of the two queries")).to_be_visible()
    expect(page.get_by_text("% of the query")).to_have_count(3)


def test_weighted_terms_are_in_the_link(page: Page) -> None:
    page.goto("/compare?tab=shift&q=pons")
    page.get_by_text("Advanced: weighted terms").click()
    page.get_by_role("button", name="Add a term").click()
    page.get_by_label("Term", exact=True).fill("cerebellum")
    page.get_by_label("Weight of cerebellum").fill("0.5")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator(".half .stage img").first).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["term"] == ["0.5|text|cerebellum"]
    page.reload()
    expect(page.get_by_label("Term", exact=True)).to_have_value("cerebellum")


def test_boxes_that_are_empty_are_named_on_the_screen(page: Page) -> None:
    page.goto("/compare")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("Fill in A and B to compare.")).to_be_visible()
    page.get_by_role("link", name="Change a query").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("Fill in the query, and “without” or “with”, to compare.")).to_be_visible()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("path", [PAIR, SHIFT])
def test_both_images_are_whole_in_the_first_screen(
    browser: Browser, system: Any, size: tuple[int, int], path: str
) -> None:
    width, height = size
    with open_page(browser, system.http_url, viewport={"width": width, "height": height}, bypass_csp=True) as page:
        page.goto(path)
        images = page.locator(".half .sheet-of")
        expect(images).to_have_count(2)
        page.wait_for_load_state("networkidle")
        for image in images.all():
            box = image.bounding_box()
            assert box
            assert box["y"] >= 60
            assert box["y"] + box["height"] <= height
            assert box["height"] >= 160
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        check_with_axe(page)
