"""Options of a description. Its events are models of `mirage_api.descriptions`."""

from dataclasses import dataclass
from typing import Any

from mirage.queries import given_fields


@dataclass(frozen=True)
class DescribeOptions:
    """Options of a description.

    None and () are the server's defaults. The server checks every limit (`DescribeRequest` at /docs).
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the fields of the body that are set."""
        return given_fields(self)
