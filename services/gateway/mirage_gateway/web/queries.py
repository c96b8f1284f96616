"""What callers send as JSON, and the messages made of it.

Only the form is checked here; limits and meaning are the retriever's, so that HTTP and gRPC callers meet the same rules.
"""

import binascii
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from mirage_core import limits
from mirage_core.describe_options import (
    MAX_TOKENS_MAX,
    SEED_MAX,
    STOP_CHARS_MAX,
    STOP_MAX,
    TEMPERATURE_MAX,
    check_describe_options,
)
from mirage_core.errors import Code, MirageError
from mirage_core.pixels import NAME_CHARS, UNIT_CHARS, WINDOWS_MAX
from mirage_gateway.compose import string_lists
from mirage_gateway.describing import K_DEFAULT, K_MAX
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.v1 import description_pb2, flag_pb2, mirage_service_pb2, query_pb2, record_pb2

_INT32 = range(-(2**31), 2**31)
_FACETS = 64
_ORIGINAL_LABELS = 1_000
_PAGE_TOKEN_CHARS = 10_000


def _decoded(value: object, info: ValidationInfo) -> object:
    """Returns the file in a base64 string, or the one that was decoded before (`json_bounds.Files`) and that the string names."""
    if not isinstance(value, str):
        return value
    if len(value) > limits.IMAGE_BYTES * 4 / 3 + 4:
        raise PydanticCustomError("image_too_large", "too large")
    files: Mapping[str, bytes | None] = (info.context or {}).get("files", {})
    content = files[value] if value in files else _from_base64(value)
    if content is None:
        raise PydanticCustomError("base64", "not base64")
    return content


def _from_base64(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:
        return None


# Bounds of the form, at which no meaning is lost: the retriever's own limits are lower, and its errors say more.
_Short = Annotated[str, Field(max_length=1_000)]
_Long = Annotated[str, Field(max_length=limits.CAPTION_CHARS)]
Text = Annotated[
    str,
    Field(max_length=limits.TEXT_CHARS, description=f"A phrase, at most {limits.TEXT_CHARS} characters."),
]
Base64 = Annotated[
    bytes,
    BeforeValidator(_decoded, json_schema_input_type=str),
    Field(
        description=f"A PNG, JPEG, WebP or DICOM file in base64, at most {limits.IMAGE_BYTES} bytes decoded.",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]
Id = Annotated[_Short, Field(description="The id of a record.")]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Components = Annotated[
    list[float], Field(max_length=limits.VECTOR_COMPONENTS, description="Of the collection's dimension.")
]
Packed = Annotated[
    str,
    Field(
        max_length=limits.VECTOR_COMPONENTS * 6,
        description="The same as little-endian float32 in base64.",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]
_Values = Annotated[list[_Short], Field(max_length=limits.FACET_VALUES_MAX)]
Where = Annotated[
    dict[_Short, _Short | _Values],
    Field(
        max_length=_FACETS,
        description="Facet to a value or several: a record must carry one of the values of every facet named.",
    ),
]
Vectors: TypeAlias = Literal["image", "caption", "fused"]
_Phrase = Annotated[str, Field(max_length=limits.TEXT_CHARS)]
Phrases = Annotated[
    _Phrase | Annotated[list[_Phrase], Field(max_length=limits.TERMS_MAX)], Field(description="One phrase or several.")
]

_SPACES: Mapping[str, "query_pb2.VectorSpace.ValueType"] = {
    "image": query_pb2.VECTOR_SPACE_IMAGE,
    "caption": query_pb2.VECTOR_SPACE_CAPTION,
    "fused": query_pb2.VECTOR_SPACE_FUSED,
}


FLAG_REASONS: Mapping["flag_pb2.FlagReason.ValueType", str] = {
    flag_pb2.FlagReason.Value(name): name.removeprefix("FLAG_REASON_").lower().replace("_", "-")
    for name in flag_pb2.FlagReason.keys()[1:]
}


class Body(BaseModel):
    """A JSON object whose unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TermBody(Body):
    """One weighted term: exactly one of text, image, id and vector."""

    text: Text | None = None
    image: Base64 | None = None
    id: Id | None = None
    vector: Components | None = None
    weight: float = Field(1.0, description="Finite; negative for what is taken away.")

    def to_term(self, field: str) -> query_pb2.Term:
        """The message; raises REQUEST_MALFORMED where it is more than one thing, named after `field`."""
        if sum(value is not None for value in (self.text, self.image, self.id, self.vector)) > 1:
            raise MirageError(Code.REQUEST_MALFORMED, field=field)
        term = query_pb2.Term(weight=self.weight)
        if self.text is not None:
            term.text = self.text
        elif self.image is not None:
            term.image = self.image
        elif self.id is not None:
            term.id = self.id
        elif self.vector is not None:
            # Set even when empty, so that the retriever sees a vector without components and not no term at all.
            term.vector.float32 = _float32(self.vector)
        return term


class _Options(Body):
    vectors: Vectors = Field("image", description="Which stored vectors to compare with.")
    k: int = Field(
        limits.K_DEFAULT,
        description="How many results, 1 to 100.",
        json_schema_extra={"minimum": 1, "maximum": limits.K_MAX},
    )
    where: Where = Field(default_factory=dict)
    min_score: float | None = Field(
        None,
        description="Results whose cosine is lower are left out.",
        json_schema_extra={"minimum": -1, "maximum": 1},
    )

    accept_any_image: bool = Field(False, description="Search also with what seems to be no medical image.")

    def _options(self) -> query_pb2.Query:
        return query_pb2.Query(
            accept_any_image=self.accept_any_image,
            vectors=_SPACES[self.vectors],
            k=int32(self.k, field="k", maximum=limits.K_MAX),
            where=string_lists(values_of(self.where)),
            min_score=self.min_score,
        )


class _Asked(_Options):
    text: Text | None = None
    image: Base64 | None = None
    id: Id | None = None

    def _asked(self) -> list[query_pb2.Term]:
        terms = []
        if self.text is not None:
            terms.append(query_pb2.Term(text=self.text))
        if self.image is not None:
            terms.append(query_pb2.Term(image=self.image))
        if self.id is not None:
            terms.append(query_pb2.Term(id=self.id))
        return terms


class SearchBody(_Asked):
    """A search: the sum of text, image, id and terms, each with weight 1 unless a term says otherwise."""

    terms: list[TermBody] = Field(
        default_factory=list, max_length=limits.TERMS_MAX, description="Weighted terms, at most 16 in all."
    )
    page_token: str = Field(
        "", max_length=_PAGE_TOKEN_CHARS, description="next_page_token of the reply before, with all else unchanged."
    )

    def to_query(self) -> query_pb2.Query:
        """The message."""
        query = self._options()
        query.terms.extend(self._asked())
        query.terms.extend(term.to_term(f"terms.{index}") for index, term in enumerate(self.terms))
        query.page_token = self.page_token
        return query


class CompareBody(_Asked):
    """A comparison of `q` with `q - minus + plus + terms`; q is the sum of text, image and id."""

    minus: Phrases | None = None
    plus: Phrases | None = None
    terms: list[TermBody] = Field(
        default_factory=list, max_length=limits.TERMS_MAX, description="Further terms of the shift, with their weights."
    )

    def to_queries(self) -> tuple[query_pb2.Query, list[query_pb2.Term]]:
        """The base query and the terms added to it; raises REQUEST_MALFORMED where there is nothing to add."""
        base = self._options()
        base.terms.extend(self._asked())
        shift = shift_terms(self.minus, self.plus, self.terms)
        if not shift:
            raise MirageError(Code.REQUEST_MALFORMED, field="minus, plus")
        return base, shift


class DescribeBody(_Asked):
    """What is to be explained: `text + image + id - minus + plus + terms`, and how to write."""

    k: int = Field(
        K_DEFAULT,
        description="How many captions to write from, 1 to 10.",
        json_schema_extra={"minimum": 1, "maximum": K_MAX},
    )
    minus: Phrases | None = None
    plus: Phrases | None = None
    terms: list[TermBody] = Field(
        default_factory=list, max_length=limits.TERMS_MAX, description="Further terms, with their weights."
    )
    max_tokens: int | None = Field(
        None,
        description="Tokens at the most; 128 where absent.",
        json_schema_extra={"minimum": 1, "maximum": MAX_TOKENS_MAX},
    )
    temperature: float | None = Field(
        None,
        description="0 (or absent) takes the likeliest token each time; at most 2.",
        json_schema_extra={"minimum": 0, "maximum": TEMPERATURE_MAX},
    )
    top_p: float | None = Field(
        None,
        description="Tokens are drawn from the likeliest that together reach this share; 1 where absent.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 1},
    )
    seed: int | None = Field(
        None,
        description="Chosen and told where absent and the temperature is not 0.",
        json_schema_extra={"minimum": 0, "maximum": SEED_MAX},
    )
    stop: list[_Short] = Field(
        default_factory=list,
        description=f"Ends the text before the first of these, each of at most {STOP_CHARS_MAX} characters.",
        max_length=STOP_MAX,
    )

    def to_request(self) -> mirage_service_pb2.DescribeRequest:
        """The message; raises OPTION_OUT_OF_RANGE for what a message could not even hold."""
        check_describe_options(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
        )
        if not 1 <= self.k <= K_MAX:
            raise MirageError(Code.K_OUT_OF_RANGE, field="k", min=1, max=K_MAX, given=self.k)
        query = self._options()
        query.terms.extend(self._asked())
        query.terms.extend(shift_terms(self.minus, self.plus, self.terms))
        options = description_pb2.DescribeOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
        )
        return mirage_service_pb2.DescribeRequest(query=query, options=options)


class FlagBody(Body):
    """A reader's mark that something is wrong with a record."""

    reason: _Short = Field(description="wrong-caption, wrong-image, licence, privacy, description or other.")
    comment: str = Field(
        "", max_length=10 * limits.COMMENT_CHARS, description=f"Free text, at most {limits.COMMENT_CHARS} characters."
    )

    def to_reason(self) -> "flag_pb2.FlagReason.ValueType":
        """The reason; raises FLAG_INVALID for one that is not known."""
        for number, name in FLAG_REASONS.items():
            if name == self.reason:
                return number
        raise MirageError(Code.FLAG_INVALID, field="reason", known=", ".join(FLAG_REASONS.values()))


class WindowBody(Body):
    """A range of values that is shown from black to white, in the unit of the values."""

    name: _Short = Field("", description=f"At most {NAME_CHARS} characters, such as lung.")
    center: float = Field(description="Middle of the range.")
    width: float = Field(description="Width of the range, above 0.")


class PixelsBody(Body):
    """What the values of a 16-bit greyscale PNG mean: value = stored * slope + intercept."""

    bits: Int32 = Field(description="Bits that the stored values use, 9 to 16.")
    slope: float = Field(1.0, description="Any but 0.")
    intercept: float = 0.0
    unit: _Short = Field("", description=f"Unit of the values, such as HU; at most {UNIT_CHARS} characters.")
    windows: list[WindowBody] = Field(
        default_factory=list,
        max_length=WINDOWS_MAX,
        description="How the values are shown; the 8-bit image is in the first.",
    )

    def to_message(self) -> record_pb2.Pixels:
        """The message."""
        return record_pb2.Pixels(
            bits=self.bits,
            slope=self.slope,
            intercept=self.intercept,
            unit=self.unit,
            windows=[
                record_pb2.PixelWindow(name=each.name, center=each.center, width=each.width) for each in self.windows
            ],
        )


class RecordBody(Body):
    """A record to store; its image file follows in the next part."""

    id: _Short = Field(description="Unique: 1 to 128 characters of A-Z a-z 0-9 . _ : -, the first a letter or digit.")
    caption: str = Field(
        max_length=2 * limits.CAPTION_CHARS,
        description=f"What the image shows, 1 to {limits.CAPTION_CHARS} characters.",
    )
    labels: dict[_Short, _Short | _Values] = Field(
        default_factory=dict, max_length=_FACETS, description="Facet to a value or several."
    )
    original_labels: dict[_Short, _Long] = Field(
        default_factory=dict, max_length=_ORIGINAL_LABELS, description="The dataset's own labels."
    )
    licence: _Long = Field("", description="SPDX identifier or a plain name.")
    source: _Long = Field("", description="Where the image comes from, shown to users.")
    attribution: _Long = Field("", description="Whom the licence asks to name.")
    image_vector: Components | Packed | None = Field(None, description="Encoded from the image where absent.")
    caption_vector: Components | Packed | None = Field(None, description="Encoded from the caption where absent.")
    fingerprint: _Short = Field("", description="Of the bundle that the given vectors come from.")
    pixels: PixelsBody | None = Field(
        None, description="What the values of a 16-bit greyscale PNG mean; DICOM files say it themselves."
    )

    def to_head(self) -> record_pb2.RecordHead:
        """The message."""
        record = record_pb2.Record(
            id=self.id,
            caption=self.caption,
            labels=string_lists(values_of(self.labels)),
            original_labels=self.original_labels,
            licence=self.licence,
            source=self.source,
            attribution=self.attribution,
        )
        head = record_pb2.RecordHead(record=record, fingerprint=self.fingerprint)
        if self.image_vector is not None:
            head.image_vector.float32 = _components(self.image_vector, "image_vector")
        if self.caption_vector is not None:
            head.caption_vector.float32 = _components(self.caption_vector, "caption_vector")
        if self.pixels is not None:
            head.pixels.CopyFrom(self.pixels.to_message())
        return head


class ClassifyBody(Body):
    """An image to guess about."""

    image: Base64

    def to_request(self) -> encoder_pb2.ClassifyImageRequest:
        """The message."""
        return encoder_pb2.ClassifyImageRequest(image=self.image)


class KeyBody(Body):
    """A record to look up."""

    id: Id
    image_sha256: _Short = Field(
        "", description="Lower-case hex SHA-256 of an image file, as it would come in or as it is stored."
    )


class LookupBody(Body):
    """Records to look up."""

    keys: list[KeyBody] = Field(description="1 to 1,000 of them.", max_length=1000)
    collection: _Short = Field("", description="The active one where empty.")

    def to_keys(self) -> list[record_pb2.RecordKey]:
        """The messages."""
        return [record_pb2.RecordKey(id=key.id, image_sha256=key.image_sha256) for key in self.keys]


class CollectionBody(Body):
    """A collection to make."""

    name: _Short = Field(description="1 to 64 characters of a-z 0-9 _ -, the first a letter or digit.")
    dimension: int = Field(0, description="Length of the vectors; the encoder's where 0.", ge=0, le=2**31 - 1)
    fingerprint: _Short = Field(
        "", description="Of the bundle that its vectors will come from; the encoder's where empty."
    )


def _components(given: list[float] | str, field: str) -> bytes:
    """Returns a vector's components as little-endian float32; raises REQUEST_MALFORMED for base64 of anything else."""
    if not isinstance(given, str):
        return _float32(given)
    try:
        packed = binascii.a2b_base64(given, strict_mode=True)
    except ValueError as error:
        raise MirageError(Code.REQUEST_MALFORMED, field=field) from error
    if len(packed) % 4:
        raise MirageError(Code.REQUEST_MALFORMED, field=field)
    return packed


def _float32(given: Sequence[float]) -> bytes:
    values = array("f", given)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def int32(value: int, *, field: str, maximum: int) -> int:
    """The number, where a message can hold it; otherwise raises K_OUT_OF_RANGE as the retriever would."""
    if value not in _INT32:
        raise MirageError(Code.K_OUT_OF_RANGE, field=field, min=1, max=maximum, given=value)
    return value


def values_of(where: Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    """A filter or labels with a list for every name."""
    return {name: [given] if isinstance(given, str) else list(given) for name, given in where.items()}


def shift_terms(
    minus: str | list[str] | None, plus: str | list[str] | None, terms: Sequence[TermBody]
) -> list[query_pb2.Term]:
    """The terms of `- minus + plus + terms`."""
    shift = [query_pb2.Term(text=phrase, weight=-1.0) for phrase in _phrases(minus)]
    shift += [query_pb2.Term(text=phrase, weight=1.0) for phrase in _phrases(plus)]
    return shift + [term.to_term(f"terms.{index}") for index, term in enumerate(terms)]


def _phrases(given: str | list[str] | None) -> list[str]:
    if given is None:
        return []
    return [given] if isinstance(given, str) else given
