"""The collection as the retriever holds it: its engine, what it is bound to, and when it last changed."""

import secrets
from collections.abc import Mapping

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_retriever.calibration import CALIBRATION, Calibration
from mirage_retriever.engines.base import SCHEMA, Collection, Engine
from mirage_retriever.match import Match, Thresholds, judge
from mirage_retriever.terms import EncoderModel
from mirage_retriever.words.lexicon import Lexicon
from mirage_retriever.words.synonyms import Synonyms, load_synonyms

_log = telemetry.get_logger()


class Atlas:
    """One collection. Until `adopt` has found or made it, `collection` raises MODEL_NOT_READY."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        overrides: Mapping[str, Thresholds] | None = None,
        synonyms: Synonyms | None = None,
    ) -> None:
        self.engine = engine
        self.lexicon = Lexicon(engine, synonyms or load_synonyms())
        self.name = name
        self._overrides = dict(overrides or {})
        self._calibration: Calibration | None = None
        self._settled: str | None = None
        self._collection: Collection | None = None
        self._boot = secrets.token_hex(4)
        self._writes = 0

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
    def has_words(self) -> bool:
        """False for a collection of an older version on a server that cannot add words to it."""
        return self._collection is not None and self._collection.schema >= SCHEMA

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the bundle that made its vectors."""
        return self.collection.fingerprint

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of likeness; None before it was measured."""
        return self._calibration

    def calibrated(self, calibration: Calibration) -> None:
        """Takes over what was measured."""
        self._calibration = calibration
        # Lists and judgements are others from now on.
        self.changed()
        self.settle()

    def settle(self) -> None:
        """Notes that nothing is to be measured before the next write."""
        self._settled = self.revision

    @property
    def awaits_calibration(self) -> bool:
        """True if likeness was not measured yet, or not since there were too few records to measure it."""
        known = self._calibration
        return known is None or (not known.kinds and self._settled != self.revision)

    def judge(self, kind: str, best: float | None) -> Match:
        """The match of a best cosine by likeness; NOT_JUDGED before calibration. Thresholds of the settings take precedence."""
        if kind in self._overrides:
            return judge(best, self._overrides[kind])
        measured = None if self._calibration is None else self._calibration.kinds.get(kind)
        match = judge(best, None if measured is None else measured.thresholds)
        if match is Match.GOOD and measured is not None and not measured.trusted:
            return Match.WEAK
        return match

    def is_trusted(self, kind: str) -> bool:
        """True if likeness was measured to say something for this kind of query (match.KINDS)."""
        measured = None if self._calibration is None else self._calibration.kinds.get(kind)
        return kind in self._overrides or (measured is not None and measured.trusted)

    @property
    def revision(self) -> str:
        """Another after every write through this process and after every start."""
        return f"{self._boot}-{self._writes}"

    def changed(self) -> None:
        """To be called after every write."""
        self._writes += 1

    async def open(self) -> bool:
        """Opens the engine's collection; returns False before it is made."""
        self._collection = await self.engine.open()
        if self._collection is not None:
            self._calibration = Calibration.from_json(await self.engine.kept(CALIBRATION))
        return self._collection is not None

    async def adopt(self, model: EncoderModel) -> None:
        """Binds the atlas to the encoder's model: makes the collection if it is missing.

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
                return
            _log.warning("empty collection of another model is replaced", name=self.name, was=stored.fingerprint)
            await self.engine.drop()
            self._collection = None
            await self._make_or_find(model)

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
        self._calibration = Calibration.from_json(await self.engine.kept(CALIBRATION))
        self.changed()
