"""Puts the generator service together from its settings."""

import asyncio
from contextlib import AsyncExitStack

from mirage_core.job_options import DEADLINE_MAX_S
from mirage_core.server import GrpcServer
from mirage_generator.changes import Changes
from mirage_generator.image_folder import ImageFolder
from mirage_generator.job_validator import JobValidator
from mirage_generator.service import JobService
from mirage_generator.servicer import GeneratorServicer
from mirage_generator.settings import GeneratorSettings
from mirage_generator.store.connection import connect
from mirage_generator.store.jobs import JobStore, StoreLimits
from mirage_generator.tickets import TicketQueue, make_app
from mirage_generator.upkeep import Upkeep
from mirage_inference.bundles import load_generator, verify_files
from mirage_inference.generator.tokenizer import PromptTokenizer
from mirage_protos.generator.v1.generator_pb2_grpc import add_GeneratorServiceServicer_to_server

SERVICE = "mirage.generator.v1.GeneratorService"
# A name in health alone: SERVING while a worker sends heartbeats.
WORKERS = "mirage.generator.v1.GeneratorWorkers"


async def set_up(settings: GeneratorSettings, server: GrpcServer, stack: AsyncExitStack) -> None:
    """Adds the servicer and listens; SERVING while Redis answers. Loads no network."""
    manifest = load_generator(settings.bundle)
    verify_files(settings.bundle, manifest, only={manifest.prompt.tokenizer})
    tokenizer = PromptTokenizer(settings.bundle / manifest.prompt.tokenizer, manifest.prompt)
    store = JobStore(connect(settings.redis_url), StoreLimits.of(settings))
    images = ImageFolder(settings.data)
    tickets = TicketQueue(make_app(settings.redis_url, longest_s=2 * DEADLINE_MAX_S))
    await asyncio.to_thread(tickets.open)
    changes = Changes(settings.redis_url)
    jobs = JobService(
        store,
        JobValidator(manifest, tokenizer, deadline_s=settings.deadline_s, any_topic=settings.any_topic),
        tickets,
        images,
        changes,
        fingerprint=manifest.fingerprint,
        two_passes=manifest.guidance_input == "unconditional",
    )
    server.add(add_GeneratorServiceServicer_to_server, GeneratorServicer(jobs, store, manifest, settings), SERVICE)
    await server.start()

    async def report(answers: bool, workers: int) -> None:
        await server.set_serving(SERVICE, serving=answers)
        await server.set_serving(WORKERS, serving=workers > 0)

    upkeep = Upkeep(store, tickets, images, lease_s=settings.lease_s)
    for task in (asyncio.create_task(changes.run()), asyncio.create_task(upkeep.run(report))):
        stack.callback(task.cancel)
