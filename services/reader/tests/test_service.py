"""The service in a process of its own, with a scripted encoder, retriever and model server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest

from mirage_core.errors import Code, MirageError
from mirage_protos.reader.v1 import reader_pb2, reader_pb2_grpc
from mirage_protos.v1 import model_pb2, reading_pb2
from tests.support.llm_process import details, free_port
from tests.support.paths import bare_environment
from tests.support.waiting import wait_until_serving

from .conftest import Script
from .scripted_http import HttpScript, http_server, stream
from .test_engines import image_file
from .test_reader import pneumonia_and_others

SERVICE = "mirage.reader.v1.ReaderService"


@contextmanager
def serving(peers: str, **settings: str) -> Iterator[str]:
    """A process of the service that serves, and its address."""
    address = f"127.0.0.1:{(port := free_port())}"
    variables = {"ENCODER": peers, "RETRIEVER": peers, "PORT": str(port), **settings}
    environment = {f"MIRAGE_READER_{name}": value for name, value in variables.items()} | bare_environment()
    process = subprocess.Popen([sys.executable, "-m", "mirage_reader"], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until_serving(address, process, service=SERVICE)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@asynccontextmanager
async def reader(peers: str, **settings: str) -> AsyncIterator[reader_pb2_grpc.ReaderServiceAsyncStub]:
    with serving(peers, **settings) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            yield reader_pb2_grpc.ReaderServiceStub(channel)


async def read(
    stub: reader_pb2_grpc.ReaderServiceAsyncStub, query: reading_pb2.ReadQuery
) -> list[reader_pb2.ReadResponse]:
    return [event async for event in stub.Read(reader_pb2.ReadRequest(query=query), timeout=60)]


BAD = {
    "nothing": (reading_pb2.ReadQuery(), "EMPTY_QUERY"),
    "no bytes": (reading_pb2.ReadQuery(image=b""), "IMAGE_EMPTY"),
    "white space": (reading_pb2.ReadQuery(text=" \n"), "EMPTY_QUERY"),
    "a long text": (reading_pb2.ReadQuery(text="x" * 2001), "TEXT_TOO_LONG"),
    "a path for an id": (reading_pb2.ReadQuery(record_id="../../etc/passwd"), "ID_INVALID"),
    "an unknown record": (reading_pb2.ReadQuery(record_id="nobody"), "RECORD_NOT_FOUND"),
    "a kind on two lines": (
        reading_pb2.ReadQuery(image=b"x", kind=reading_pb2.KindCorrection(modality="x\ny")),
        "FACET_VALUE_INVALID",
    ),
}


async def test_it_reads_with_a_model_and_refuses_bad_input(peers: str, script: Script) -> None:
    script.records = pneumonia_and_others()
    model = HttpScript(stream("lungs: There is pneumonia.\npleura: There is a pleural effusion.\nThe moon is full.\n"))
    async with http_server(model):
        settings = {"ENGINE": "openai", "URL": f"{model.url}/v1", "MODEL": "tiny", "MODEL_LICENCE": "MIT"}
        async with reader(peers, **settings) as stub:
            found = await read(stub, reading_pb2.ReadQuery(image=image_file()))
            described = (await stub.GetModel(reader_pb2.GetModelRequest())).model
            codes = {}
            for name, (query, _) in BAD.items():
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await read(stub, query)
                codes[name] = details(error.value)[0]
    assert codes == {name: code for name, (_, code) in BAD.items()}
    assert (described.name, described.kind, described.licence) == ("tiny", model_pb2.MODEL_KIND_READER, "MIT")
    names = [event.WhichOneof("event") for event in found]
    assert list(dict.fromkeys(names)) == [
        *("kind", "checklist", "evidence", "reading", "label", "similar", "context", "done")
    ]
    said = [event.reading for event in found if event.reading.source == reading_pb2.STEP_SOURCE_MODEL]
    assert [(each.item, each.state) for each in said] == [
        ("lungs", reading_pb2.STEP_STATE_SUPPORTED),
        ("pleura", reading_pb2.STEP_STATE_CONTRADICTED),
    ]
    assert said[1].claim == "There is a pleural effusion."
    label = next(event.label for event in found if event.HasField("label"))
    assert (label.finding, list(label.basis)) == ("pneumonia", ["evidence", "reading"])
    done = found[-1].done
    assert (done.shown, done.withheld, done.engine, done.not_for_diagnosis) == (2, 1, "openai", True)


async def test_with_rules_alone_there_is_no_model_and_errors_of_the_parts_pass(peers: str, script: Script) -> None:
    script.error = MirageError(Code.IMAGE_UNREADABLE, format="PNG")
    async with reader(peers) as stub:
        assert not (await stub.GetModel(reader_pb2.GetModelRequest())).HasField("model")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await read(stub, reading_pb2.ReadQuery(image=image_file()))
    assert details(error.value)[0] == "IMAGE_UNREADABLE"
