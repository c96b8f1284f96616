"""Follows the links between the repository's Markdown files; fails if a file or a heading that one points to is missing."""

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Prints each broken link; returns the exit status."""
    listed = subprocess.run(
        [shutil.which("git") or "git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    broken = [
        f"{name}: {target}"
        for name in listed.stdout.splitlines()
        for target in links(ROOT / name)
        if not leads_somewhere(ROOT / name, target)
    ]
    for each in broken:
        print(f"broken link in {each}", file=sys.stderr)
    return 1 if broken else 0


def leads_somewhere(page: Path, target: str) -> bool:
    """Returns whether a link's file and heading exist; links to other hosts are not followed."""
    if re.match(r"\w+:", target):
        return True
    name, _, heading = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not heading or file.suffix != ".md" or heading in headings(file.resolve()))


@cache
def tokens(page: Path) -> list[Token]:
    """The blocks of a page."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and images."""
    for block in tokens(page.resolve()):
        for each in block.children or ():
            if target := each.attrGet("href" if each.type == "link_open" else "src"):
                yield str(target)


@cache
def headings(page: Path) -> frozenset[str]:
    """The names of a page's headings in addresses, as code hosts make them."""
    blocks = tokens(page)
    titles = [after.content for block, after in itertools.pairwise(blocks) if block.type == "heading_open"]
    return frozenset(re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles)


if __name__ == "__main__":
    sys.exit(main())
