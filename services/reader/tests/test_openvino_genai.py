"""The engine `openvino-genai` on tiny models with random weights, exported here as docs/read.md says."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_protos.reader.v1 import reader_pb2
from mirage_protos.v1 import model_pb2, reading_pb2
from mirage_reader.engines.base import DRAFTS_MAX
from mirage_reader.engines.openvino_genai import OpenVinoOptions, OpenVinoReading, Pipeline
from tests.support.paths import bare_environment

from .conftest import Script
from .test_engines import CHEST, check_contract, drafts, image_file, small, study
from .test_reader import pneumonia_and_others
from .test_service import read, reader

pytest.importorskip("torch", reason="`make test-build` runs this, in an environment with torch")

ENDLESS = 4096
WORDS = ("clear", "dense", "large", "small", "grey", "bright", "dark", "thin", "flat")
SAID = ("There is pneumonia", *(f"It is {word}" for word in WORDS))
LINES = [f"{item.id}: {said}.\n" for item in CHEST.items for said in SAID]


@pytest.fixture(scope="module", params=["gemma3", "qwen2_5_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of each layout."""
    from . import tiny_vision_models

    made = tmp_path_factory.mktemp(request.param)
    getattr(tiny_vision_models, f"write_{request.param}")(made / "checkpoint", LINES)
    tiny_vision_models.export(made / "checkpoint", made / "tiny")
    return made / "tiny"


class Watched:
    """A pipeline that counts what it says, and says when it has ended."""

    def __init__(self, folder: Path) -> None:
        from mirage_reader.engines.openvino_pipeline import OpenVinoPipeline

        self._pipeline: Pipeline = OpenVinoPipeline(folder, 1)
        self.said = 0
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def try_out(self) -> None:
        self._pipeline.try_out()

    def write(self, *prompt: Any, say: Callable[[str], None], **bounds: Any) -> None:
        def count(text: str) -> None:
            self.said += 1
            say(text)

        try:
            self._pipeline.write(*prompt, say=count, **bounds)
        finally:
            self._loop.call_soon_threadsafe(self.ended.set)


@asynccontextmanager
async def watched(folder: Path, **options: Any) -> AsyncIterator[tuple[OpenVinoReading, Watched]]:
    pipeline = Watched(folder)
    engine = OpenVinoReading(pipeline, OpenVinoOptions(folder, **options), small, ThreadPoolExecutor(1))
    yield engine, pipeline
    await engine.close()


@asynccontextmanager
async def loaded(folder: Path, **options: Any) -> AsyncIterator[OpenVinoReading]:
    engine = await OpenVinoReading.load(OpenVinoOptions(folder, **options), small)
    yield engine
    await engine.close()


async def test_it_writes_sentences_about_the_checklist(folder: Path) -> None:
    async with loaded(folder) as engine:
        await check_contract(engine)
        assert engine.model
        assert engine.model.name == "tiny"


async def test_the_model_looks_at_the_image(folder: Path) -> None:
    short, readings = replace(study(), checklist=replace(CHEST, items=CHEST.items[:1])), set()
    async with loaded(folder, max_tokens=16) as engine:
        for seed in range(8):
            file = io.BytesIO()
            noise = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
            Image.fromarray(noise).resize((300, 200)).save(file, "PNG")
            async with aclosing(engine.read(replace(short, image=file.getvalue()))) as sentences:
                readings.add(tuple([each async for each in sentences]))
    assert {len(each) for each in readings} == {16}
    assert len(readings) > 1


async def test_the_first_sentence_comes_while_the_model_writes_and_it_stops_when_the_caller_goes(folder: Path) -> None:
    async with watched(folder, max_tokens=ENDLESS) as (engine, pipeline):
        async with aclosing(engine.read(study())) as sentences:
            first = await anext(sentences)
            assert not pipeline.ended.is_set()
        await asyncio.wait_for(pipeline.ended.wait(), 60)
        assert f"{first.item}: {first.text}\n" in LINES
        assert pipeline.said < ENDLESS


async def test_a_model_that_never_ends_is_left_after_its_last_sentence(folder: Path) -> None:
    async with watched(folder, max_tokens=ENDLESS) as (engine, pipeline):
        found = await drafts(engine)
        await asyncio.wait_for(pipeline.ended.wait(), 60)
        assert len(found) == DRAFTS_MAX
        assert pipeline.said < ENDLESS


async def test_it_writes_no_more_tokens_than_it_may(folder: Path) -> None:
    async with watched(folder, max_tokens=20) as (engine, pipeline):
        assert len(await drafts(engine)) == 20
        assert pipeline.said == 20


async def test_a_reading_that_takes_too_long_is_stopped(folder: Path) -> None:
    async with watched(folder, max_tokens=ENDLESS, total_s=0.001) as (engine, _):
        with pytest.raises(MirageError) as error:
            await drafts(engine)
    assert error.value.code is Code.DEADLINE_EXCEEDED


async def test_readings_beyond_the_queue_are_refused_at_once_and_the_others_wait(folder: Path) -> None:
    async with loaded(folder, max_tokens=ENDLESS, queue=1) as engine, aclosing(engine.read(study())) as running:
        first = await anext(running)
        waiting = asyncio.ensure_future(drafts(engine))
        await asyncio.sleep(0)
        with pytest.raises(MirageError) as error:
            await drafts(engine)
        await running.aclose()
        assert (await waiting)[0] == first
    assert error.value.code is Code.QUEUE_FULL


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def of_another_layout(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


BROKEN = {
    "no language model": (without("openvino_language_model.xml"), "openvino_language_model.xml is missing"),
    "half of the weights": (cut("openvino_language_model.bin"), "openvino-genai cannot load it"),
    "half of a graph": (cut("openvino_vision_embeddings_model.xml"), "openvino-genai cannot load it"),
    "half of a configuration": (cut("config.json"), "openvino-genai cannot load it"),
    "another layout": (of_another_layout, "openvino-genai does not know its layout"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_folder_is_refused_with_the_reason(name: str, folder: Path, tmp_path: Path) -> None:
    damage, reason = BROKEN[name]
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    damage(broken)
    with pytest.raises(MirageError) as error:
        await OpenVinoReading.load(OpenVinoOptions(broken), small)
    assert error.value.code is Code.BUNDLE_INVALID
    assert reason in error.value.message


async def test_the_service_streams_what_the_model_says_and_checks_it(folder: Path, peers: str, script: Script) -> None:
    script.records = pneumonia_and_others()
    settings = {"ENGINE": "openvino-genai", "FOLDER": str(folder), "MAX_TOKENS": "200", "MODEL_LICENCE": "MIT"}
    async with reader(peers, **settings) as stub:
        call = stub.Read(reader_pb2.ReadRequest(query=reading_pb2.ReadQuery(image=image_file())), timeout=60)
        async for event in call:
            if event.reading.source == reading_pb2.STEP_SOURCE_MODEL:
                # A caller that leaves in the middle.
                call.cancel()
                break
        *events, last = await read(stub, reading_pb2.ReadQuery(image=image_file()))
        described = (await stub.GetModel(reader_pb2.GetModelRequest())).model
    said = [event.reading for event in events if event.reading.source == reading_pb2.STEP_SOURCE_MODEL]
    assert {each.text for each in said if each.state == reading_pb2.STEP_STATE_SUPPORTED} <= {"There is pneumonia."}
    assert len(said) + last.done.withheld == DRAFTS_MAX
    assert (last.done.shown, last.done.engine, last.done.notice) == (len(said), "openvino-genai", "")
    assert (described.name, described.kind, described.licence) == ("tiny", model_pb2.MODEL_KIND_READER, "MIT")


def test_the_library_counts_no_users(folder: Path, tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from mirage_reader.engines.openvino_pipeline import OpenVinoPipeline as Pipeline; "
        "Pipeline(pathlib.Path(sys.argv[1]), 1).try_out()"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(folder)], env={**bare_environment(), "HOME": str(tmp_path)}, check=True
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_service_does_not_start_with_a_broken_folder(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    cut("openvino_language_model.bin")(broken)
    settings = {"ENGINE": "openvino-genai", "FOLDER": str(broken), "PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "mirage_reader"],
        env={**bare_environment(), **{f"MIRAGE_READER_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert "cannot start" in ended.stdout + ended.stderr
    assert "openvino-genai cannot load it" in ended.stdout + ended.stderr
