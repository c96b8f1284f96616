"""Puts the llm service together from its settings."""

import asyncio
from contextlib import AsyncExitStack

from mirage_core.cpus import available_cpus
from mirage_core.server import GrpcServer
from mirage_inference.llm.domain import DomainCheck
from mirage_inference.llm.model import load_model
from mirage_inference.loading import timed_load
from mirage_llm.describer import Describer, DescriberOptions
from mirage_llm.servicer import LlmServicer
from mirage_llm.settings import LlmSettings
from mirage_llm.similarity import EncoderClient, EncoderSimilarity
from mirage_protos.llm.v1.llm_pb2_grpc import add_LlmServiceServicer_to_server

SERVICE = "mirage.llm.v1.LlmService"


async def set_up(settings: LlmSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer, listens, loads the bundle and turns health to SERVING after a first description."""
    options = DescriberOptions(settings.slots, settings.queue, settings.first_token_s, settings.total_s)
    encoder = EncoderClient(settings.encoder, timeout_s=settings.encoder_timeout_s) if settings.encoder else None
    if encoder is not None:
        stack.push_async_callback(encoder.close)
    describer = Describer(
        options,
        medical=DomainCheck.load().lets_pass if settings.decline_other_topics else lambda _, __: True,
        similarity=(lambda captions: EncoderSimilarity(encoder, captions)) if encoder else None,
    )
    server.add(add_LlmServiceServicer_to_server, LlmServicer(describer), SERVICE)
    await server.start()
    threads = max(1, (settings.threads or available_cpus()) // settings.slots)
    with timed_load("describe"):
        model = await asyncio.to_thread(load_model, settings.bundle, variant=settings.variant, threads=threads)
        stack.callback(model.close)
        stack.push_async_callback(describer.close)
        await asyncio.to_thread(model.warm_up)
    describer.use(model)
    await server.set_serving(SERVICE, serving=True)
