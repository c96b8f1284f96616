"""Output of search results."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mirage.cli.output import labels_text, note, plain, print_table
from mirage_api.search import QueryReport, SearchReply

if TYPE_CHECKING:
    from mirage.client import Client

VALUES_SHOWN = 20
MATCH_NOTES = {
    "weak": "match weak: look at these results with doubt",
    "none": "match none: the atlas probably holds nothing about this; the nearest images follow",
}
_PENDING = "match not judged yet: the collection is still being measured; look at these results with doubt, or search again soon"
_NOT_JUDGED = (
    "match not judged: the collection was not measured for this kind of query; look at these results with doubt"
)


def show_reply(reply: SearchReply) -> None:
    """Prints the results as a table, with remarks on the query."""
    show_query(reply.query)
    if not reply.results:
        note("no results")
        return
    if remark := match_note(reply):
        note(remark)
    show_words(reply)
    print_table(
        ("score", "id", "caption", "labels"),
        [
            (
                "says it" if one.section == "words" else "" if reply.total is not None else f"{one.score:.4f}",
                f"{one.id} (case {one.case.id}: {one.case.images})" if one.case and one.case.id else one.id,
                f"{one.title}: {one.caption}" if one.title and one.title != one.caption else one.caption,
                labels_text(one.labels),
            )
            for one in reply.results
        ],
    )
    if reply.total is not None:
        note(f"{reply.total:,} records")
    if reply.next_page_token:
        note(f"more: --page {reply.next_page_token}")


def match_note(reply: SearchReply) -> str:
    """Returns a remark on the match; "" for a good one and for a listing."""
    if reply.match is not None or reply.total is not None:
        return MATCH_NOTES.get(reply.match or "", "")
    return _PENDING if reply.match_pending else _NOT_JUDGED


def show_words(reply: SearchReply) -> None:
    """Prints how a text was read: corrections, other words for it, and labels to filter by."""
    if reply.words is None:
        return
    for word in reply.words.corrected:
        note(f"searched for {word.used} instead of {word.given} (in quotes a word is searched as it stands)")
    if reply.words.expanded:
        note("also: " + "; ".join(f"{word.given} = {', '.join(word.others)}" for word in reply.words.expanded))
    for label in reply.words.labels:
        offer = f"--where {label.facet}={label.value} ({label.count:,} records)" if label.count else "no record is"
        note(f"none of the first results is {label.value}: {offer}")


def show_query(query: QueryReport) -> None:
    """Returns remarks on the query for the reader."""
    if query.truncated:
        cut = ", ".join(repr(plain(term.label)[:40]) for term in query.terms if term.truncated)
        note(f"longer than the model reads: the end of {cut or 'the text'} was not seen")
    if len(query.terms) > 1:
        shares = ", ".join(
            f"{'minus ' if term.weight < 0 else ''}{plain(term.label)[:40]} {term.share:+.2f}" for term in query.terms
        )
        note(f"shift {query.shift:.3f}; shares: {shares}")


def note_where_records_are(client: "Client", collection: str) -> None:
    """For a search without results: if the collection is empty, says so, and names collections that have records."""
    there = client.collections()
    asked = next((each for each in there if (each.name == collection if collection else each.active)), None)
    if asked is None or asked.records:
        return
    others = [f"{each.name} ({each.records:,})" for each in there if each.records]
    hint = f"; with records: {', '.join(others)}: add --collection NAME" if others else "; fill it with `mirage index`"
    note(f"the collection {asked.name} is empty{hint}")


def note_values(client: "Client", where: Mapping[str, Sequence[str]], collection: str = "") -> None:
    """For a filter that leaves nothing: names each facet whose values no record has, with the values that there are."""
    there = {
        facet.name: [*(each.value for each in facet.values), *(facet.other.values if facet.other else ())]
        for facet in client.facets(collection=collection)
    }
    for name, values in where.items():
        facet = "_".join(name.lower().replace("-", " ").replace("_", " ").split())
        known = there.get(facet, [])
        if not any(" ".join(value.lower().split()) in known for value in values):
            some = ", ".join(known[:VALUES_SHOWN]) + (", ..." if len(known) > VALUES_SHOWN else "")
            note(f"no record has {facet}={' or '.join(values)}; there are: {some or 'none'}")
