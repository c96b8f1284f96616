"""The view of quality: measured figures of this atlas, or how to get them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mirage.client import Client
from mirage_api.quality import Figure, HardCase, Measured

from .conftest import check_with_axe


@pytest.fixture
def measured(system: Any) -> Iterator[Measured]:
    """Figures that are kept with the active collection."""
    with Client(system.http_url) as client:
        hub = client.records(limit=1).records[0].id
        found = Measured(
            subject="retrieval",
            fingerprint=client.collection().fingerprint,
            command="mirage eval retrieval",
            figures=(
                Figure(
                    name="recall@10",
                    group="text to image, likeness",
                    value=0.8125,
                    low=0.7,
                    high=0.9,
                    chance=0.25,
                    count=80,
                ),
                Figure(
                    name="first result has the label",
                    group="body_part chest: text to image, likeness",
                    value=0.2,
                    low=0.1,
                    high=0.3,
                    chance=0.15,
                    count=40,
                ),
            ),
            hard_cases=(HardCase(kind="hub", id=hub, text="A hub.", count=57),),
            notes=("A note.",),
        )
        client.store_evaluation(found)
        yield found


def test_figures_stand_next_to_chance_and_say_where_not_to_trust_it(page: Page, measured: Measured) -> None:
    page.goto("/")
    page.get_by_role("link", name="Quality").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("How good is the search?")
    tile = page.get_by_role("listitem").filter(has_text="among the first ten").first
    expect(tile).to_contain_text("81.3 %")
    expect(tile).to_contain_text("70 % to 90 % · by chance 25 %")
    row = page.get_by_role("row", name="Chest")
    expect(row).to_contain_text("20 %")
    expect(row).to_contain_text("do not trust")
    check_with_axe(page)
    page.get_by_role("link", name=f"Open {measured.hard_cases[0].id}").first.click()
    expect(page).to_have_url(f"{page.evaluate('location.origin')}/i/{measured.hard_cases[0].id}")


def test_figures_are_saved_as_json_and_as_a_table(page: Page, measured: Measured, tmp_path: Path) -> None:
    page.goto("/quality")
    for name in ("JSON", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download as {name}").click()
        download.value.save_as(tmp_path / name)
    (found,) = json.loads((tmp_path / "JSON").read_text())
    assert [each["value"] for each in found["figures"]] == [each.value for each in measured.figures]
    assert '"retrieval","text to image, likeness","recall@10","0.8125"' in (tmp_path / "CSV").read_text()


def test_without_figures_it_says_how_to_get_them(page: Page, system: Any) -> None:
    with Client(system.http_url) as client:
        client.create_collection("unmeasured")
        try:
            page.goto("/quality?collection=unmeasured")
            expect(page.get_by_text("mirage eval all --store")).to_be_visible()
        finally:
            client.delete_collection("unmeasured")


def test_a_doubt_leads_to_the_figures(page: Page) -> None:
    page.goto("/?q=stock market prices")
    page.get_by_role("main").get_by_role("link", name="How good is it?").click()
    expect(page).to_have_url(f"{page.evaluate('location.origin')}/quality")
    expect(page.get_by_role("heading", level=1)).to_have_text("How good is the search?")
