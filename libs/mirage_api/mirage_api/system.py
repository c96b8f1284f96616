"""The server itself: collections, models, access, health, and the document of an error."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mirage_api.base import Omitted, Reply, Request, Short

Health = Literal["serving", "not serving", "unreachable"]


class Problem(Reply):
    """An error (RFC 9457): `code` is one of docs/errors.md, metadata names the field and limit concerned."""

    type: str = ""
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str
    metadata: dict[str, str] = {}
    request_id: str = ""
    retry_after_s: Annotated[float | None, Omitted()] = None
    dependencies: Annotated[dict[str, Health] | None, Omitted()] = None


class Recall(Reply):
    """Shares of right answers with the 95 % interval of at_10, and those of a random order."""

    queries: int
    at_1: float = 0.0
    at_10: float = 0.0
    low: float = 0.0
    high: float = 0.0
    chance_1: float = 0.0
    chance_10: float = 0.0


class KindCalibration(Reply):
    """The calibration of likeness for one kind of query: least cosines of a good and of a weak match."""

    trusted: bool
    good: float | None = None
    weak: float | None = None
    auroc: float | None = None
    recall: Recall | None = None


class Calibration(Reply):
    """Measured on the collection's own records: by kind of query (text, image, arithmetic, caption)."""

    records: int
    kinds: dict[str, KindCalibration] = {}


class Building(Reply):
    """Progress of the demonstration atlas; the texts are sentences without a stop, empty if there is nothing to say."""

    done: int = 0
    total: int = 0
    finished: bool = Field(False, description="True once all that could be had is stored.")
    fetching: str = Field("", description="What is being downloaded.")
    missing: str = Field("", description="What could not be had, and why.")
    problem: str = ""


class Collection(Reply):
    """The collection in use; revision changes at every write, calibration is null before it was measured."""

    name: str
    engine: str = ""
    records: int = 0
    indexed: int = 0
    dimension: int = 0
    fingerprint: str = ""
    revision: str = ""
    calibration: Calibration | None = None
    building: Annotated[
        Building | None,
        Omitted(),
        Field(description="The demonstration atlas that is being built, or that is incomplete."),
    ] = None


class CollectionInfo(Reply):
    """One collection; searches run on the active one."""

    name: str
    active: bool = False
    records: int = 0
    indexed: int = 0
    dimension: int = 0
    fingerprint: str = ""


class CollectionRequest(Request):
    """A collection to make."""

    name: Short = Field(description="1 to 64 characters of a-z 0-9 _ -, the first a letter or digit.")
    dimension: int = Field(0, description="Length of the vectors; the encoder's if 0.", ge=0, le=2**31 - 1)
    fingerprint: Short = Field("", description="Of the bundle that its vectors will come from; the encoder's if empty.")


class CollectionsReply(Reply):
    """The collections, by name."""

    collections: tuple[CollectionInfo, ...]


class ActivateReply(Reply):
    """The collection that is searched now, and the name of the one before."""

    collection: CollectionInfo
    previous: str


class DeleteCollectionReply(Reply):
    """The number of records that were in the deleted collection."""

    records: int


class CommonQueriesReply(Reply):
    """Queries to offer, which are answered from a cache: the operator's, or those that are typical of the collection."""

    queries: tuple[str, ...]


class Model(Reply):
    """A model in use; manifest is its bundle's, whole. `task` is "encode", "describe", "generate" or "read"."""

    name: str
    task: str = ""
    fingerprint: str = ""
    source: str = ""
    licence: str = ""
    dimension: int = 0
    context_length: int = 0
    image_size: int = 0
    engine: str = ""
    precision: str = ""
    manifest: dict[str, Any] = {}


class ModelsReply(Reply):
    """The models, one for each task."""

    models: tuple[Model, ...]


class AliveReply(Reply):
    """The process answers."""

    status: Literal["ok"]


class ReadyReply(Reply):
    """Everything that searches need serves; the language model, which writes descriptions, and the generator may not."""

    status: Literal["ready"]
    dependencies: dict[str, Health]


class AccessReply(Reply):
    """The caller's permissions. `role` is its key's; `admin` on this machine if there are no keys; `public` without a key."""

    role: Literal["public", "read", "write", "admin"]
    may: tuple[str, ...]
