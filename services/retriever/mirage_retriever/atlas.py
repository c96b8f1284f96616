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
        """The fingerprint and dimension that the collection is bound to."""
        if self._collection is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        return self._collection

    @property
    def is_made(self) -> bool:
        """True if there is a collection, empty or not."""
        return self._collection is not None

    @property
    def revision(self) -> str:
        """Another after every write through this process and after every start."""
        return f"{self._boot}-{self._writes}"

    def changed(self) -> None:
        """To be called after every write."""
        self._writes += 1

    async def open(self) -> bool:
        """Opens the engine's collection; returns False if there is none yet."""
        self._collection = await self.engine.open()
        return self._collection is not None

    async def adopt(self, model: EncoderModel) -> None:
        """Binds the atlas to the encoder's model: makes the collection if there is none.

        One of another model is replaced if it is empty and belongs to this process alone. Any other collection keeps
        its own model: queries that need the encoder are refused then, and queries by id and vector still work.
        """
        if self._collection is None:
            await self._make_or_find(model)
        stored = self.collection
        if stored.fingerprint != model.fingerprint:
            records = (await self.engine.status()).records
            if records or not self.engine.exclusive:
                _log.error(
                    "the encoder runs another model than the collection was made with",
                    expected=stored.fingerprint,
                    given=model.fingerprint,
                    records=records,
                )
                self.thresholds = dict(self._overrides or {})
                return
            _log.warning("empty collection of another model is replaced", name=self.name, was=stored.fingerprint)
            await self.engine.drop()
            self._collection = None
            await self._make_or_find(model)
        self.learn(model)

    async def _make_or_find(self, model: EncoderModel) -> None:
        """Makes the collection, or takes the one that another process has made since this one looked."""
        wanted = Collection(name=self.name, dimension=model.dimension, fingerprint=model.fingerprint)
        try:
            await self.make(wanted)
        except MirageError as error:
            if error.code is not Code.COLLECTION_EXISTS or not await self.open():
                raise
        else:
            _log.info("collection made", name=self.name, dimension=model.dimension, fingerprint=model.fingerprint)

    async def make(self, collection: Collection) -> None:
        """Makes the collection; raises COLLECTION_EXISTS if there is one that is bound to something else."""
        await self.engine.create(collection)
        self._collection = collection
        self.changed()

    def learn(self, model: EncoderModel) -> None:
        """Takes over the match thresholds of a model if the collection was made with it."""
        if self._collection is not None and self._collection.fingerprint == model.fingerprint:
            self.thresholds = read_thresholds(model.manifest_json, overrides=self._overrides)
