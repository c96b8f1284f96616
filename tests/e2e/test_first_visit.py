"""The five tasks of a first visit on a small set of records of its own."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from mirage.client import Client
from mirage.uploads import Upload

from .conftest import open_page
from .first_visit import TASKS, Visitor, Words, perform

CASES = {
    "appendicitis": "CT of the abdomen: acute appendicitis with an enlarged appendix and stranding of the fat around it.",
    "epidural hematoma": "CT of the head: epidural hematoma on the right, shaped like a lens, next to a fracture.",
    "subdural hematoma": "CT of the head: subdural hematoma on the left, shaped like a crescent.",
}


def _picture(seed: int) -> bytes:
    picture = Image.radial_gradient("L").convert("RGB")
    ImageDraw.Draw(picture).ellipse((40 + 50 * seed, 60, 90 + 50 * seed, 110), fill=(230, 230, 230))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def known(system: Any) -> Iterator[None]:
    """Three cases that the atlas has while these tests run."""
    records = [
        Upload(
            f"visit-{at}",
            caption,
            _picture(at),
            title=name.capitalize(),
            case_id=f"visit-{at}",
            labels={"modality": ["ct"]},
            licence="CC0-1.0",
            source="drawn by this test",
        )
        for at, (name, caption) in enumerate(CASES.items())
    ]
    with Client(system.http_url, timeout_s=60) as client:
        assert {each.state for each in client.upsert(records)} == {"created"}
        yield
        for each in records:
            client.delete(each.id)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_a_first_visitor_needs_three_actions(
    browser: Browser, system: Any, section: bytes, task: Callable[[Visitor, Words], str]
) -> None:
    find, a, b = CASES
    words = Words(find, a, b, absent="how to bake bread", image=("mine.png", section))
    with open_page(browser, system.http_url, permissions=["clipboard-read", "clipboard-write"]) as page:
        perform(page, task, words)
