"""Puts the llm service together from its settings."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from pydantic_settings import SettingsError

from mirage_core.cpus import available_cpus
from mirage_core.server import GrpcServer
from mirage_inference.llm.domain import DomainCheck
from mirage_inference.llm.glossary import load
from mirage_inference.llm.model import load_model
from mirage_inference.loading import timed_load
from mirage_llm.describer import Describer, DescriberOptions
from mirage_llm.openai_writer import OpenAiOptions, OpenAiWriter
from mirage_llm.servicer import LlmServicer
from mirage_llm.settings import LlmSettings
from mirage_llm.writers import BundleWriter, Writer
from mirage_protos.llm.v1.llm_pb2_grpc import add_LlmServiceServicer_to_server

SERVICE = "mirage.llm.v1.LlmService"


async def set_up(settings: LlmSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer, listens, loads the bundle, if one writes, and turns health to SERVING."""
    options = DescriberOptions(settings.first_token_s, settings.total_s)
    try:
        glossary = load(settings.facts)
    except (OSError, ValueError) as error:
        raise SettingsError(f"MIRAGE_LLM_FACTS: {error}") from error
    describer = Describer(
        options,
        medical=DomainCheck.load().lets_pass if settings.decline_other_topics else lambda _, __: True,
        glossary=glossary,
    )
    server.add(add_LlmServiceServicer_to_server, LlmServicer(describer), SERVICE)
    await server.start()
    writer: Writer
    if settings.bundle and settings.engine == "onnxruntime":
        writer = await _load(settings, settings.bundle, glossary.words, stack)
    else:
        writer = OpenAiWriter(
            OpenAiOptions(
                url=settings.openai_url,
                model=settings.openai_model,
                key=settings.openai_key,
                caption_chars=settings.openai_caption_chars,
                patience_s=settings.first_token_s,
                slots=settings.slots,
                queue=settings.queue,
            )
        )
    stack.push_async_callback(writer.close)
    describer.use(writer)
    await server.set_serving(SERVICE, serving=True)


async def _load(settings: LlmSettings, bundle: Path, words: frozenset[str], stack: AsyncExitStack) -> BundleWriter:
    threads = max(1, (settings.threads or available_cpus()) // settings.slots)
    with timed_load("describe"):
        model = await asyncio.to_thread(
            load_model,
            bundle,
            variant=settings.variant,
            threads=threads,
            words=words,
            prompt_graph=settings.prompt_graph,
        )
        stack.callback(model.close)
        await asyncio.to_thread(model.warm_up)
    return BundleWriter(model, slots=settings.slots, queue=settings.queue)
