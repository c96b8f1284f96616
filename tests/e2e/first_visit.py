"""The five tasks of a first visit, each from the start page in at most three actions.

`python -m tests.e2e.first_visit --url URL --image FILE` runs them by hand on a MIRAGE that holds MedPix, or
an atlas of which `--find`, `--a` and `--b` name conditions. An action is a click, a key, a file that is chosen, or words
that are typed and entered.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.support.paths import chromium

from .conftest import ARGUMENTS, PATIENCE_MS, cards

MOST = 3


@dataclass
class Visitor:
    """Somebody who has only the page, and counts what they do."""

    page: Page
    actions: list[str] = field(default_factory=list)

    def click(self, what: Locator) -> None:
        self.actions.append("click")
        what.click()

    def enter(self, box: Locator, text: str, *, submit: bool = True) -> None:
        self.actions.append("type")
        box.fill(text)
        if submit:
            box.press("Enter")

    def choose(self, image: tuple[str, bytes]) -> None:
        self.actions.append("choose")
        name, data = image
        self.page.set_input_files("#own", {"name": name, "mimeType": "image/png", "buffer": data})

    def search(self, text: str) -> None:
        self.enter(self.page.get_by_label("What do you want to see?"), text)


@dataclass(frozen=True)
class Words:
    """What is asked for: a condition, two to tell apart, one that the atlas does not have, and an own image."""

    find: str
    a: str
    b: str
    absent: str
    image: tuple[str, bytes]


def find_a_condition(visitor: Visitor, words: Words) -> str:
    """Asks for a condition; the first image says it in its title or caption."""
    visitor.search(words.find)
    first = cards(visitor.page).first
    expect(first.locator("mark").first).to_be_visible()
    expect(first).to_contain_text(re.compile(re.escape(words.find), re.IGNORECASE))
    return first.locator("h2").inner_text()


def compare_two(visitor: Visitor, words: Words) -> str:
    """Opens the door to compare, and names both; each side's image says its own."""
    page = visitor.page
    visitor.click(page.get_by_role("link", name="Compare two"))
    visitor.enter(page.get_by_label("What to show as A"), words.a, submit=False)
    visitor.enter(page.get_by_label("What to show as B"), words.b)
    shown = []
    for letter, text in (("A", words.a), ("B", words.b)):
        half = page.get_by_role("region", name=f"{letter}: {text}")
        expect(half.locator(".stage img")).to_be_visible()
        expect(half.locator(".caption")).to_contain_text(re.compile(re.escape(text.split()[0]), re.IGNORECASE))
        shown.append(half.locator(".caption a").inner_text())
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    return " | ".join(shown)


def cite_an_image(visitor: Visitor, words: Words) -> str:
    """Finds an image, opens it and copies its citation, which names the image's address."""
    page = visitor.page
    visitor.search(words.find)
    visitor.click(cards(page).first.locator("a.shot"))
    visitor.click(page.get_by_role("button", name="Copy citation"))
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = str(page.evaluate("navigator.clipboard.readText()"))
    assert page.url in copied
    return copied


def upload_an_image(visitor: Visitor, words: Words) -> str:
    """Hands over an own image; it is shown large, what it seems to be is said, and look-alikes follow."""
    visitor.choose(words.image)
    own = visitor.page.get_by_role("complementary", name="Your image")
    expect(own).to_contain_text("Looks like a medical image")
    expect(own).to_contain_text("is not stored there")
    assert own.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(visitor.page.locator(".grid .card:not(.skeleton), .absent").first).to_be_visible()
    return own.inner_text().replace("\n", " ")


def learn_what_is_missing(visitor: Visitor, words: Words) -> str:
    """Asks for what the atlas does not have; the page says so and what it has, and one click shows that."""
    page = visitor.page
    visitor.search(words.absent)
    expect(page.get_by_role("heading", name=f"No image here matches “{words.absent}”.")).to_be_visible()
    expect(page.get_by_text("Try another word for it")).to_be_visible()
    visitor.click(page.get_by_role("list", name="What this atlas has").get_by_role("link").first)
    expect(cards(page).first).to_be_visible()
    return page.url.partition("?")[2]


TASKS: tuple[Callable[[Visitor, Words], str], ...] = (
    find_a_condition,
    compare_two,
    cite_an_image,
    upload_an_image,
    learn_what_is_missing,
)


def perform(page: Page, task: Callable[[Visitor, Words], str], words: Words) -> tuple[int, str]:
    """Does a task from the start page; returns the number of actions and what was seen. Raises AssertionError beyond `MOST`."""
    page.goto("/")
    expect(page.get_by_role("heading", name="See what it looks like.")).to_be_visible()
    visitor = Visitor(page)
    seen = task(visitor, words)
    assert 0 < len(visitor.actions) <= MOST, visitor.actions
    return len(visitor.actions), seen


def main(arguments: list[str] | None = None) -> int:
    """Performs the tasks and prints a line for each; returns 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.first_visit", description=__doc__)
    parser.add_argument("--url", default="http://localhost:8080")
    parser.add_argument("--image", type=Path, required=True, help="an own image, such as a chest X-ray")
    parser.add_argument("--find", default="appendicitis")
    parser.add_argument("--a", default="epidural hematoma")
    parser.add_argument("--b", default="subdural hematoma")
    parser.add_argument("--absent", default="zebra crossing at night")
    given = parser.parse_args(arguments)
    words = Words(given.find, given.a, given.b, given.absent, (given.image.name, given.image.read_bytes()))
    failed = False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        context = browser.new_context(base_url=given.url, permissions=["clipboard-read", "clipboard-write"])
        expect.set_options(timeout=PATIENCE_MS)
        for task in TASKS:
            page = context.new_page()
            try:
                actions, seen = perform(page, task, words)
                print(f"{task.__name__}: {actions} actions: {seen[:200]}")
            except AssertionError as error:
                failed = True
                print(f"{task.__name__}: FAILED: {str(error)[:400]}")
            page.close()
        browser.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
