"""The service over real gRPC: what it answers, what it refuses, and that the next good request works."""

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from mirage_core.vectors import vector_from_proto
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.v1 import model_pb2
from tests.support.encoder_process import DEADLINE_S, SERVICE, encoder
from tests.support.waiting import wait_until_serving

Stub: TypeAlias = "encoder_pb2_grpc.EncoderServiceAsyncStub"  # exists for type checkers only


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    with encoder(bundle) as (address, process):
        wait_until_serving(address, process, service=SERVICE)
        yield address


@pytest.fixture
async def stub(address: str) -> AsyncIterator[Stub]:
    options = [("grpc.max_send_message_length", 64 * 2**20)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield encoder_pb2_grpc.EncoderServiceStub(channel)


def picture(form: str = "PNG", size: tuple[int, int] = (80, 60)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BAD_IMAGES = {
    "no bytes": (b"", "IMAGE_EMPTY"),
    "one pixel": (picture(size=(1, 1)), "IMAGE_TOO_SMALL"),
    "a truncated JPEG": (picture("JPEG", (400, 300))[:3000], "IMAGE_UNREADABLE"),
    "a decompression bomb": (bomb(), "IMAGE_TOO_MANY_PIXELS"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n" * 20, "IMAGE_FORMAT_UNSUPPORTED"),
    "21 MB": (b"\x89PNG\r\n\x1a\n" + bytes(21 * 2**20), "IMAGE_TOO_LARGE"),
}

BAD_TEXTS = {
    "nothing": ([""], "TERM_EMPTY"),
    "blanks": ([" \n "], "TERM_EMPTY"),
    "10,000 characters": (["x" * 10_000], "TEXT_TOO_LONG"),
    "65 texts": (["brain"] * 65, "TOO_MANY_ITEMS"),
    "no texts": ([], "TOO_MANY_ITEMS"),
}


def reason(error: grpc.aio.AioRpcError) -> str:
    """The catalogue's code in the error's details."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "mirage"
    return str(info.reason)


async def test_texts_come_back_as_unit_vectors(stub: Stub) -> None:
    reply = await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["axial T1", "sagittal FLAIR"]))
    rows = np.array([vector_from_proto(each.vector) for each in reply.embeddings])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert [each.tokens for each in reply.embeddings] == [5, 6]
    assert reply.timings.total_ms >= reply.timings.inference_ms > 0
    assert len(reply.fingerprint) == 64


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_an_image_of_each_format_comes_back_as_a_unit_vector(stub: Stub, form: str) -> None:
    reply = await stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=picture(form)))
    assert np.linalg.norm(vector_from_proto(reply.vector)) == pytest.approx(1, abs=1e-5)


async def test_an_image_is_guessed_about_and_a_bad_one_refused(stub: Stub) -> None:
    request = encoder_pb2.ClassifyImageRequest(image=picture("PNG"))
    reply = await stub.ClassifyImage(request)
    assert reply.guess.kind != 0
    assert len(reply.fingerprint) == 64
    assert not reply.HasField("vector")
    encoded = await stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=picture("PNG")))
    assert encoded.timings.cached
    request.vector = True
    assert (await stub.ClassifyImage(request)).vector == encoded.vector
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ClassifyImage(encoder_pb2.ClassifyImageRequest(image=b"no image"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_answers_every_key_and_survives_a_bad_image(
    stub: Stub,
) -> None:
    async def requests() -> AsyncIterator[encoder_pb2.EncodeImagesRequest]:
        for number in range(20):
            image = b"no image" if number == 7 else picture(size=(64 + number, 64))
            yield encoder_pb2.EncodeImagesRequest(key=str(number), image=image)

    outcomes = {reply.key: reply async for reply in stub.EncodeImages(requests())}
    assert set(outcomes) == {str(number) for number in range(20)}
    assert outcomes["7"].error.code == "IMAGE_FORMAT_UNSUPPORTED"
    assert all(reply.WhichOneof("outcome") == "vector" for key, reply in outcomes.items() if key != "7")


@pytest.mark.parametrize("case", BAD_IMAGES)
async def test_a_bad_image_is_refused_and_the_next_works(stub: Stub, case: str) -> None:
    image, code = BAD_IMAGES[case]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=image))
    assert reason(error.value) == code
    assert (await stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=picture()))).vector.float32


@pytest.mark.parametrize("case", BAD_TEXTS)
async def test_a_bad_text_is_refused_and_the_next_works(stub: Stub, case: str) -> None:
    texts, code = BAD_TEXTS[case]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=texts))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error.value) == code
    assert (await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["brain"]))).embeddings


async def test_a_message_beyond_25_mib_is_refused_and_the_next_works(
    stub: Stub,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=bytes(26 * 2**20)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["brain"]))).embeddings


async def test_an_abandoned_request_harms_nobody(stub: Stub) -> None:
    calls = [stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=[f"left {number}"])) for number in range(30)]
    for call in calls[::2]:
        call.cancel()
    replies = await asyncio.gather(*calls[1::2])
    assert all(reply.embeddings for reply in replies)


async def test_the_model_says_what_it_is(stub: Stub) -> None:
    model = (await stub.GetModel(encoder_pb2.GetModelRequest())).model
    reply = await stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=["brain"]))
    assert model.kind == model_pb2.MODEL_KIND_ENCODER
    assert model.dimension == len(vector_from_proto(reply.embeddings[0].vector))
    assert model.fingerprint == reply.fingerprint
    assert model.context_length == 77
    assert model.engine.startswith("onnxruntime ")
    assert '"files"' in model.manifest_json


def test_a_client_that_knows_only_reflection_can_encode(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

        def ask(request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
            reply: reflection_pb2.ServerReflectionResponse = next(reflection.ServerReflectionInfo(iter([request])))
            return reply

        listed = ask(reflection_pb2.ServerReflectionRequest(list_services="")).list_services_response
        assert SERVICE in {service.name for service in listed.service}
        pool = descriptor_pool.DescriptorPool()
        reply = ask(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        files = [FileDescriptorProto.FromString(data) for data in reply.file_descriptor_response.file_descriptor_proto]
        missing = {name for file in files for name in file.dependency} - {file.name for file in files}
        for name in missing:
            more = ask(reflection_pb2.ServerReflectionRequest(file_by_filename=name)).file_descriptor_response
            files = [*(FileDescriptorProto.FromString(data) for data in more.file_descriptor_proto), *files]
        for file in sorted(files, key=lambda each: len(each.dependency)):
            pool.Add(file)
        method = pool.FindServiceByName(SERVICE).FindMethodByName("EncodeText")
        request_type = message_factory.GetMessageClass(method.input_type)
        reply_type = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{SERVICE}/EncodeText",
            request_serializer=request_type.SerializeToString,
            response_deserializer=reply_type.FromString,
        )
        answer: Any = call(request_type(texts=["brain"]))
        assert answer.embeddings[0].vector.float32


def test_it_ends_at_sigterm(bundle: Path) -> None:
    with encoder(bundle) as (address, process):
        wait_until_serving(address, process, service=SERVICE)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_it_does_not_start_without_a_bundle(tmp_path: Path) -> None:
    with encoder(tmp_path) as (_, process):
        assert process.wait(DEADLINE_S) != 0


@pytest.mark.parametrize("setting", [{"THREADS": "-1"}, {"ENGINE": "abacus"}, {"HOST": "0.0.0.0"}])
def test_it_does_not_start_with_settings_that_make_no_sense(bundle: Path, setting: dict[str, str]) -> None:
    with encoder(bundle, **setting) as (_, process):
        assert process.wait(DEADLINE_S) != 0
