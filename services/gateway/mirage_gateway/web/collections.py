"""Collections as JSON. The types are the schemas of /openapi.json."""

from typing_extensions import TypedDict

from mirage_protos.v1 import collection_pb2


class CollectionDocument(TypedDict):
    """The collection; revision changes at every write."""

    name: str
    engine: str
    records: int
    indexed: int
    dimension: int
    fingerprint: str
    revision: str


class CollectionInfoDocument(TypedDict):
    """One collection; searches run on the active one."""

    name: str
    active: bool
    records: int
    indexed: int
    dimension: int
    fingerprint: str


class CollectionsDocument(TypedDict):
    """The collections, by name."""

    collections: list[CollectionInfoDocument]


class ActivatedDocument(TypedDict):
    """The collection that is searched now, and the name of the one before."""

    collection: CollectionInfoDocument
    previous: str


class RemovedCollectionDocument(TypedDict):
    """How many records were in the collection that is gone."""

    records: int


class CommonQueriesDocument(TypedDict):
    """The operator's list of queries that are answered from a cache."""

    queries: list[str]


def collection_document(found: collection_pb2.Collection) -> CollectionDocument:
    """The collection."""
    return {
        "name": found.name,
        "engine": found.engine,
        "records": found.records,
        "indexed": found.indexed,
        "dimension": found.dimension,
        "fingerprint": found.fingerprint,
        "revision": found.revision,
    }


def collection_info_document(found: collection_pb2.Collection) -> CollectionInfoDocument:
    """One collection."""
    return {
        "name": found.name,
        "active": found.active,
        "records": found.records,
        "indexed": found.indexed,
        "dimension": found.dimension,
        "fingerprint": found.fingerprint,
    }
