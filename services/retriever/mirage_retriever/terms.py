"""Terms to unit vectors: texts and images by the encoder, ids by the engine, given vectors by a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mirage_core.errors import Code, MirageError
from mirage_core.vectors import check_unit
from mirage_retriever.concurrency import together
from mirage_retriever.engines.base import Collection, Engine, Space
from mirage_retriever.query import Given, Id, Image, Term, Text

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A unit vector from the encoder. `tokens` and `truncated` are of a text; times in milliseconds."""

    vector: Array
    fingerprint: str
    tokens: int = 0
    truncated: bool = False
    queue_ms: float = 0.0
    inference_ms: float = 0.0


@dataclass(frozen=True)
class EncoderModel:
    """The bundle that the encoder has loaded."""

    name: str
    fingerprint: str
    dimension: int
    manifest_json: str


class TermEncoder(Protocol):
    """The encoder as the retriever uses it; each call raises MirageError."""

    async def model(self) -> EncoderModel:
        """The bundle that is loaded."""
        ...

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        """One answer a text."""
        ...

    async def image(self, data: bytes) -> Encoded:
        """The answer for one image file."""
        ...

    async def images(self, files: Sequence[bytes]) -> "list[Encoded | MirageError]":
        """Returns one embedding or error for each image file."""
        ...


@dataclass(frozen=True, eq=False)
class Resolved:
    """A term with its unit vector. `label` is the text, "image", the record's id or "vector"."""

    label: str
    weight: float
    vector: Array
    tokens: int = 0
    truncated: bool = False
    queue_ms: float = 0.0
    inference_ms: float = 0.0


async def resolve(
    terms: Sequence[Term], *, encoder: TermEncoder, engine: Engine, collection: Collection, space: Space
) -> list[Resolved]:
    """Resolves the terms in their order, all lookups at the same time; a record is resolved to its vector in `space`.

    Raises what encoder and engine raise, VECTOR_* for a given vector, RECORD_NOT_FOUND for an unknown id, and
    FINGERPRINT_MISMATCH if the encoder runs another model than the collection was made with.
    """
    # Checks without another process come first.
    vectors: dict[int, Encoded | Array] = {
        number: check_unit(term.value.vector, dimension=collection.dimension)
        for number, term in enumerate(terms)
        if isinstance(term.value, Given)
    }
    texts = [(number, term.value.text) for number, term in enumerate(terms) if isinstance(term.value, Text)]
    images = [(number, term.value.data) for number, term in enumerate(terms) if isinstance(term.value, Image)]
    ids = [(number, term.value.id) for number, term in enumerate(terms) if isinstance(term.value, Id)]

    async def encode_texts() -> None:
        answers = await encoder.texts([text for _, text in texts])
        vectors.update((number, answer) for (number, _), answer in zip(texts, answers, strict=True))

    async def encode_image(number: int, data: bytes) -> None:
        vectors[number] = await encoder.image(data)

    async def look_up() -> None:
        stored = await engine.fetch(list(dict.fromkeys(id_ for _, id_ in ids)), vectors=True)
        for number, id_ in ids:
            point = stored.get(id_)
            vector = None if point is None else point.caption if space is Space.CAPTION else point.image
            if vector is None:
                raise MirageError(Code.RECORD_NOT_FOUND, id=id_)
            vectors[number] = vector

    lookups = [encode_image(number, data) for number, data in images]
    if texts:
        lookups.append(encode_texts())
    if ids:
        lookups.append(look_up())
    await together(lookups)
    return [_resolved(term, vectors[number], collection) for number, term in enumerate(terms)]


def _resolved(term: Term, found: Encoded | Array, collection: Collection) -> Resolved:
    match term.value:
        case Text(text):
            label = text
        case Image():
            label = "image"
        case Id(id_):
            label = id_
        case _:
            label = "vector"
    if not isinstance(found, Encoded):
        return Resolved(label, term.weight, found)
    check_fingerprint(found.fingerprint, collection)
    vector = check_unit(found.vector, dimension=collection.dimension)
    return Resolved(label, term.weight, vector, found.tokens, found.truncated, found.queue_ms, found.inference_ms)


def check_fingerprint(given: str, collection: Collection) -> None:
    """Raises FINGERPRINT_MISMATCH unless vectors of the bundle `given` belong to the collection."""
    if given != collection.fingerprint:
        raise MirageError(Code.FINGERPRINT_MISMATCH, expected=collection.fingerprint, given=given)
