"""A program with a pool of two children, one at work for ever: prints the numbers of all processes, and waits to be killed."""

import asyncio
import os
import sys

from mirage_core.decoders import DecoderPool
from tests.support import decoder_tasks as tasks


async def main(fifo: str) -> None:
    pool = DecoderPool(2, 256, 10_000, 512, "killed", preload=["tests.support.decoder_tasks"])
    idle = (await pool.run(tasks.process_id)).value
    server = (await pool.run(tasks.parent_id)).value
    busy = asyncio.create_task(pool.run(tasks.announce_and_hang, fifo))
    await asyncio.to_thread(lambda: os.close(os.open(fifo, os.O_RDONLY)))
    other = (await pool.run(tasks.process_id)).value
    print(server, idle, other, flush=True)
    await busy


asyncio.run(main(sys.argv[1]))
