"""Writes the tables that docs and READMEs take from the code; with --check, fails where one is stale."""

import argparse
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mirage_core.errors import catalogue_table
from mirage_core.settings import ServiceSettings, settings_table
from mirage_models.presets import presets_table

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "services/encoder/README.md": "mirage_encoder.settings:EncoderSettings",
    "services/retriever/README.md": "mirage_retriever.settings:RetrieverSettings",
    "services/gateway/README.md": "mirage_gateway.settings:GatewaySettings",
    "services/llm/README.md": "mirage_llm.settings:LlmSettings",
    "services/generator/README.md": "mirage_generator.settings:GeneratorSettings",
    "services/reader/README.md": "mirage_reader.settings:ReaderSettings",
}


def settings_of(path: str) -> Callable[[], str]:
    """A function that renders the table of the settings class at `module:Class`."""

    def render() -> str:
        module, _, name = path.partition(":")
        cls: type[ServiceSettings] = getattr(importlib.import_module(module), name)
        return settings_table(cls)

    return render


def main() -> int:
    """Rewrites (or with --check compares) each marked table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a table is stale")
    check: bool = parser.parse_args().check
    tables: dict[str, tuple[str, Callable[[], str]]] = {
        "docs/errors.md": ("catalogue", catalogue_table),
        "docs/models.md": ("presets", presets_table),
    }
    tables |= {readme: ("settings", settings_of(path)) for readme, path in SETTINGS.items()}
    stale = [name for name, (mark, render) in tables.items() if not update(ROOT / name, mark, render(), check=check)]
    for name in stale:
        print(f"{name} is stale: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


def update(path: Path, mark: str, table: str, *, check: bool) -> bool:
    """Puts the table between <!-- mark --> and <!-- /mark -->; returns False where it differs and only a check was asked."""
    text = path.read_text()
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"{path} has no <!-- {mark} --> block")
    fresh = pattern.sub(lambda found: found[1] + table + found[2], text)
    if check:
        return fresh == text
    path.write_text(fresh)
    return True


if __name__ == "__main__":
    sys.exit(main())
