"""What the page shows while there is no answer, or none that helps; how fast it paints and that nothing jumps."""

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

SEARCH = "/?q=axial+T1+brain+MRI"


def cards(page: Page) -> Any:
    return page.locator("#answer .card:not(.skeleton)")


def test_a_slow_search_says_so_and_can_be_stopped(page: Page) -> None:
    page.clock.install()
    held: list[Route] = []
    page.route("**/v1/search", lambda route: held.append(route))
    page.goto(SEARCH)
    expect(page.locator(".skeleton").first).to_be_visible()
    page.clock.run_for(2_500)
    expect(page.locator(".slow")).to_contain_text("Still searching")
    page.clock.run_for(9_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", name="Stopped")).to_be_visible()
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Search again").click()
    expect(cards(page)).to_have_count(12)


def test_a_busy_server_is_asked_again_when_it_said(page: Page) -> None:
    page.clock.install()
    problem = {"code": "QUEUE_FULL", "title": "Busy", "detail": "Too much work.", "status": 429, "retry_after_s": 3}
    page.route(
        "**/v1/search",
        lambda route: route.fulfill(status=429, content_type="application/problem+json", body=json.dumps(problem)),
    )
    page.goto(SEARCH)
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    expect(again).to_have_text("Try again in 3 s")
    page.clock.run_for(4_000)
    expect(again).to_be_enabled()
    page.unroute("**/v1/search")
    again.click()
    expect(cards(page)).to_have_count(12)


def test_without_a_connection_the_page_says_so_and_goes_on_by_itself(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()
    page.context.set_offline(True)
    page.get_by_label("Concept").fill("axial brain")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("You are offline")
    page.context.set_offline(False)
    expect(cards(page)).to_have_count(12)


@pytest.mark.parametrize(("query", "said"), [("how to bake bread", "No match"), ("axial T1 brain MRI", "Good match")])
def test_how_well_results_match_is_said_in_words(page: Page, query: str, said: str) -> None:
    page.goto(f"/?q={query.replace(' ', '+')}")
    expect(page.locator(".match").first).to_contain_text(said)


def test_filters_that_nothing_passes_can_be_cleared(page: Page) -> None:
    page.goto("/?q=brain&where=plane%3Daxial&where=modality%3Dus")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(cards(page)).to_have_count(12)


def test_a_caption_of_any_length_keeps_the_layout(page: Page) -> None:
    def answer(route: Route) -> None:
        response = route.fetch()
        document = response.json()
        for result in document["results"]:
            result["caption"] = "endless" * 3000
            result["labels"] = {"plane": ["<img src=x onerror=alert(1)>" * 3]}
        route.fulfill(response=response, json=document)

    page.route("**/v1/search", answer)
    page.goto(SEARCH)
    expect(cards(page)).to_have_count(12)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = cards(page).first.bounding_box()
    assert box
    assert box["height"] < 900
    assert page.locator(".labels img").count() == 0
    cards(page).first.get_by_role("button", name="Whole caption").click()
    expect(cards(page).first.get_by_role("button", name="Shorter")).to_be_visible()


def test_a_cached_answer_says_so(page: Page) -> None:
    def answer(route: Route) -> None:
        response = route.fetch()
        document = response.json()
        document["timings"]["cached"] = True
        route.fulfill(response=response, json=document)

    page.route("**/v1/search", answer)
    page.goto(SEARCH)
    expect(page.locator(".timing")).to_contain_text("from cache")


def test_models_are_shown_with_parity_and_fingerprint(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Models in use").click()
    card = page.locator(".model").filter(has_text="mini-clip")
    expect(card.get_by_role("table", name="Parity with the original in PyTorch")).to_contain_text("int8")
    expect(card).to_contain_text("Fingerprint")


def test_results_do_not_jump_and_the_first_paint_is_early(browser: Browser, system: Any) -> None:
    context = browser.new_context(base_url=system.http_url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver((list) => {
            for (const each of list.getEntries()) if (!each.hadRecentInput) window.shift += each.value;
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    page.goto("/", timeout=60_000)
    expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()
    page.evaluate("window.shift = 0")
    page.goto(SEARCH, timeout=60_000)
    expect(cards(page)).to_have_count(12)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.shift") < 0.01
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    # The bar of half a second is measured in bench/page.py; a shared machine gets three times that here.
    assert paint < 1500
    context.close()
