"""`python -m mirage_encoder`: the encoder service."""

import asyncio
from contextlib import AsyncExitStack

from mirage_core.cpus import available_cpus
from mirage_core.message_budget import MessageBudget
from mirage_core.server import GrpcServer, run_service
from mirage_encoder.embedder import Embedder, EmbedderOptions
from mirage_encoder.servicer import BUDGETED, IMAGE_MESSAGE_BYTES, EncoderServicer
from mirage_encoder.settings import EncoderSettings
from mirage_inference.encoder.model import load_model
from mirage_inference.engines.base import EngineOptions
from mirage_inference.loading import timed_load
from mirage_protos.encoder.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server

SERVICE = "mirage.encoder.v1.EncoderService"


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = EncoderSettings()

    async def set_up(server: GrpcServer, stack: AsyncExitStack) -> None:
        budget = MessageBudget(
            settings.image_budget_mb * 2**20, queue_limit=settings.image_queue, name="encoder-images"
        )
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
            options = EmbedderOptions(**{name: getattr(settings, name) for name in _EMBEDDER_SETTINGS})
            embedder = Embedder(model, options)
            stack.push_async_callback(embedder.close)
            await embedder.warm_up()
        servicer.use(embedder)
        await server.set_serving(SERVICE, serving=True)

    run_service(settings, "encoder", set_up)


_EMBEDDER_SETTINGS = (
    "text_batch",
    "image_batch",
    "batch_wait_ms",
    "text_queue",
    "image_queue",
    "cache_entries",
    "image_cache_entries",
    "decoders",
    "decoder_memory_mb",
    "decoder_budget_mb",
    "decoder_timeout_s",
)


if __name__ == "__main__":
    main()
