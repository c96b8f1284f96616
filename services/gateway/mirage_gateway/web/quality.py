"""Quality: what was measured on a collection."""

from mirage_api.quality import Evaluation, QualityReply, StoreRequest
from mirage_core.errors import Code
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.convert import to_message, to_model
from mirage_gateway.web.operations import CollectionName, operation
from mirage_protos.retriever.v1 import retriever_pb2


class QualityRoutes:
    """Evaluations, stored and listed."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    @operation("GET", "/v1/quality", Action.READ_QUALITY, errors=(Code.COLLECTION_NOT_FOUND,))
    async def quality(self, collection: CollectionName = "") -> QualityReply:
        """List what was measured on a collection: figures next to chance, and hard cases."""
        asked = retriever_pb2.ListEvaluationsRequest(collection=collection)
        return to_model(QualityReply, await self._composer.forward(asked))

    @operation(
        "POST",
        "/v1/quality",
        Action.STORE_QUALITY,
        errors=(Code.COLLECTION_NOT_FOUND, Code.FINGERPRINT_MISMATCH, Code.TOO_MANY_ITEMS, Code.STORAGE_FULL),
    )
    async def store(self, body: StoreRequest) -> Evaluation:
        """Keep an evaluation with its collection, in place of the one before of its subject."""
        asked = to_message(retriever_pb2.StoreEvaluationRequest, body)
        return to_model(Evaluation, (await self._composer.forward(asked)).evaluation)
