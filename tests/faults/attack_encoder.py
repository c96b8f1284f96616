"""Attacks an encoder of its own and prints a table: what it answered, its memory, and how long texts took meanwhile.

python tests/faults/attack_encoder.py     # the figures of "Attacks" in docs/benchmarks.md

Variables such as MIRAGE_ENCODER_DECODER_TIMEOUT_S are passed on. Memory is that of the encoder and its children, shared pages
counted once, looked at a hundred times a second.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import grpc

from mirage_core.channels import invoke, open_channel
from mirage_core.errors import MirageError
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from tests.support import image_bombs
from tests.support.encoder_process import encoder
from tests.support.memory_peak import Peak
from tests.support.waiting import wait_until_serving

BUNDLE = Path(__file__).resolve().parents[2] / "models" / "mini" / "clip" / "bundle"
_MIB = 2**20


class Attacker:
    """Sends images, while another process sends texts."""

    def __init__(self, address: str, pid: int, channel: grpc.aio.Channel) -> None:
        self._address = address
        self._pid = pid
        self._stub = encoder_pb2_grpc.EncoderServiceStub(channel)

    async def attack(self, name: str, files: Sequence[bytes]) -> None:
        """Sends all files at the same time and prints a row of the table."""
        command = [sys.executable, __file__, "--texts", self._address]
        texts = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert texts.stdout is not None
        await texts.stdout.readline()
        started = time.monotonic()
        with Peak(self._pid).watched() as peak:
            answers = Counter(await asyncio.gather(*(self._send(file) for file in files)))
        seconds = time.monotonic() - started
        slowest = float((await texts.communicate(b""))[0])
        shown = ", ".join(f"{count} {answer}" if len(files) > 1 else answer for answer, count in answers.items())
        print(f"| {name} | {shown} in {seconds:.1f} s | {peak.bytes // _MIB} MiB | {slowest:.2f} s |", flush=True)

    async def _send(self, file: bytes) -> str:
        try:
            request = encoder_pb2.ClassifyImageRequest(image=file)
            await invoke(self._stub.ClassifyImage, request, timeout_s=300)
        except MirageError as error:
            return f"`{error.code}`"
        return "answered"


async def send_texts(address: str) -> None:
    """Prints a line at the first answer, goes on until its input ends, and prints the longest time that a text took."""
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    slowest, number = 0.0, 0
    async with open_channel(address, idempotent={}) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        while not (ended.done() and number):
            started = time.monotonic()
            request = encoder_pb2.EncodeTextRequest(texts=[f"axial section {number}"])
            await invoke(stub.EncodeText, request, timeout_s=300)
            if number:
                slowest = max(slowest, time.monotonic() - started)
            else:
                print("begun", flush=True)
            number += 1
            await asyncio.wait({ended}, timeout=0.2)
    print(slowest)


async def attack_all(address: str, pid: int) -> None:
    async with open_channel(address, idempotent={}) as channel:
        attacker = Attacker(address, pid, channel)
        print("| attack | answer | memory | slowest text meanwhile |\n|---|---|---|---|")
        for name, make in image_bombs.BOMBS.items():
            file = make()
            await attacker.attack(f"{name.replace('_', ' ')}, {len(file) / 1024:,.0f} KiB", [file])
        await attacker.attack("all of these at once", [make() for make in image_bombs.BOMBS.values()])
        small, photo = image_bombs.noise(256), image_bombs.noise(3600)
        for count in (12, 50):
            uploads = [small + os.urandom(16) + bytes(14 * _MIB) for _ in range(count)]
            await attacker.attack(f"{count} files of 14 MiB at once", uploads)
        await attacker.attack("12 photographs of 13 megapixels at once", [photo + bytes([n]) for n in range(12)])


def main() -> None:
    if sys.argv[1:2] == ["--texts"]:
        asyncio.run(send_texts(sys.argv[2]))
        return
    prefix = "MIRAGE_ENCODER_"
    given = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
    with encoder(BUNDLE, **given) as (address, process):
        wait_until_serving(address, process)
        asyncio.run(attack_all(address, process.pid))
        if process.poll() is not None:
            sys.exit("the encoder has ended")


if __name__ == "__main__":
    main()
