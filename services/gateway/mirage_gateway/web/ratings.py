"""Rating sheets: made and read by an administrator, rated by the holders of tokens."""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from mirage_api.ratings import (
    DeleteSheetReply,
    Item,
    ItemRequest,
    NewSheet,
    Rating,
    Sheet,
    SheetRequest,
    SheetsReply,
    StoreAnswerReply,
    StoreAnswerRequest,
)
from mirage_core.errors import Code
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.convert import to_message, to_model
from mirage_gateway.web.body import PASSED_BYTES, Intake
from mirage_gateway.web.images import image_response
from mirage_gateway.web.json_bounds import FILE
from mirage_gateway.web.operations import operation
from mirage_gateway.web.search import IMAGE_ERRORS
from mirage_protos.retriever.v1 import retriever_pb2

SheetId = Annotated[str, Field(description="The id of a rating sheet.")]
RaterToken = Annotated[str, Field(description="A rater's token.")]
ItemNumber = Annotated[str, Field(description="The question's number, from 1.")]


class RatingRoutes:
    """Rating sheets, and what raters see and send."""

    def __init__(self, composer: Composer, intake: Intake) -> None:
        self._composer = composer
        self._intake = intake

    @operation(
        "POST",
        "/v1/ratings",
        Action.MANAGE_RATINGS,
        status=201,
        errors=(Code.COLLECTION_NOT_FOUND, Code.TOO_MANY_ITEMS, Code.STORAGE_FULL),
    )
    async def create(self, body: SheetRequest) -> NewSheet:
        """Make an empty rating sheet with a token for each rater."""
        asked = to_message(retriever_pb2.CreateRatingSheetRequest, body)
        return to_model(NewSheet, await self._composer.forward(asked))

    @operation("GET", "/v1/ratings", Action.MANAGE_RATINGS)
    async def sheets(self) -> SheetsReply:
        """List the rating sheets, newest first."""
        return to_model(SheetsReply, await self._composer.forward(retriever_pb2.ListRatingSheetsRequest()))

    @operation("GET", "/v1/ratings/{id}", Action.MANAGE_RATINGS, errors=(Code.RATING_NOT_FOUND,))
    async def sheet(self, id: SheetId) -> Sheet:
        """Read a rating sheet with its items and all answers."""
        found = await self._composer.forward(retriever_pb2.GetRatingSheetRequest(id=id))
        return to_model(Sheet, found.sheet)

    @operation("DELETE", "/v1/ratings/{id}", Action.MANAGE_RATINGS, errors=(Code.RATING_NOT_FOUND,))
    async def delete(self, id: SheetId) -> DeleteSheetReply:
        """Remove a rating sheet with all answers."""
        asked = retriever_pb2.DeleteRatingSheetRequest(id=id)
        return to_model(DeleteSheetReply, await self._composer.forward(asked))

    @operation(
        "POST",
        "/v1/ratings/{id}/items",
        Action.MANAGE_RATINGS,
        status=201,
        bounds=FILE,
        errors=(
            *IMAGE_ERRORS,
            Code.RATING_NOT_FOUND,
            Code.ID_INVALID,
            Code.RECORD_NOT_FOUND,
            Code.SYNTHETIC_REFUSED,
            Code.TOO_MANY_ITEMS,
            Code.STORAGE_FULL,
        ),
    )
    async def add(self, id: SheetId, body: ItemRequest) -> Item:
        """Add an item to a rating sheet: a record, an image of its own, or a description."""
        asked = to_message(retriever_pb2.AddRatingItemRequest, body)
        asked.id = id
        return to_model(Item, (await self._composer.forward(asked)).item)

    @operation("GET", "/v1/rate/{token}", Action.RATE, errors=(Code.RATING_NOT_FOUND,))
    async def rating(self, token: RaterToken) -> Rating:
        """Read a rater's questions and answers. The token takes the place of a key."""
        asked = retriever_pb2.GetRatingRequest(token=token)
        return to_model(Rating, await self._composer.forward(asked))

    @operation(
        "POST",
        "/v1/rate/{token}",
        Action.RATE,
        errors=(Code.RATING_NOT_FOUND, Code.RATING_ITEM_NOT_FOUND, Code.RATING_CHANGED, Code.STORAGE_FULL),
    )
    async def answer(self, token: RaterToken, body: StoreAnswerRequest) -> StoreAnswerReply:
        """Store a rater's answer, in place of the one before to the same question."""
        asked = to_message(retriever_pb2.StoreRatingAnswerRequest, body)
        asked.token = token
        return to_model(StoreAnswerReply, await self._composer.forward(asked))

    @operation(
        "GET",
        "/v1/rate/{token}/images/{n}",
        Action.RATE,
        media_types=("image/png", "image/jpeg", "image/webp"),
        errors=(Code.RATING_NOT_FOUND, Code.RATING_ITEM_NOT_FOUND),
    )
    async def image(self, request: Request, token: RaterToken, n: ItemNumber) -> Response:
        """Read the image of a rater's question, which says nothing of where it came from."""
        number = int(n) if n.isascii() and n.isdigit() and len(n) < 5 else 0
        share = await self._intake.reserve(request.scope, PASSED_BYTES)
        image = await self._composer.rating_image(token, number)
        share.become(min(share.amount, 4 * image.length))
        return image_response(request, image, {"cache-control": "private, max-age=600"})
