"""Weighted terms, what a comparison changed, and links that carry all of it."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Page, expect


def cards(page: Page) -> Any:
    return page.locator("#answer .card:not(.skeleton)")


def test_a_comparison_tells_what_changed_in_the_labels(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Axial becomes sagittal").click()
    changes = page.locator(".changes")
    expect(changes.locator("tbody tr").first).to_be_visible()
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in changes.locator("tbody tr").all()
    }
    before, after = map(int, rows["Plane: Sagittal"])
    assert before < after
    assert int(rows["Plane: Axial"][0]) > int(rows["Plane: Axial"][1])
    sagittal = page.locator(".column.shifted .card")
    assert sagittal.count() == 12


def test_any_number_of_weighted_terms_make_a_query(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Concept").fill("pons")
    page.get_by_text("More terms, with weights").click()
    for value, weight in (("cerebellum", "0.5"), ("axial", "-1")):
        page.get_by_role("button", name="Add a term").click()
        page.get_by_label("Phrase or record id").last.fill(value)
        page.get_by_label("Weight", exact=True).last.fill(weight)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(cards(page)).to_have_count(12)
    expect(page.locator(".shares li")).to_have_count(3)
    assert parse_qs(urlsplit(page.url).query)["term"] == ["0.5|text|cerebellum", "-1|text|axial"]
    page.get_by_role("button", name="Remove the term").first.click()
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".shares li")).to_have_count(2)


def test_a_link_opened_afresh_shows_the_same(page: Page, browser: Browser, system: Any) -> None:
    page.goto(
        "/?q=brain&minus=axial&plus=coronal&view=compare&term=0.5%7Ctext%7Cflair&where=sequence%3Dflair&vectors=fused"
    )
    expect(page.locator(".column.shifted .card")).to_have_count(12)
    shown = page.locator(".caption").all_inner_texts()
    with browser.new_context(base_url=system.http_url) as fresh:
        other = fresh.new_page()
        other.goto(page.url, timeout=60_000)
        expect(other.locator(".column.shifted .card")).to_have_count(12)
        assert other.locator(".caption").all_inner_texts() == shown
        assert other.get_by_label("Phrase or record id").input_value() == "flair"
        assert other.get_by_label("Sequence").input_value() == "flair"
        assert other.get_by_label("Compare with").input_value() == "fused"


def test_terms_in_a_link_that_are_none_are_left_out(page: Page) -> None:
    page.goto("/?q=brain&term=9%7Ctext%7Cx&term=a%7Ctext%7Cb&term=1%7Cscript%7Cx&term=%7C&term=1%7Ctext%7Cpons")
    expect(cards(page)).to_have_count(12)
    assert page.get_by_label("Phrase or record id").count() == 1


def test_a_result_becomes_a_term(page: Page) -> None:
    page.goto("/?q=axial+T1+brain")
    chosen = cards(page).first.get_attribute("data-id")
    cards(page).first.locator(".frame").click()
    page.get_by_role("button", name="Use in arithmetic").click()
    expect(page.get_by_label("Phrase or record id")).to_have_value(str(chosen))
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".shares li")).to_have_count(2)


def test_recent_queries_are_listed_and_forgotten(page: Page) -> None:
    page.goto("/?q=coronal+T2+brain")
    expect(cards(page)).to_have_count(12)
    page.goto("/")
    recent = page.get_by_role("region", name="Recent")
    expect(recent.get_by_role("link", name="coronal T2 brain")).to_be_visible()
    assert "coronal T2 brain" in page.locator("#suggestions option").evaluate_all("all => all.map(o => o.value)")
    recent.get_by_role("button", name="Forget these").click()
    expect(recent).to_have_count(0)
    page.reload()
    expect(page.get_by_role("heading", name="Try one of these")).to_be_visible()
    assert page.get_by_role("region", name="Recent").count() == 0


def test_common_queries_are_suggested(page: Page) -> None:
    page.goto("/")
    expect(page.locator("#suggestions option").first).to_be_attached()
