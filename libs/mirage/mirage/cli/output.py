"""Output of the verbs: JSON, tables on a terminal, tab-separated lines in a pipe."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    # Escapes keep whatever a caption holds harmless to the terminal.
    click.echo(json.dumps(value, ensure_ascii=True, indent=2, default=dict))


def on_terminal() -> bool:
    """True where standard output is a terminal."""
    return sys.stdout.isatty()


def plain(text: str) -> str:
    """The text on one line, without the control characters that could drive a terminal."""
    kept = (" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    return " ".join("".join(kept).split())


def note(text: str) -> None:
    """A remark for the person, on standard error, so that a pipe gets the data alone."""
    click.echo(plain(text), err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under headings on a terminal; tab-separated lines without headings elsewhere."""
    cleaned = [[plain(cell) for cell in row] for row in rows]
    if not on_terminal():
        for row in cleaned:
            click.echo("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cleaned:
        # Text, not str: a caption may hold what rich would take for markup.
        table.add_row(*map(Text, row))
    Console(width=max(60, shutil.get_terminal_size().columns), highlight=False).print(table)


def print_fields(fields: Mapping[str, str]) -> None:
    """Names and values, one a line; empty values are left out."""
    shown = {name: plain(value) for name, value in fields.items() if value}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {value}" if on_terminal() else f"{name}\t{value}")


def labels_text(labels: Mapping[str, Sequence[str]]) -> str:
    """Labels on one line: `plane=axial sequence=t1`."""
    return " ".join(f"{facet}={','.join(values)}" for facet, values in labels.items())
