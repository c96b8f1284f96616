"""Speed: how long each call takes on this machine, one at a time."""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mirage.client import Client
from mirage.queries import Query, Term
from mirage_atlas.quality.gallery import Gallery, Report
from mirage_atlas.quality.report import Findings
from mirage_atlas.quality.retrieval import sample

_WARM = 3


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Times each call `limit` times through the gateway."""
    findings = Findings("speed")
    records = [gallery.records[row] for row in sample(len(gallery.records), limit + _WARM)]
    # Each query is asked once: an answer from a cache says nothing.
    texts = [f"{record.caption[:100]} {number}" for number, record in enumerate(records)]
    like = Query((), collection=collection)
    calls: dict[str, Callable[[int], object]] = {
        "search, hybrid": lambda n: client.search(replace(like, terms=(Term(text=texts[n]),))),
        "search, words": lambda n: client.search(replace(like, terms=(Term(text=texts[n]),), mode="words")),
        "search, likeness": lambda n: client.search(
            replace(like, terms=(Term(text=f"{texts[n]} again"),), mode="images")
        ),
        "compare": lambda n: client.compare(f"{texts[n]} once more", minus="axial", plus="sagittal", like=like),
        "similar": lambda n: client.similar(records[n].id, collection=collection),
        "record": lambda n: client.record(records[n].id, collection=collection),
        "image": lambda n: client.image(records[n].id, collection=collection),
        "thumbnail": lambda n: client.image(records[n].id, variant="thumbnail", collection=collection),
        "facets": lambda _: client.facets(collection=collection),
    }
    for done, (name, call) in enumerate(calls.items(), 1):
        took = []
        for number in range(len(records)):
            began = time.perf_counter()
            call(number)
            took.append((time.perf_counter() - began) * 1000)
        took = took[min(_WARM, len(took) - 1) :]
        findings.add_number("p50", float(np.quantile(took, 0.5)), group=name, count=len(took), unit="ms")
        findings.add_number("p99", float(np.quantile(took, 0.99)), group=name, count=len(took), unit="ms")
        report(done, len(calls))
    findings.notes.append(f"Over HTTP, one call at a time; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}.")
    return findings
