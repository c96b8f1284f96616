"""The data that a site searches in: vectors, each record's nearest others, words, and answers to the common queries."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mirage.queries import Query, Term
from mirage_launcher.errors import SiteError
from mirage_launcher.site.files import SiteFiles

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage_api.records import StoredRecord


NEIGHBOURS = 10
_ANSWER_K = 100
_BLOCK = 1024
Array = npt.NDArray[np.float32]
Report = Callable[[str, int, int], None]


def put_search_data(files: SiteFiles, records: "list[StoredRecord]", report: Report) -> dict[str, Any]:
    """Writes vectors, neighbours and words. Returns what a page needs to read them."""
    images, captions = _vectors(records)
    report("reading words", 0, 1)
    return {
        "vectors": files.put_parts("data", "vectors", images.astype("<f2").tobytes()),
        "captions": files.put_parts("data", "captions", captions.astype("<f2").tobytes()),
        "neighbours": files.put_parts("data", "neighbours", _neighbours(images), packed=True),
        "words": files.put_parts("data", "words", _words(records), packed=True),
    }


def _vectors(records: "list[StoredRecord]") -> tuple[Array, Array]:
    rows: tuple[list[bytes], list[bytes]] = ([], [])
    for record in records:
        for side, vector in zip(rows, record.vectors(), strict=True):
            if vector is None:
                raise SiteError(f"the server gave no vectors for {record.id}")
            side.append(vector)
    images, captions = (np.frombuffer(b"".join(side), dtype="<f4").reshape(len(records), -1) for side in rows)
    return images, captions


def _neighbours(images: Array) -> bytes:
    """The places (uint32) and cosines (float32) of each record's nearest others, in two arrays one after the other."""
    count = min(NEIGHBOURS, len(images) - 1)
    places = np.zeros((len(images), count), "<u4")
    cosines = np.zeros((len(images), count), "<f4")
    for start in range(0, len(images) if count else 0, _BLOCK):
        scores = images[start : start + _BLOCK] @ images.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -2
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        places[start : start + len(scores)] = best
        cosines[start : start + len(scores)] = np.take_along_axis(scores, best, axis=1)
    return places.tobytes() + cosines.tobytes()


def _words(records: "list[StoredRecord]") -> bytes:
    """The retriever's own index of the records' words: its tokenizer and weights are used in a process of its own."""
    lines = "\n".join(
        json.dumps(record.model_dump(mode="json", exclude={"image_vector", "caption_vector", "pixels", "regions"}))
        for record in records
    )
    with tempfile.TemporaryDirectory(prefix="mirage-site-") as folder:
        path = Path(folder) / "words"
        command = [sys.executable, "-P", "-m", "mirage_retriever.words.site", str(path)]
        done = subprocess.run(command, input=lines.encode(), capture_output=True, check=False)
        if done.returncode or not path.is_file():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise SiteError(f"the index of words could not be made: {' '.join(last) or 'its process was ended'}")
        return path.read_bytes()


def answers_of(
    client: "Client",
    records: "list[StoredRecord]",
    where: Mapping[str, Sequence[str]] | None,
    collection: str,
    report: Report,
) -> dict[str, dict[str, Any]]:
    """The server's answers to the common queries; results that the site does not have are left out.

    `cases` are those of one record a case, as the page asks, if the site has all of them; `all_cases` says if there are no more.
    """
    place = {record.id: number for number, record in enumerate(records)}
    queries = client.common_queries(collection=collection)
    answers: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(queries):
        report("answering common queries", number, len(queries))
        asked = Query((Term(text=text),), k=_ANSWER_K, where=where or {}, collection=collection)
        reply = client.search(asked).model_dump(mode="json")
        by_case = client.search(replace(asked, group_by="case")).model_dump(mode="json")
        cases = _listed(by_case, place)
        # Times would make every export another one.
        answers[text] = {
            "results": _listed(reply, place),
            "cases": cases if len(cases) == len(by_case["results"]) else None,
            "all_cases": not by_case["next_page_token"],
            **{name: reply.get(name) for name in ("match", "query", "words")},
        }
    return answers


def _listed(reply: dict[str, Any], place: dict[str, int]) -> list[list[Any]]:
    return [
        [place[each["id"]], each["score"], each["cosine"], each.get("section"), each.get("matched", {})]
        for each in reply["results"]
        if each["id"] in place
    ]
