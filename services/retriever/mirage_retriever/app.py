"""Puts the retriever together from its settings."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

from mirage_core import telemetry
from mirage_core.cpus import available_cpus
from mirage_core.decoders import PRELOAD, DecoderPool
from mirage_core.errors import Code, MirageError
from mirage_core.image_store import ImageStore
from mirage_core.server import GrpcServer
from mirage_protos.retriever.v1 import retriever_pb2_grpc
from mirage_retriever.calibrator import keep_calibrated
from mirage_retriever.collections import Collections
from mirage_retriever.common_queries import CommonQueries, read_list
from mirage_retriever.encoder_client import EncoderClient
from mirage_retriever.engines.base import CollectionStore, Graph
from mirage_retriever.facets import NAMES
from mirage_retriever.flags import FlagStore
from mirage_retriever.images import Images
from mirage_retriever.ingest import Ingest
from mirage_retriever.migration import Migration
from mirage_retriever.ratings import Ratings
from mirage_retriever.search import Search
from mirage_retriever.servicer import NAME, RetrieverServicer
from mirage_retriever.settings import RetrieverSettings
from mirage_retriever.terms import TermEncoder
from mirage_retriever.words.synonyms import LANGUAGES, Synonyms, load_synonyms

_log = telemetry.get_logger()

T = TypeVar("T")

# The encoder is asked again this often: first until it answers, then to notice another model.
_ASK_SOON_S = 0.25
_ASK_LATER_S = 30.0
# Seconds between looks at the engine's health; the engine itself looks every half second.
_LOOK_S = 0.2
# Other retrievers may switch the collection of a server.
_ALIAS_S = 5.0


def make_store(settings: RetrieverSettings) -> CollectionStore:
    """The collections of the engine that the settings name."""
    graph = Graph(
        m=settings.hnsw_m,
        ef_construct=settings.hnsw_ef_construct,
        ef=settings.hnsw_ef,
        indexing_threshold_kb=settings.indexing_threshold_kb,
    )
    # Only the engine that runs is imported: each brings tens of megabytes.
    if settings.engine == "qdrant":
        from mirage_retriever.engines.qdrant import QdrantEngine
        from mirage_retriever.engines.qdrant_store import QdrantCollectionStore
        from mirage_retriever.qdrant_connection import open_nodes

        return QdrantCollectionStore(
            open_nodes(settings),
            default=settings.collection,
            make=lambda nodes, name: QdrantEngine(
                nodes,
                name=name,
                facets=NAMES,
                shards=settings.shards,
                replicas=settings.qdrant_replicas,
                graph=graph,
            ),
        )
    from mirage_retriever.engines.edge.engine import EdgeEngine
    from mirage_retriever.engines.edge.shard import ShardPolicy
    from mirage_retriever.engines.edge.store import EdgeCollectionStore

    policy = ShardPolicy(
        restart_wait_s=settings.searcher_wait_s,
        queue_limit=settings.search_queue,
        build_quiet_s=settings.build_quiet_s,
        build_share=settings.build_share,
        build_points=settings.build_points,
        hang_s=settings.searcher_hang_s,
    )
    # A builder is nice: on both of two processors it halves the time of a build, and searches take as long as with one.
    processors = available_cpus()
    threads = settings.build_threads or (processors if processors <= 2 else processors - 1)
    return EdgeCollectionStore(
        settings.data,
        default=settings.collection,
        make=lambda path: EdgeEngine(
            path, facets=NAMES, policy=policy, shards=settings.shards, graph=graph, build_threads=threads
        ),
    )


async def set_up(settings: RetrieverSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer, listens, cleans what an older version stored, opens the collection and turns health to SERVING once
    there is one.

    With records in the collection the retriever serves without waiting for the encoder: searches by id and vector need
    none. A first start waits for it, since the collection takes its model's fingerprint and dimension.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    decoder = DecoderPool(
        settings.decoders or available_cpus(),
        settings.decoder_memory_mb,
        settings.decoder_timeout_s,
        max(settings.decoder_budget_mb, settings.decoder_memory_mb),
        "retriever-decode",
        preload=(*PRELOAD, "mirage_core.image_cleaning"),
    )
    stack.push_async_callback(decoder.close)
    store = make_store(settings)
    collections = Collections(store, overrides=settings.match_overrides(), synonyms=_synonyms(settings))
    encoder = EncoderClient(settings.encoder, timeout_s=settings.encoder_timeout_s)
    stack.push_async_callback(encoder.close)
    images = Images(ImageStore(settings.data), decoder, places=(settings.decoders or available_cpus()) + 1)
    # A server may have other writers, which this process does not see.
    ttl_s = settings.common_queries_ttl_s if settings.engine == "qdrant" else None
    common = CommonQueries(_common_queries(settings.common_queries), ttl_s=ttl_s)
    servicer = RetrieverServicer(
        collections=collections,
        encoder=encoder,
        common=common,
        ingest=Ingest(
            encoder,
            images,
            settings.data,
            is_shown=collections.shows,
            budget_bytes=settings.upload_memory_mb * 2**20,
        ),
        images=images,
        flags=FlagStore(settings.data / "flags.jsonl"),
        ratings=Ratings(settings.data / "ratings", collections, images),
    )
    server.add(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, servicer, NAME)
    await server.start()
    stack.push_async_callback(collections.close)
    await Migration(settings.data, store, images, encoder).run()
    usable = asyncio.Event()
    watching = [asyncio.create_task(_follow_engine(collections, server, usable))]
    stack.callback(watching[0].cancel)
    is_server = settings.engine == "qdrant"
    # An empty collection may still be made again for the encoder's model.
    if (
        await _reach(collections.open, wait=is_server)
        and (await _reach(collections.active.engine.status, wait=is_server)).records
    ):
        usable.set()
    watching.append(asyncio.create_task(_follow_encoder(collections, encoder, usable)))
    watching.append(asyncio.create_task(common.fill(lambda: collections.active, lambda atlas: Search(atlas, encoder))))
    watching.append(asyncio.create_task(keep_calibrated(collections, encoder)))
    if is_server:
        watching.append(asyncio.create_task(_follow_alias(collections)))
    for task in watching[1:]:
        stack.callback(task.cancel)


async def _reach(call: Callable[[], Awaitable[T]], *, wait: bool) -> T:
    """The call's result, with `wait` as soon as a server that is away has come back."""
    while True:
        try:
            return await call()
        except MirageError as error:
            if error.code is not Code.DEPENDENCY_UNAVAILABLE or not wait:
                raise
            await asyncio.sleep(_ASK_SOON_S)


async def _follow_engine(collections: Collections, server: GrpcServer, usable: asyncio.Event) -> None:
    """Keeps the service's health: SERVING while there is a collection, and its engine answers."""
    await usable.wait()
    serving: bool | None = None
    while True:
        answers = collections.answers
        if answers is not serving:
            if serving is not None:
                (_log.info if answers else _log.error)("engine answers" if answers else "engine does not answer")
            serving = answers
            await server.set_serving(NAME, serving=serving)
        await asyncio.sleep(_LOOK_S)


def _common_queries(path: Path | None) -> tuple[str, ...] | None:
    """The operator's list of common queries; None if it is missing or cannot be read."""
    try:
        return None if path is None else read_list(path)
    except (OSError, ValueError) as error:
        _log.error("common queries not read", file=str(path), problem=getattr(error, "strerror", None) or str(error))
        return None


def _synonyms(settings: RetrieverSettings) -> Synonyms:
    """The lists of synonyms; ours alone if the operator's cannot be read, so that a typing error does not stop the service."""
    languages = settings.languages.split(",")
    try:
        return load_synonyms(languages, settings.synonyms)
    except (OSError, ValueError) as error:
        _log.error("synonyms not read", problem=getattr(error, "strerror", None) or str(error))
    return load_synonyms([language for language in languages if language in LANGUAGES])


async def _follow_alias(collections: Collections) -> None:
    """Turns to another collection where another retriever on the same server did."""
    while True:
        await asyncio.sleep(_ALIAS_S)
        try:
            await collections.follow()
        except MirageError as error:
            _log.debug("active collection not known", code=error.code)


async def _follow_encoder(collections: Collections, encoder: TermEncoder, usable: asyncio.Event) -> None:
    """Takes over the encoder's fingerprint and thresholds, now and whenever it comes back with others."""
    known, told = "", ""
    while True:
        try:
            model = await encoder.model()
        except MirageError as error:
            _log.debug("encoder not there", code=error.code)
        else:
            try:
                if model.fingerprint != known:
                    await collections.adopt(model)
                    known = model.fingerprint
                    usable.set()
            except MirageError as error:
                if error.code != told:
                    _log.error("cannot make the collection", code=error.code, problem=error.message)
                    told = error.code
            except Exception:
                _log.exception("cannot make the collection")
        await asyncio.sleep(_ASK_LATER_S if known else _ASK_SOON_S)
