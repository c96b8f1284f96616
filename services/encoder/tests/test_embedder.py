import asyncio
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_encoder.embedder import Embedder, EmbedderOptions
from mirage_inference.encoder.model import EncoderModel


@pytest.fixture
async def embedder(model: EncoderModel) -> AsyncIterator[Embedder]:
    embedder = Embedder(model, EmbedderOptions(text_queue=80, image_queue=4))
    yield embedder
    await embedder.close()


def png(size: tuple[int, int] = (64, 48), colour: int = 120) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_order_of_the_request_is_kept(embedder: Embedder) -> None:
    texts = ["axial", "a much longer text about the corpus callosum in sagittal sections", "coronal T2"]
    together, _ = await embedder.encode_texts(texts)
    for text, expected in zip(texts, together, strict=True):
        (alone,), _ = await embedder.encode_texts([text])
        assert np.array_equal(alone.vector, expected.vector)


async def test_a_text_that_came_before_is_cached(embedder: Embedder) -> None:
    (first,), spent = await embedder.encode_texts(["axial T1"])
    (second,), again = await embedder.encode_texts(["  AXIAL   t1 "])
    assert not first.cached
    assert second.cached
    assert np.array_equal(first.vector, second.vector)
    assert spent.inference_ms > 0
    assert again.inference_ms == again.queue_ms == 0


async def test_what_is_cached_does_not_change_with_what_a_caller_got(embedder: Embedder) -> None:
    (first,), _ = await embedder.encode_texts(["axial T1"])
    expected = first.vector.copy()
    first.vector[:] = 9
    (second,), _ = await embedder.encode_texts(["axial T1"])
    assert np.array_equal(second.vector, expected)
    assert not second.vector.flags.writeable


async def test_a_text_repeated_in_a_request_runs_once(embedder: Embedder) -> None:
    vectors, _ = await embedder.encode_texts(["flair"] * 64)
    assert len(vectors) == 64
    assert all(np.array_equal(each.vector, vectors[0].vector) for each in vectors)


async def test_tokens_and_truncation_are_told(embedder: Embedder) -> None:
    (short, long), _ = await embedder.encode_texts(["axial T1", "lesion " * 280])
    assert (short.tokens, short.truncated) == (5, False)
    assert long.truncated
    assert long.tokens > 77


async def test_vectors_do_not_depend_on_who_else_asks(embedder: Embedder) -> None:
    texts = [f"axial section at level {number} with a lesion" for number in range(24)]
    together = await asyncio.gather(*(embedder.encode_texts([text]) for text in texts))
    fresh = Embedder(embedder.model, EmbedderOptions())
    try:
        for text, ((crowded,), _) in zip(texts, together, strict=True):
            (alone,), _ = await fresh.encode_texts([text])
            assert float(alone.vector @ crowded.vector) > 0.99999
    finally:
        await fresh.close()


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ([], Code.TOO_MANY_ITEMS),
        (["a"] * 65, Code.TOO_MANY_ITEMS),
        ([""], Code.TERM_EMPTY),
        (["fine", " "], Code.TERM_EMPTY),
        (["x" * 2001], Code.TEXT_TOO_LONG),
    ],
)
async def test_texts_beyond_the_limits_are_refused(embedder: Embedder, texts: list[str], code: Code) -> None:
    with pytest.raises(MirageError) as error:
        await embedder.encode_texts(texts)
    assert error.value.code is code


async def test_an_image_file_gets_a_vector_with_its_timings(embedder: Embedder) -> None:
    vector, spent = await embedder.encode_image(png())
    assert vector.shape == (embedder.model.manifest.dimension,)
    assert 0 < spent.inference_ms <= spent.total_ms


async def test_more_images_than_the_queue_holds_are_refused_with_a_time_to_retry(embedder: Embedder) -> None:
    outcomes = await asyncio.gather(
        *(embedder.encode_image(png(colour=number)) for number in range(100)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, MirageError)]
    assert refused
    assert all(error.code is Code.QUEUE_FULL and error.retry_after_s for error in refused)
    vector, _ = await embedder.encode_image(png())
    assert np.isfinite(vector).all()
