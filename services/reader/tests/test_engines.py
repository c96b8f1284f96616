"""The engines: one contract for all, and what a model's server can do wrong."""

import asyncio
import base64
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_inference.llm.findings import vocabulary
from mirage_reader.atlas import Counts, Neighbour
from mirage_reader.checklists import checklists
from mirage_reader.decoding import small_jpeg
from mirage_reader.engines.base import DRAFT_CHARS, DRAFTS_MAX, Draft, ReadingEngine, StepSource, Study
from mirage_reader.engines.chat import drafts_of
from mirage_reader.engines.composed import ComposedReading
from mirage_reader.engines.openai import OpenAiOptions, OpenAiReading
from mirage_reader.evidence import weigh

from .scripted_http import HttpScript, http_server, response, stream

CHEST = next(each for each in checklists() if each.name == "chest-x-ray")
KEY = "secret-key-of-the-model"


def image_file() -> bytes:
    file = io.BytesIO()
    image = Image.radial_gradient("L").resize((300, 200))
    image.save(file, "PNG", pnginfo=None)
    return file.getvalue()


def study() -> Study:
    nearest = [Neighbour(str(n), str(n), {"finding": ("pneumonia",)}, "A hostile caption.", None) for n in range(8)]
    evidence = weigh(nearest, Counts(30, {"finding": {"pneumonia": 10}}), {}, vocabulary())
    return Study(image_file(), CHEST.name, CHEST, evidence)


async def small(image: bytes) -> bytes:
    return small_jpeg(image, 64)


@asynccontextmanager
async def openai(script: HttpScript, **options: Any) -> AsyncIterator[OpenAiReading]:
    async with http_server(script):
        engine = OpenAiReading(
            OpenAiOptions(**{"url": f"{script.url}/v1", "model": "m", "key": KEY, **options}),
            small,
        )
        yield engine
        await engine.close()


async def drafts(engine: ReadingEngine) -> list[Draft]:
    async with aclosing(engine.read(study())) as found:
        return [each async for each in found]


ANSWERS = {
    "a line an item": stream("lungs: There is pneu", "monia. No nodule.\nheart: The heart ", "is normal.\n"),
    "prose": stream("# Findings\n\n- **Lungs**: an opacity.\nI can not say more."),
    "a thousand lines": stream("lungs: Something is seen.\n" * 1000),
    "a sentence of 10,000 characters": stream("lungs: " + "opacity " * 1250 + "."),
    "control characters": stream("lungs: \x1b[31mred\x00 opacity.\n"),
    "nothing": stream(),
}


async def check_contract(engine: ReadingEngine, *, writes: bool = True) -> None:
    """What holds for every engine; `writes` is false for one that writes nothing."""
    assert engine.may_read(CHEST.name)
    assert (engine.model is None) == (engine.source is StepSource.RULES)
    found = await drafts(engine)
    assert len(found) <= DRAFTS_MAX
    assert bool(found) == writes
    for draft in found:
        assert draft.item in {"", *(item.id for item in CHEST.items)}
        assert 0 < len(draft.text) <= DRAFT_CHARS
        assert draft.text.isprintable()
    # It can be asked again, also after a caller that left early.
    async with aclosing(engine.read(study())) as again:
        await anext(again, None)
    assert await drafts(engine) == found


async def test_rules_write_sentences_about_the_checklist() -> None:
    await check_contract(ComposedReading())


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_model_behind_a_server_writes_sentences_about_the_checklist(name: str) -> None:
    async with openai(HttpScript(ANSWERS[name])) as engine:
        await check_contract(engine, writes=name != "nothing")


async def test_the_server_gets_a_small_copy_and_the_checklist_and_nothing_of_the_collection() -> None:
    script = HttpScript(stream("lungs: Clear.\n"))
    async with openai(script) as engine:
        found = await drafts(engine)
    assert found == [Draft("lungs", "Clear.")]
    (asked,) = script.asked
    assert asked.line.startswith("POST /v1/chat/completions ")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    picture, text = asked.json["messages"][1]["content"]
    sent = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    image = Image.open(io.BytesIO(sent))
    assert image.size == (64, 43)
    assert not image.getexif()
    assert all(item.text in text["text"] for item in CHEST.items)
    assert b"hostile" not in asked.body
    assert b"pneumonia" not in asked.body
    assert asked.json["max_tokens"] == 512


BROKEN = {
    "HTML": (response(b"<html>", "text/html"), Code.MODEL_FAILED),
    "JSON that is not a stream": (response(b"{}"), Code.MODEL_FAILED),
    "an event that is not JSON": (response(b"data: {nonsense\n\n", "text/event-stream"), Code.MODEL_FAILED),
    "an event of another form": (response(b"data: [1]\n\n", "text/event-stream"), Code.MODEL_FAILED),
    "an event nested too deeply": (response(b"data: " + b"[" * 50_000 + b"\n\n", "text/event-stream"), Code.MODEL_FAILED),
    "an endless line": (response(b"data: " + b"x" * 100_000, "text/event-stream"), Code.MODEL_FAILED),
    "an error": (response(b"{}", status="500 Internal Server Error"), Code.MODEL_FAILED),
    "too many requests": (response(b"{}", status="429 Too Many Requests"), Code.QUEUE_FULL),
    "a redirect": (response(b"", status="302 Found", location="http://127.0.0.1:1/"), Code.MODEL_FAILED),
    "a connection that breaks": (b"", Code.DEPENDENCY_UNAVAILABLE),
    "no HTTP": (b"SSH-2.0-server\r\n", Code.DEPENDENCY_UNAVAILABLE),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_a_server_that_returns_nonsense_is_an_error_asked_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, code = BROKEN[name]
    script = HttpScript(answer)
    with caplog.at_level(logging.DEBUG):
        async with openai(script) as engine:
            with pytest.raises(MirageError) as error:
                await drafts(engine)
    assert error.value.code is code
    assert len(script.asked) == 1
    assert KEY not in caplog.text


async def test_a_server_that_is_down_is_an_error() -> None:
    engine = OpenAiReading(OpenAiOptions("http://127.0.0.1:1/v1", "m"), small)
    with pytest.raises(MirageError) as error:
        await drafts(engine)
    assert error.value.code is Code.DEPENDENCY_UNAVAILABLE
    await engine.close()


async def test_a_model_that_never_stops_is_cut_off() -> None:
    chunk = f"data: {json.dumps({'choices': [{'delta': {'content': 'on and on '}}]})}\n\n".encode()
    script = HttpScript(stream("lungs: Clear.\n", done=False), forever=lambda: chunk * 50)
    async with openai(script) as engine:
        assert await drafts(engine) == [Draft("lungs", "Clear.")]
        await asyncio.wait_for(script.left.wait(), 30)


async def test_a_silent_server_is_left_at_the_deadline() -> None:
    script = HttpScript(stream("lungs: Clear.\n", done=False), hold=asyncio.Event())
    async with openai(script, total_s=0.2) as engine:
        with pytest.raises(MirageError) as error:
            await drafts(engine)
        await asyncio.wait_for(script.left.wait(), 30)
    assert error.value.code is Code.DEADLINE_EXCEEDED


async def test_a_caller_that_goes_closes_the_connection_to_the_server() -> None:
    script = HttpScript(stream("lungs: Clear.\n", done=False), hold=asyncio.Event())
    async with openai(script) as engine:
        async with aclosing(engine.read(study())) as sentences:
            assert await anext(sentences) == Draft("lungs", "Clear.")
        await asyncio.wait_for(script.left.wait(), 30)


async def test_readings_beyond_the_queue_are_refused_at_once() -> None:
    script = HttpScript(stream(done=False), hold=asyncio.Event())
    async with openai(script, queue=1) as engine:
        running = [asyncio.ensure_future(drafts(engine)) for _ in range(2)]
        await asyncio.wait_for(script.arrived.wait(), 30)
        with pytest.raises(MirageError) as error:
            await drafts(engine)
        assert script.hold
        script.hold.set()
        await asyncio.gather(*running)
    assert error.value.code is Code.QUEUE_FULL


@pytest.mark.parametrize(
    ("line", "items"),
    [
        ("lungs: Clear. No mass.", ["lungs", "lungs"]),
        ("3. **Lungs**: Clear.", ["lungs"]),
        ("Impression: nothing.", [""]),
        ("", []),
        ("---", []),
    ],
)
def test_a_line_is_sentences_about_an_item(line: str, items: list[str]) -> None:
    assert [each.item for each in drafts_of(line, CHEST)] == items
