"""Puts the encoder together from its settings."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import fields

from mirage_core.cpus import available_cpus
from mirage_core.message_budget import MessageBudget
from mirage_core.server import GrpcServer
from mirage_encoder.embedder import Embedder, EmbedderOptions
from mirage_encoder.servicer import BUDGETED, IMAGE_MESSAGE_BYTES, EncoderServicer
from mirage_encoder.settings import EncoderSettings
from mirage_inference.encoder.model import load_model
from mirage_inference.engines.base import EngineOptions
from mirage_inference.loading import timed_load
from mirage_protos.encoder.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server

SERVICE = "mirage.encoder.v1.EncoderService"


async def set_up(settings: EncoderSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer, listens, loads the bundle and turns health to SERVING after a warm-up inference."""
    budget = MessageBudget(settings.image_budget_mb * 2**20, queue_limit=settings.image_queue, name="encoder-images")
    servicer = EncoderServicer(budget)
    server.bound_reads(budget, IMAGE_MESSAGE_BYTES, *BUDGETED)
    server.add(add_EncoderServiceServicer_to_server, servicer, SERVICE)
    await server.start()
    engine = EngineOptions(
        threads=settings.threads or available_cpus(), reduced_precision=settings.precision == "native"
    )
    with timed_load("encode"):
        model = await asyncio.to_thread(
            load_model, settings.bundle, variant=settings.variant, engine=settings.engine, options=engine
        )
        stack.callback(model.close)
        options = EmbedderOptions(**{field.name: getattr(settings, field.name) for field in fields(EmbedderOptions)})
        embedder = Embedder(model, options)
        stack.push_async_callback(embedder.close)
        await embedder.warm_up()
    servicer.use(embedder)
    await server.set_serving(SERVICE, serving=True)
