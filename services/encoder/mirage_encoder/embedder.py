"""The encoder's job: checked texts and image files to unit vectors, with their timings."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mirage_core import limits, telemetry, tracing
from mirage_core.decoders import PRELOAD, DecoderPool
from mirage_core.errors import Code, MirageError
from mirage_core.executor import BoundedExecutor
from mirage_core.kept import Kept
from mirage_encoder.batching import Batched, Batcher
from mirage_encoder.decoding import look, prepare
from mirage_encoder.gate import Gate, Guess
from mirage_inference.encoder.model import EncoderModel
from mirage_inference.encoder.preprocessing import PixelArray
from mirage_inference.encoder.tokenizer import Tokens
from mirage_inference.engines.base import FloatArray

_cache_lookups = telemetry.counter("encoder_text_cache_total", "Texts looked up in the cache.", ("outcome",))
_image_lookups = telemetry.counter("encoder_image_cache_total", "Images looked up in the cache.", ("outcome",))
_batch_items = telemetry.histogram(
    "encoder_batch_items", "Items that shared an inference.", ("kind",), buckets=(1, 2, 4, 8, 16, 32, 64)
)

# More characters than this are cleaned and tokenised off the event loop.
_INLINE_CHARS = 400
# A file of more bytes is hashed off the event loop.
_INLINE_BYTES = 256 * 2**10


@dataclass(frozen=True)
class EmbedderOptions:
    """Bounds of queues, batches and decoding; see the settings of the same names."""

    text_batch: int = 32
    image_batch: int = 8
    batch_wait_ms: float = 1.0
    text_queue: int = 256
    image_queue: int = 32
    cache_entries: int = 2048
    image_cache_entries: int = 64
    decoders: int = 2
    decoder_memory_mb: int = 608
    decoder_budget_mb: int = 672
    decoder_timeout_s: float = 10.0


@dataclass(frozen=True)
class Spent:
    """Time spent on one request, in milliseconds; `cached` if nothing ran."""

    queue_ms: float
    inference_ms: float
    total_ms: float
    cached: bool = False


@dataclass(frozen=True)
class TextVector:
    """A text's unit vector (float32, dimension), its tokens before any cut, and whether it was cut or cached."""

    vector: FloatArray
    tokens: int
    truncated: bool
    cached: bool


class Embedder:
    """Encodes texts and images for many callers at once: one queue for texts, one for images, each with a bound."""

    def __init__(self, model: EncoderModel, options: EmbedderOptions) -> None:
        self.model = model
        self._cache = Kept[tuple[int, ...], FloatArray](options.cache_entries)
        # By the SHA-256 of the file: an image is looked at, then searched with, often more than once.
        self._image_cache = Kept[bytes, FloatArray](options.image_cache_entries)
        self._gate: Gate | None = None
        self._texts: Batcher[Tokens, FloatArray] = Batcher(
            self._run_texts,
            name="encoder-text",
            max_batch=1 if model.mixes_batch("text") else options.text_batch,
            queue_limit=options.text_queue,
            wait_ms=options.batch_wait_ms,
            # Lengths of one power of two together: a short text is not padded to a long one.
            group=lambda tokens: len(tokens.ids).bit_length(),
        )
        self._images: Batcher[PixelArray, FloatArray] = Batcher(
            self._run_images,
            name="encoder-image",
            max_batch=1 if model.mixes_batch("image") else options.image_batch,
            queue_limit=options.image_queue,
            wait_ms=options.batch_wait_ms,
        )
        # Apart, so that neither kind of request waits for, or is refused because of, the other.
        self._tokenizing = BoundedExecutor(workers=1, queue_limit=options.text_queue, name="encoder-tokenize")
        self._decoding = DecoderPool(
            workers=options.decoders,
            memory_mb=options.decoder_memory_mb,
            timeout_s=options.decoder_timeout_s,
            budget_mb=max(options.decoder_budget_mb, options.decoder_memory_mb),
            name="encoder-decode",
            queue_limit=options.image_queue,
            preload=(*PRELOAD, "mirage_encoder.decoding"),
        )

    async def warm_up(self) -> None:
        """Starts the decoders and runs both towers once, also on the texts of the gate.

        Raises MODEL_FAILED if one fails.
        """
        await self._decoding.warm_up()
        size = self.model.manifest.image.size
        await self._texts.run([self.model.tokenizer.tokenize("warm up")])
        await self._images.run([np.zeros((3, size, size), dtype=np.float32)])
        self._gate = await asyncio.to_thread(Gate, self.model.manifest.gate, self._embed_alone)

    def _embed_alone(self, texts: Sequence[str]) -> FloatArray:
        # One at a time, as queries are.
        return np.concatenate([self.model.embed_texts([self.model.tokenizer.tokenize(text)]) for text in texts])

    async def encode_texts(self, texts: Sequence[str]) -> tuple[list[TextVector], Spent]:
        """Vectors of 1 to 64 texts, in order.

        Raises TOO_MANY_ITEMS, TERM_EMPTY, TEXT_TOO_LONG, QUEUE_FULL, MODEL_FAILED; one bad text refuses the request.
        """
        started = time.perf_counter()
        if not 1 <= len(texts) <= limits.TEXTS_MAX:
            raise MirageError(Code.TOO_MANY_ITEMS, field="texts", min=1, max=limits.TEXTS_MAX, given=len(texts))
        for text in texts:
            if len(text) > limits.TEXT_CHARS:
                raise MirageError(Code.TEXT_TOO_LONG, max=limits.TEXT_CHARS, given=len(text))
        if sum(map(len, texts)) <= _INLINE_CHARS:
            tokens = self._tokenize(texts)
        else:
            self._texts.check_room(len(texts))
            tokens = (await self._tokenizing.run(self._tokenize, texts)).value
        known = {each.ids: vector for each in tokens if (vector := self._cache.get(each.ids)) is not None}
        _cache_lookups.labels("hit").inc(sum(each.ids in known for each in tokens))
        missing = list({each.ids: each for each in tokens if each.ids not in known}.values())
        _cache_lookups.labels("miss").inc(len(missing))
        results = await self._infer_texts(missing) if missing else []
        fresh = {each.ids: result.value for each, result in zip(missing, results, strict=True)}
        for ids, vector in fresh.items():
            self._cache.put(ids, _read_only_copy(vector))
        vectors = [
            TextVector(
                vector=known[each.ids] if each.ids in known else fresh[each.ids],
                tokens=each.count,
                truncated=each.truncated,
                cached=each.ids in known,
            )
            for each in tokens
        ]
        spent = Spent(
            queue_ms=max((result.queue_ms for result in results), default=0.0),
            inference_ms=max((result.run_ms for result in results), default=0.0),
            total_ms=(time.perf_counter() - started) * 1000,
        )
        return vectors, spent

    async def encode_image(self, data: bytes) -> tuple[FloatArray, Spent]:
        """The vector of one image file; raises the IMAGE_* errors, QUEUE_FULL, MODEL_FAILED."""
        started = time.perf_counter()
        key = await _digest(data)
        known = self._image_cache.get(key)
        _image_lookups.labels("miss" if known is None else "hit").inc()
        if known is not None:
            return known, Spent(0.0, 0.0, (time.perf_counter() - started) * 1000, cached=True)
        # Before the work of decoding, not only after it.
        self._images.check_room()
        with tracing.span("encode.decode"):
            decoded = await self._decoding.run(prepare, data, self.model.manifest.image)
        result = await self._infer_image(decoded.value)
        self._image_cache.put(key, _read_only_copy(result.value))
        spent = Spent(
            queue_ms=decoded.queue_ms + result.queue_ms,
            inference_ms=result.run_ms,
            total_ms=(time.perf_counter() - started) * 1000,
        )
        return result.value, spent

    async def classify_image(self, data: bytes) -> tuple[Guess, Spent]:
        """Classifies one image file; raises as `encode_image`, whose answer for the same file is then cached."""
        started = time.perf_counter()
        if self._gate is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        key = await _digest(data)
        if self._image_cache.get(key) is None:
            self._images.check_room()
        with tracing.span("encode.decode"):
            looked = await self._decoding.run(look, data, self.model.manifest.image)
        vector = self._image_cache.get(key)
        queue_ms, inference_ms = looked.queue_ms, 0.0
        if vector is None:
            result = await self._infer_image(looked.value.pixels)
            vector = result.value
            queue_ms, inference_ms = queue_ms + result.queue_ms, result.run_ms
            self._image_cache.put(key, _read_only_copy(vector))
        guess = self._gate.guess(looked.value.statistics, vector, looked.value.stated)
        return guess, Spent(queue_ms, inference_ms, (time.perf_counter() - started) * 1000)

    async def _infer_texts(self, tokens: Sequence[Tokens]) -> list[Batched[FloatArray]]:
        with tracing.span("encode.text", texts=len(tokens)) as span:
            results = await self._texts.run(tokens)
            span.set(queue_ms=max(each.queue_ms for each in results))
        return results

    async def _infer_image(self, pixels: PixelArray) -> Batched[FloatArray]:
        with tracing.span("encode.image") as span:
            (result,) = await self._images.run([pixels])
            span.set(queue_ms=result.queue_ms)
        return result

    async def close(self) -> None:
        """Ends threads and decoders; what waits fails with CANCELLED. The model stays open: it is the caller's."""
        self._tokenizing.close()
        await self._decoding.close()
        await self._texts.close()
        await self._images.close()

    def _tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return [self.model.tokenizer.tokenize(text) for text in texts]

    def _run_texts(self, tokens: Sequence[Tokens]) -> list[FloatArray]:
        _batch_items.labels("text").observe(len(tokens))
        return list(self.model.embed_texts(tokens))

    def _run_images(self, pixels: Sequence[PixelArray]) -> list[FloatArray]:
        _batch_items.labels("image").observe(len(pixels))
        return list(self.model.embed_pixels(pixels))


def _read_only_copy(vector: FloatArray) -> FloatArray:
    # A row of a batch would keep the whole batch alive.
    kept = vector.copy()
    kept.flags.writeable = False
    return kept


async def _digest(data: bytes) -> bytes:
    """Returns the SHA-256 of a file; of a large one off the event loop."""
    if len(data) <= _INLINE_BYTES:
        return hashlib.sha256(data).digest()
    return (await asyncio.to_thread(hashlib.sha256, data)).digest()
