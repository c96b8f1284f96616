"""The engine `openai` and a real llama.cpp server with a tiny Gemma 3 with vision: MedGemma's layout, random weights."""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mirage_protos.v1 import reading_pb2
from mirage_reader.engines.base import DRAFTS_MAX, SUMMARY_MAX
from mirage_reader.engines.openai import OpenAiOptions, OpenAiReading, OpenAiSummary
from tests.support.llama_server import (
    LONG_CONTEXT,
    is_writing,
    llama_server,
    tokens_when_idle,
    write_tiny_gemma3,
    write_tiny_gemma3_vision,
)

from .conftest import Script
from .test_engines import CHEST, image_file, small, study
from .test_reader import pneumonia_and_others
from .test_service import read, reader

# So many take a tiny model seconds; a prompt of bytes fits besides.
ENDLESS = LONG_CONTEXT - 4096
WORDS = ("clear", "dense", "large", "small", "grey", "bright", "dark", "thin", "flat")
SAID = ("There is pneumonia", *(f"It is {word}" for word in WORDS))
LINES = [f"{item.id}: {said}.\n" for item in CHEST.items for said in SAID]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gemma3")
    model, vision = folder / "model.gguf", folder / "mmproj.gguf"
    write_tiny_gemma3(model, LINES)
    write_tiny_gemma3_vision(vision)
    with llama_server(model, vision, LONG_CONTEXT) as url:
        yield url


@pytest.fixture
async def engine(llama: str) -> AsyncIterator[OpenAiReading]:
    engine = OpenAiReading(OpenAiOptions(llama, "tiny", max_tokens=ENDLESS), small)
    yield engine
    await engine.close()


async def test_the_first_sentence_comes_while_the_model_writes_and_it_stops_when_the_caller_goes(
    engine: OpenAiReading, llama: str
) -> None:
    async with aclosing(engine.read(study())) as sentences:
        first = await anext(sentences)
        assert await is_writing(llama)
    assert f"{first.item}: {first.text}\n" in LINES
    assert await tokens_when_idle(llama) < ENDLESS


async def test_a_model_that_never_ends_is_left_after_its_last_sentence(engine: OpenAiReading, llama: str) -> None:
    async with aclosing(engine.read(study())) as sentences:
        found = [each async for each in sentences]
    assert len(found) == DRAFTS_MAX
    assert await tokens_when_idle(llama) < ENDLESS
    # And the next one is read.
    async with aclosing(engine.read(study())) as sentences:
        assert await anext(sentences) == found[0]


async def test_the_model_looks_at_the_image(llama: str) -> None:
    engine = OpenAiReading(OpenAiOptions(llama, "tiny", max_tokens=4), small)
    short, readings = replace(study(), checklist=replace(CHEST, items=CHEST.items[:1])), set()
    for seed in range(12):
        file = io.BytesIO()
        noise = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 200)).save(file, "PNG")
        async with aclosing(engine.read(replace(short, image=file.getvalue()))) as sentences:
            readings.add(tuple([each async for each in sentences]))
    await engine.close()
    assert {len(each) for each in readings} == {4}
    assert len(readings) > 1


async def test_it_sums_up_in_words_alone(llama: str) -> None:
    summariser = OpenAiSummary(OpenAiOptions(llama, "tiny", max_tokens=ENDLESS))
    async with aclosing(summariser.summarise(CHEST.title, ["There is pneumonia."])) as sentences:
        found = [each async for each in sentences]
    await summariser.close()
    assert len(found) == SUMMARY_MAX
    assert await tokens_when_idle(llama) < ENDLESS


async def test_the_service_streams_what_a_real_model_says_and_checks_it(llama: str, peers: str, script: Script) -> None:
    script.records = pneumonia_and_others()
    async with reader(peers, ENGINE="openai", URL=llama, MODEL="tiny", MAX_TOKENS="200") as stub:
        *events, last = await read(stub, reading_pb2.ReadQuery(image=image_file()))
    said = [event.reading for event in events if event.reading.source == reading_pb2.STEP_SOURCE_MODEL]
    assert {each.text for each in said if each.state == reading_pb2.STEP_STATE_SUPPORTED} <= {"There is pneumonia."}
    assert len(said) + last.done.withheld == DRAFTS_MAX
    assert (last.done.shown, last.done.engine, last.done.notice) == (len(said), "openai", "")
