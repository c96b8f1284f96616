"""The base classes and types of the models."""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from mirage_api import limits


@dataclass(frozen=True)
class Omitted:
    """Marks a field of a reply that is left out if it is empty."""


@dataclass(frozen=True)
class Digits:
    """Marks a number that is rounded to `count` digits after the point."""

    count: int


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    schema.pop("additionalProperties", None)
    if "required" in schema:
        omitted = {name for name, field in model.model_fields.items() if Omitted() in field.metadata}
        schema["required"] = [name for name in schema["required"] if name not in omitted]


class Reply(BaseModel):
    """A JSON object from the gateway. Fields of a newer server that the model does not know are kept."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        protected_namespaces=(),
        json_schema_serialization_defaults_required=True,
        json_schema_extra=_describe,
    )

    @property
    def raw(self) -> dict[str, Any]:
        """The object as plain JSON values, without the fields that the server left out."""
        return self.model_dump(mode="json", exclude_unset=True)


class Request(BaseModel):
    """A JSON object to the gateway, whose unknown fields are refused. The gateway validates strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _decoded(value: object, info: ValidationInfo) -> object:
    """Returns the file in a base64 string, or the one of the context's `files` that the string names."""
    if not isinstance(value, str):
        return value
    if len(value) > limits.IMAGE_BYTES * 4 / 3 + 4:
        raise PydanticCustomError("image_too_large", "too large")
    files: Mapping[str, bytes | None] = (info.context or {}).get("files", {})
    content = files[value] if value in files else _from_base64(value)
    if content is None:
        raise PydanticCustomError("base64", "not base64")
    return content


def _checked(text: str) -> str:
    if _from_base64(text) is None:
        raise PydanticCustomError("base64", "not base64")
    return text


def _from_base64(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:
        return None


# A float32 without the digits that a double shows beyond its seven: they are noise.
Score = Annotated[float, Digits(6)]
Milliseconds = Annotated[float, Digits(3)]
Token = Annotated[str, Omitted(), Field(description="Gives the next ones; left out at the end.")]
# Bounds of the form, at which no meaning is lost: the limits of the service behind are lower, and its errors say more.
Short = Annotated[str, Field(max_length=1_000)]
Long = Annotated[str, Field(max_length=limits.CAPTION_CHARS)]
Text = Annotated[
    str, Field(max_length=limits.TEXT_CHARS, description=f"A phrase, at most {limits.TEXT_CHARS} characters.")
]
Id = Annotated[Short, Field(description="The id of a record.")]
CollectionName = Annotated[Short, Field(description="The name of a collection; the active one if empty.")]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Labels = dict[str, tuple[str, ...]]
Values = Annotated[tuple[Short, ...], Field(max_length=limits.FACET_VALUES_MAX)]
Where = Annotated[
    dict[Short, Short | Values],
    Field(
        max_length=limits.FACETS_MAX,
        description="Facet to a value or several: a record must carry one of the values of every facet named.",
    ),
]
Base64File = Annotated[
    bytes,
    BeforeValidator(_decoded, json_schema_input_type=str),
    Field(
        description=f"A PNG, JPEG, WebP or DICOM file in base64, at most {limits.IMAGE_BYTES} bytes decoded.",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]
Components = Annotated[
    tuple[float, ...], Field(max_length=limits.VECTOR_COMPONENTS, description="Of the collection's dimension.")
]
Base64 = Annotated[str, AfterValidator(_checked), Field(json_schema_extra={"contentEncoding": "base64"})]
Packed = Annotated[
    str,
    Field(
        max_length=limits.VECTOR_COMPONENTS * 6,
        description="The same as little-endian float32 in base64.",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]
Phrase = Annotated[str, Field(max_length=limits.TEXT_CHARS)]
Phrases = Annotated[
    Phrase | Annotated[tuple[Phrase, ...], Field(max_length=limits.TERMS_MAX)],
    Field(description="One phrase or several."),
]
