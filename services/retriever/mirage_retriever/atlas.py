"""The collection as the retriever holds it: its engine, what it is bound to, and when it last changed."""

import secrets
from collections.abc import Mapping

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import Collection, Engine
from mirage_retriever.match import Thresholds, read_thresholds
from mirage_retriever.terms import EncoderModel

_log = telemetry.get_logger()


class Atlas:
    """One collection. Until `adopt` has found or made it, `collection` raises MODEL_NOT_READY."""

    def __init__(self, engine: Engine, *, name: str, overrides: Mapping[str, Thresholds] | None = None) -> None:
        self.engine = engine
        self.name = name
        self._overrides = overrides
        self._collection: Collection | None = None
        self._boot = secrets.token_hex(4)
        self._writes = 0
        self.thresholds: Mapping[str, Thresholds] = dict(overrides or {})

    @property
    def collection(self) -> Collection:
        """What the collection is bound to."""
        if self._collection is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        return self._collection

    @property
    def is_made(self) -> bool:
        """True where there is a collection, empty or not."""
        return self._collection is not None

    @property
    def revision(self) -> str:
        """Another after every write through this process and after every start."""
        return f"{self._boot}-{self._writes}"

    def changed(self) -> None:
        """To be called after every write."""
        self._writes += 1

    async def open(self) -> bool:
        """Opens what the engine has; False where there is no collection yet."""
        self._collection = await self.engine.open()
        return self._collection is not None

    async def adopt(self, model: EncoderModel) -> None:
        """Binds the atlas to the encoder's model: makes the collection where there is none, or where it is empty.

        A collection with records keeps its own; queries that need the encoder are then refused one by one, those by id
        and vector go on.
        """
        stored = self._collection
        if stored is not None and stored.fingerprint != model.fingerprint:
            records = (await self.engine.status()).records
            if records:
                _log.error(
                    "the encoder runs another model than the collection was made with",
                    expected=stored.fingerprint,
                    given=model.fingerprint,
                    records=records,
                )
                self.thresholds = dict(self._overrides or {})
                return
        if stored is None or stored.fingerprint != model.fingerprint:
            await self.make(Collection(name=self.name, dimension=model.dimension, fingerprint=model.fingerprint))
            _log.info("collection made", name=self.name, dimension=model.dimension, fingerprint=model.fingerprint)
        self.learn(model)

    async def make(self, collection: Collection) -> None:
        """Makes the collection, in place of an empty one if need be."""
        self._collection = None
        await self.engine.create(collection)
        self._collection = collection
        self.changed()

    def learn(self, model: EncoderModel) -> None:
        """Takes over the match thresholds of a model, where the collection was made with it."""
        if self._collection is not None and self._collection.fingerprint == model.fingerprint:
            self.thresholds = read_thresholds(model.manifest_json, overrides=self._overrides)
