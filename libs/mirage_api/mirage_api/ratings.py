"""Ratings: sheets of items that experts rate without knowing where each item came from."""

from typing import Annotated, Literal

from pydantic import Field

from mirage_api import limits
from mirage_api.base import Base64File, CollectionName, Omitted, Reply, Request, Short

Kind = Literal["result", "image", "description"]
Verdict = Literal["correct", "mislabelled", "misleading"]
Origin = Literal["real", "generated"]
SHEETS_MAX = 50
ITEMS_MAX = 300
RATERS_MAX = 10
RELEVANCE_MAX = 3
# Of an image that belongs to a sheet, once it is cleaned.
IMAGE_BYTES = 4 * 2**20
TEXT_CHARS = 4_000


class SheetRequest(Request):
    """A new sheet, to which items are added."""

    raters: int = Field(1, ge=1, le=RATERS_MAX, description="One link is made for each.")
    collection: CollectionName = ""


class ItemUpload(Request):
    """An item: a result (with a record or an image), an image alone, or a description."""

    kind: Kind
    query: Short = Field(description="Shown.")
    text: str = Field("", max_length=TEXT_CHARS, description="The caption or description, shown; a record has its own.")
    record_id: Short = Field("", description="The record whose image is shown.")
    system: Short = Field(description="The system that gave it; never shown.")
    rank: int = Field(0, ge=0, le=limits.K_MAX, description="Its place there, from 1; never shown.")
    origin: Origin | None = Field(None, description="The true origin of an image; never shown.")


class ItemRequest(Request):
    """An item to add, with an image of its own if it shows no record."""

    item: ItemUpload
    image: Base64File | None = None


class Item(Reply):
    """An item with what its raters do not see. `gone`: its record was deleted since."""

    number: int
    kind: Kind
    query: str
    text: Annotated[str, Omitted()] = ""
    record_id: Annotated[str, Omitted()] = ""
    system: str
    rank: int = 0
    origin: Origin | None = None
    gone: bool = False


class AnswerRequest(Request):
    """An answer; without relevance, verdict and origin it says "cannot tell"."""

    number: int = Field(ge=1, le=ITEMS_MAX)
    relevance: int | None = Field(None, ge=0, le=RELEVANCE_MAX, description="0 (not relevant) to 3 (very relevant).")
    verdict: Verdict | None = Field(None, description="For a result or a description.")
    origin: Origin | None = Field(None, description="For an image.")


class StoreAnswerRequest(Request):
    """An answer to store, in place of the one before to the same question."""

    answer: AnswerRequest
    version: int = Field(ge=0, le=2**31 - 1, description="As it was read last: an answer after others is refused.")


class Answer(Reply):
    """A stored answer. Raters are numbers, from 1."""

    number: int
    rater: int
    relevance: int | None = None
    verdict: Verdict | None = None
    origin: Origin | None = None


class SheetInfo(Reply):
    """A sheet without its items."""

    id: str
    collection: str
    create_time: str
    raters: int
    size: int
    answered: int


class Sheet(SheetInfo):
    """A sheet with its items and answers."""

    items: tuple[Item, ...] = ()
    answers: tuple[Answer, ...] = ()


class NewSheet(Reply):
    """A new sheet. `tokens`: one for each rater, for the address /rate/TOKEN; they cannot be read again."""

    sheet: SheetInfo
    tokens: tuple[str, ...]


class SheetsReply(Reply):
    """All sheets, newest first."""

    sheets: tuple[SheetInfo, ...]


class DeleteSheetReply(Reply):
    """The number of answers that were on the sheet."""

    answers: int


class Question(Reply):
    """An item as its raters see it. `gone`: its record was deleted since, so it needs no answer."""

    number: int
    kind: Kind
    query: str
    text: str = ""
    has_image: bool = False
    gone: bool = False


class Rating(Reply):
    """A rater's questions and answers. `version` is raised by each answer."""

    questions: tuple[Question, ...]
    answers: tuple[Answer, ...]
    version: int


class StoreAnswerReply(Reply):
    """The version from now on."""

    version: int
