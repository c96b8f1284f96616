"""Descriptions: what is shown, who wrote it, and whether its words stand in the captions."""

import re
from collections import Counter

from mirage.client import Client
from mirage.errors import ApiError
from mirage.queries import Query, Term
from mirage_atlas.quality.gallery import Gallery, Report
from mirage_atlas.quality.measures import SEED, estimate, share
from mirage_atlas.quality.report import Findings
from mirage_atlas.quality.retrieval import sample

_LIMIT = 60
_WORD = re.compile(r"[a-z]{4,}")


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Describes at most `limit` records (and at most 60: a description takes seconds), drawn by seed."""
    findings = Findings("descriptions", seeds={"samples": SEED})
    rows = sample(len(gallery.records), min(limit, _LIMIT))
    sources, kinds = Counter[str](), Counter[str]()
    shown: list[float] = []
    withheld = copied = words = 0
    for done, row in enumerate(rows, 1):
        record = gallery.records[row]
        try:
            found = client.description(Query((Term(id=record.id),), collection=collection))
        except ApiError as error:
            findings.notes.append(f"Not measured: {error.code}.")
            return findings
        sources[found.source or "declined"] += 1
        kinds.update(each.kind or "unknown" for each in found.sentences)
        withheld += found.withheld
        shown.append(float(len(found.sentences)))
        texts = {each.id: f"{each.title} {each.caption} {each.findings}".lower() for each in found.retrieval.results}
        for sentence in found.sentences:
            if sentence.kind == "caption":
                stated = " ".join(texts.get(each, "") for each in sentence.ids)
                used = _WORD.findall(sentence.text.lower())
                copied += sum(word in stated for word in used)
                words += len(used)
        report(done, len(rows))
    described = sources.total()
    for source in ("model", "extractive", "declined"):
        findings.add(f"answers: {source}", share(sources[source], described))
    for kind in ("caption", "general", "extract"):
        findings.add(f"sentences: {kind}", share(kinds[kind], kinds.total()))
    findings.add(
        "sentences of the model that were withheld", share(withheld, withheld + kinds["caption"] + kinds["general"])
    )
    findings.add_number("sentences shown in an answer", estimate(shown).value, count=described, unit="sentences")
    findings.add("words of the model's sentences that stand in the captions named", share(copied, words))
    findings.notes.append(
        "Words of four letters and more. A sentence can be wrong with right words: read some of them."
    )
    return findings
