"""`mirage describe`: an explanation with its sources."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirage.cli.options import (
    collection_option,
    open_client,
    parse_where,
    read_image,
    server_options,
    term_options,
    where_option,
)
from mirage.cli.output import note, on_terminal, plain, print_json
from mirage.cli.results import MATCH_NOTES
from mirage.queries import Query, weighted_terms

if TYPE_CHECKING:
    from mirage_api.descriptions import DescribeDone, DescribeRanking, DescribeSentence
    from mirage_api.search import SearchResult

_GENERAL = "[general knowledge]"
_BLOCKS = {"see": "What you see", "where": "Where to look", "apart": "What it is told apart from"}


@click.command("describe")
@term_options
@where_option
@click.option("-k", type=int, default=3, show_default=True, metavar="K", help="How many captions, 1 to 10.")
@click.option("--max-tokens", type=int, metavar="N", help="At most so many tokens, 1 to 512; default 128.")
@click.option("--temperature", type=float, metavar="T", help="0 to 2; default 0, the same text each time.")
@click.option(
    "--top-p", type=float, metavar="P", help="Sample from the most likely tokens that together reach probability P."
)
@click.option("--seed", type=int, metavar="N", help="Same seed, same text at a temperature above 0.")
@click.option("--against", metavar="TEXT", help="Say how what this text finds differs instead (A: the query, B: this).")
@collection_option
@server_options
def command(
    text: str | None,
    images: tuple[Path, ...],
    ids: tuple[str, ...],
    minus: tuple[str, ...],
    plus: tuple[str, ...],
    any_image: bool,
    where: tuple[str, ...],
    k: int,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    against: str | None,
    collection: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Explain a concept from the captions that are closest to it.

    Sentences come as they are checked; [1] names the caption below that supports a sentence. Ctrl-C stops it.

    mirage describe "axial T1 through the lateral ventricles" --minus axial --plus sagittal
    """
    if text is None and not (images or ids or plus):
        raise click.UsageError("Give a TEXT, --image FILE, --id ID or --plus T.")
    # Imported here: `mirage --help` must not wait for it.
    from mirage.descriptions import DescribeOptions

    query = Query(
        weighted_terms(text, images=map(read_image, images), ids=ids, minus=minus, plus=plus),
        where=parse_where(where),
        accept_any_image=any_image,
        collection=collection,
    )
    options = DescribeOptions(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    with open_client(url) as client:
        if as_json:
            print_json(client.description(query, options, k=k, against=against).raw)
        else:
            _follow(client.describe(query, options, k=k, against=against))


def _follow(events: "Iterator[Any]") -> None:
    from mirage_api.descriptions import DescribeAgainst, DescribeDone, DescribeRanking, DescribeSentence
    from mirage_api.search import SearchReply

    sources: Sequence[SearchResult] = ()
    ranking: DescribeRanking | None = None
    done: DescribeDone | None = None
    sentences = list[DescribeSentence]()
    with _screen() as show:
        for event in events:
            match event:
                case DescribeAgainst():
                    sources = (*sources, *event.results)
                case SearchReply():
                    sources = event.results
                    if remark := MATCH_NOTES.get(event.match or ""):
                        note(remark)
                case DescribeSentence():
                    sentences.append(event)
                case DescribeRanking():
                    ranking = event
                case DescribeDone():
                    done = event
            show(marked(sentences, [each.id for each in sources]))
    if done is not None:
        _show_rest(done, sources, ranking)


def marked(sentences: "Sequence[DescribeSentence]", ids: Sequence[str]) -> str:
    """Returns the sentences by block, each with the numbers of its sources."""
    paragraphs: dict[str, list[str]] = {name: [] for name in ("", *_BLOCKS)}
    for each in sentences:
        numbers = "".join(f"[{ids.index(id_) + 1}]" for id_ in each.ids if id_ in ids)
        mark = _GENERAL if each.kind == "general" else numbers
        paragraphs[each.block or ""].append(f"{each.text} {mark}".strip())
    shown = [(_BLOCKS.get(block, ""), " ".join(said)) for block, said in paragraphs.items() if said]
    return "\n".join(plain(f"{title}: {said}" if title else said) for title, said in shown)


@contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """Shows a text that grows; into a pipe it is written once, whole."""
    latest = ""

    def keep(text: str) -> None:
        nonlocal latest
        latest = text

    if not on_terminal():
        yield keep
        if latest:
            click.echo(latest)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    # If it is higher than the screen, it is printed once: lines that scrolled away cannot be drawn again.
    with Live(console=Console(highlight=False), refresh_per_second=12, vertical_overflow="visible") as live:

        def draw(text: str) -> None:
            keep(text)
            live.update(Text(text))

        yield draw


def _show_rest(
    done: "DescribeDone",
    sources: "Sequence[SearchResult]",
    ranking: "DescribeRanking | None",
) -> None:
    if done.notice:
        note(done.notice)
    if done.withheld:
        note(f"{done.withheld} sentences of the language model were withheld: no caption supports them.")
    if not done.text:
        return
    used = {id_ for each in done.sentences for id_ in each.ids}
    click.echo("")
    for number, source in enumerate(sources, start=1):
        unused = "" if source.id in used else " (not cited)"
        click.echo(plain(f"[{number}] {source.id}{unused}: {source.caption}"))
        origin = plain(f"{source.source or 'source not stated'} · {source.licence or 'licence not stated'}")
        click.echo(f"    {origin}")
    if ranking is not None:
        click.echo("")
        click.echo(plain(f"by your question: {', '.join(ranking.first[:5])}"))
        click.echo(plain(f"by this explanation: {', '.join(each.id for each in ranking.second[:5])}"))
        click.echo(plain(f"fits both best: {ranking.best}"))
    if done.source == "model":
        note("written by a language model from these captions: it can be wrong. For education, not for diagnosis.")
