"""Puts the reader together from its settings."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol

from mirage_core.cpus import available_cpus
from mirage_core.decoders import PRELOAD, DecoderPool
from mirage_core.server import GrpcServer
from mirage_inference.llm.domain import DomainCheck
from mirage_protos.reader.v1.reader_pb2_grpc import add_ReaderServiceServicer_to_server
from mirage_reader.clients import GrpcAtlas, LlmSummary
from mirage_reader.context import ContextSource
from mirage_reader.decoding import small_jpeg
from mirage_reader.engines.base import ReadingEngine, Summariser
from mirage_reader.engines.openai import OpenAiOptions, OpenAiReading, OpenAiSummary
from mirage_reader.engines.openvino_genai import OpenVinoOptions, OpenVinoReading
from mirage_reader.providers import WebProvider
from mirage_reader.reader import Reader
from mirage_reader.servicer import ReaderServicer
from mirage_reader.settings import LLM, ReaderSettings

SERVICE = "mirage.reader.v1.ReaderService"
# Of one image, and of all that are decoded at once.
_DECODER_MB = 608
_DECODER_S = 10.0
# Of an image of a note, in pixels.
_NOTE_SIDE = 320


class _Small(Protocol):
    """Makes a small JPEG of at most `side` pixels of an image file; raises MirageError."""

    async def __call__(self, image: bytes, side: int) -> bytes: ...


async def set_up(settings: ReaderSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer, loads the model of the reader's own, listens and turns health to SERVING.

    A model's server is not waited for: rules read without it. Raises BUNDLE_INVALID for a folder that cannot be read with.
    """
    atlas = GrpcAtlas(
        encoder=settings.encoder,
        retriever=settings.retriever,
        timeout_s=settings.call_timeout_s,
        calls=settings.calls or max(1, available_cpus() // 2),
    )
    stack.push_async_callback(atlas.close)
    small = await _small(stack) if settings.engine != "composed" or settings.context else None
    context = ContextSource(
        [
            WebProvider(
                name,
                url,
                key=settings.context_keys.get(name, ""),
                timeout_s=settings.context_timeout_s,
                thumbnail=partial(small, side=_NOTE_SIDE) if small else None,
                image_origins=settings.context_images,
            )
            for name, url in settings.context.items()
        ],
        timeout_s=settings.context_timeout_s,
    )
    stack.push_async_callback(context.close)
    reader = Reader(
        atlas,
        context,
        medical=DomainCheck.load().lets_pass,
        engine=await _engine(settings, small, stack) if small else None,
        summariser=_summariser(settings, stack),
        neighbours=settings.neighbours,
    )
    server.add(add_ReaderServiceServicer_to_server, ReaderServicer(reader), SERVICE)
    await server.start()
    await server.set_serving(SERVICE, serving=True)


async def _small(stack: AsyncExitStack) -> _Small:
    """Starts a decoding child that makes small JPEG files."""
    pool = DecoderPool(
        1, _DECODER_MB, _DECODER_S, _DECODER_MB, "reader-decode", preload=(*PRELOAD, "mirage_reader.decoding")
    )
    stack.push_async_callback(pool.close)
    await pool.warm_up()

    async def small(image: bytes, side: int) -> bytes:
        return (await pool.run(small_jpeg, image, side)).value

    return small


async def _engine(settings: ReaderSettings, small: _Small, stack: AsyncExitStack) -> ReadingEngine | None:
    engine: ReadingEngine
    copy = partial(small, side=settings.side)
    if settings.engine == "openai":
        engine = OpenAiReading(_options(settings, settings.url, settings.model, settings.key), copy)
    elif settings.engine == "openvino-genai" and settings.folder:
        engine = await OpenVinoReading.load(
            OpenVinoOptions(
                settings.folder,
                name=settings.model,
                kinds=settings.kinds,
                source=settings.model_source,
                licence=settings.model_licence,
                total_s=settings.total_s,
                max_tokens=settings.max_tokens,
                queue=settings.queue,
                threads=settings.threads or max(1, available_cpus() // 2),
            ),
            copy,
        )
    else:
        return None
    stack.push_async_callback(engine.close)
    return engine


def _summariser(settings: ReaderSettings, stack: AsyncExitStack) -> Summariser | None:
    summariser: Summariser
    if not settings.summariser or (settings.summariser == LLM and not settings.llm):
        return None
    if settings.summariser == LLM:
        summariser = LlmSummary(settings.llm, timeout_s=settings.total_s)
    else:
        options = _options(settings, settings.summariser, settings.summariser_model, settings.summariser_key)
        summariser = OpenAiSummary(options)
    stack.push_async_callback(summariser.close)
    return summariser


def _options(settings: ReaderSettings, url: str, model: str, key: str) -> OpenAiOptions:
    return OpenAiOptions(
        url=url,
        model=model,
        key=key,
        kinds=settings.kinds,
        source=settings.model_source,
        licence=settings.model_licence,
        total_s=settings.total_s,
        silence_s=settings.silence_s,
        max_tokens=settings.max_tokens,
        slots=settings.slots,
        queue=settings.queue,
    )
