"""ONNX Runtime on the processor, with the cache in buffers that its attention extends in place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import LlmManifest
from mirage_inference.bundles.llm import DECODER, PROMPT
from mirage_inference.engines.onnxruntime import open_session
from mirage_inference.llm.decoder import (
    AnyArray,
    Cancelled,
    CancelledError,
    ContextFullError,
    DecoderShape,
    FloatArray,
    Prefix,
)

_PIECE = 128
"""Tokens of a prompt that are run at once: between pieces a caller can cancel, and the memory for attention stays small."""
_PROMPT_PIECE = 256
"""The same for the graph that reads prompts, whose products of matrices are faster with more rows."""
_PROMPT_FROM = 16
"""Tokens of a prompt from which on that graph is faster, which leaves the last token to the decoder."""
_CONTROL = {"input_ids", "rows", "seqlens_k", "total"}


@dataclass(frozen=True)
class _Bound:
    """A binding, and what keeps the memory that it points into: the runtime does not."""

    binding: Any
    held: list[ort.OrtValue]


class OnnxRuntimeTextSession:
    """See TextSession. Buffers are bound to the runtime once; a step sets three numbers and runs."""

    def __init__(self, decoder: "OnnxRuntimeDecoder", capacity: int) -> None:
        self._decoder, self._capacity = decoder, capacity
        self._ids: list[int] = []
        shape = decoder.shape
        # Zeros that are never touched take no memory: a short text pays for its own length, whatever the capacity.
        self._cache: list[FloatArray] = [
            np.zeros((1, shape.heads, capacity, shape.head_size), np.float32) for _ in range(2 * shape.layers)
        ]
        self._values = [ort.OrtValue.ortvalue_from_numpy(array) for array in self._cache]
        self._last = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._step_ids = np.zeros((1, 1), np.int64)
        self._logits = np.zeros((1, 1, decoder.vocabulary), np.float32)
        self._step_binding = self._bound(self._step_ids, np.zeros(1, np.int64), self._logits)

    @property
    def length(self) -> int:
        """See TextSession.length."""
        return len(self._ids)

    def prefill(self, ids: Sequence[int], *, cancelled: Cancelled | None = None) -> FloatArray:
        """See TextSession.prefill."""
        self._check(ids)
        rest = list(ids)
        if self._decoder.reads_prompts and len(rest) >= _PROMPT_FROM:
            self.read(rest[:-1], cancelled=cancelled)
            rest = rest[-1:]
        logits = self._logits
        for piece in _pieces(rest, _PIECE, cancelled):
            logits = np.zeros((1, 1, self._decoder.vocabulary), np.float32)
            self._run(self._bound(piece, np.array([piece.shape[1] - 1]), logits), piece[0].tolist())
        row: FloatArray = logits[0, 0]
        return row

    def read(self, ids: Sequence[int], *, cancelled: Cancelled | None = None) -> None:
        """Append tokens by the graph that reads prompts, without logits. Raises as `prefill`."""
        self._check(ids)
        for piece in _pieces(ids, _PROMPT_PIECE, cancelled):
            binding = self._decoder.binding(prompt=True)
            held = self._bind_inputs(binding, {"input_ids": piece})
            self._run(_Bound(binding, held), piece[0].tolist(), prompt=True)

    def step(self, token: int) -> FloatArray:
        """See TextSession.step."""
        self._check([token])
        self._step_ids[0, 0] = token
        self._run(self._step_binding, [token])
        row: FloatArray = self._logits[0, 0]
        return row

    def score(self, ids: Sequence[int]) -> FloatArray:
        """See TextSession.score."""
        self._check(ids)
        logits = np.zeros((1, len(ids), self._decoder.vocabulary), np.float32)
        for first in range(0, len(ids), _PIECE):
            piece = np.array([ids[first : first + _PIECE]], np.int64)
            rows = np.arange(piece.shape[1])
            self._run(self._bound(piece, rows, logits[:, first : first + len(rows)]), piece[0].tolist())
        scores: FloatArray = logits[0]
        return scores

    def rewind(self, length: int) -> None:
        """See TextSession.rewind."""
        if not 0 <= length <= len(self._ids):
            raise ValueError(f"{len(self._ids)} tokens cannot be cut to {length}")
        # The rest of the buffers is never read, and is overwritten.
        del self._ids[length:]

    def keep(self) -> Prefix:
        """See TextSession.keep."""
        return Prefix(tuple(self._ids), tuple(array[0, :, : len(self._ids)].copy() for array in self._cache))

    def begin_with(self, prefix: Prefix) -> None:
        """Take over a prefix; for the decoder."""
        if len(prefix.ids) > self._capacity:
            raise ContextFullError(len(prefix.ids), self._capacity)
        shape = (self._cache[0].shape[1], len(prefix.ids), self._cache[0].shape[3])
        if len(prefix.cache) != len(self._cache) or any(array.shape != shape for array in prefix.cache):
            raise ValueError("the prefix is of another decoder")
        for target, source in zip(self._cache, prefix.cache, strict=True):
            target[0, :, : len(prefix.ids)] = source
        self._ids = list(prefix.ids)

    def _check(self, ids: Sequence[int]) -> None:
        if not ids or min(ids) < 0 or max(ids) >= self._decoder.vocabulary:
            raise ValueError("there must be tokens, and of this vocabulary")
        if len(self._ids) + len(ids) > self._capacity:
            raise ContextFullError(len(self._ids) + len(ids), self._capacity)

    def _bound(self, ids: AnyArray, rows: AnyArray, logits: FloatArray) -> "_Bound":
        binding = self._decoder.binding()
        held = self._bind_inputs(binding, {"input_ids": ids, "rows": rows})
        held.append(ort.OrtValue.ortvalue_from_numpy(logits))
        binding.bind_ortvalue_output("logits", held[-1])
        return _Bound(binding, held)

    def _bind_inputs(self, binding: Any, arrays: dict[str, AnyArray]) -> list[ort.OrtValue]:
        """Binds these and the cache; returns the values that must be kept."""
        arrays = {**arrays, "seqlens_k": self._last, "total": self._total}
        held = []
        for name, array in arrays.items():
            held.append(ort.OrtValue.ortvalue_from_numpy(array))
            binding.bind_ortvalue_input(name, held[-1])
        for place, value in enumerate(self._values):
            name = f"{'value' if place % 2 else 'key'}.{place // 2}"
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        return held

    def _run(self, bound: "_Bound", ids: list[int], *, prompt: bool = False) -> None:
        total = len(self._ids) + len(ids)
        self._last[0], self._total[...] = total - 1, total
        self._decoder.run(bound.binding, prompt=prompt)
        self._ids += ids


def _pieces(ids: Sequence[int], length: int, cancelled: Cancelled | None) -> Iterator[AnyArray]:
    """Arrays int64 [1, up to `length`] of ids, in order; raises CancelledError before one if `cancelled` says so."""
    for first in range(0, len(ids), length):
        if cancelled is not None and cancelled():
            raise CancelledError
        yield np.array([ids[first : first + length]], np.int64)


class OnnxRuntimeDecoder:
    """See Decoder. With `prompt`, a session of the graph that reads prompts, long ones go through that graph."""

    def __init__(
        self, session: ort.InferenceSession, shape: DecoderShape, prompt: ort.InferenceSession | None = None
    ) -> None:
        self._session: ort.InferenceSession | None = session
        self._prompt, self.shape = prompt, shape

    @property
    def reads_prompts(self) -> bool:
        """True if there is a graph that reads prompts; for sessions."""
        return self._prompt is not None

    @property
    def context_length(self) -> int:
        """See Decoder.context_length."""
        return self.shape.context_length

    @property
    def vocabulary(self) -> int:
        """See Decoder.vocabulary."""
        return self.shape.vocabulary

    def open(self, *, prefix: Prefix | None = None, capacity: int | None = None) -> OnnxRuntimeTextSession:
        """See Decoder.open."""
        capacity = self.context_length if capacity is None else capacity
        if not 1 <= capacity <= self.context_length:
            raise ValueError(f"a capacity of {capacity} tokens; the context is {self.context_length}")
        session = OnnxRuntimeTextSession(self, capacity)
        if prefix is not None:
            session.begin_with(prefix)
        return session

    def close(self) -> None:
        """See Decoder.close."""
        self._session = self._prompt = None

    def binding(self, *, prompt: bool = False) -> Any:
        """An empty binding of inputs and outputs, of the decoder or of the graph that reads prompts; for sessions."""
        return self._graph(prompt=prompt).io_binding()

    def run(self, binding: Any, *, prompt: bool = False) -> None:
        """Run what is bound; for sessions."""
        graph = self._graph(prompt=prompt)
        try:
            graph.run_with_iobinding(binding)
        except Exception as error:  # the runtime's exceptions share no narrower base
            raise MirageError(Code.MODEL_FAILED) from error

    def _graph(self, *, prompt: bool) -> ort.InferenceSession:
        graph = self._prompt if prompt else self._session
        if graph is None:
            raise MirageError(Code.MODEL_NOT_READY)
        return graph


class OnnxRuntimeEngine:
    """See Engine."""

    @property
    def description(self) -> str:
        """See Engine.description."""
        return f"onnxruntime {ort.__version__}"

    def load(
        self, directory: Path, manifest: LlmManifest, variant: str, *, threads: int, prompt_graph: bool = True
    ) -> OnnxRuntimeDecoder:
        """See Engine.load."""
        if variant not in manifest.variants:
            raise MirageError(Code.BUNDLE_INVALID, reason=f"there is no variant {variant[:40]}")
        files = manifest.variants[variant].files
        prompt = directory / files[PROMPT] if prompt_graph and PROMPT in files else None
        return self.load_file(directory / files[DECODER], DecoderShape.of(manifest), threads=threads, prompt=prompt)

    def load_file(
        self, path: Path, shape: DecoderShape, *, threads: int, prompt: Path | None = None
    ) -> OnnxRuntimeDecoder:
        """Loads the decoder of an ONNX file, and a graph that reads prompts for it.

        Raises BUNDLE_INVALID if one cannot be loaded or has another shape.
        """
        session = open_session(path, threads=threads, arena=True)
        logits = next((value.shape for value in session.get_outputs() if value.name == "logits"), None)
        if logits is None:
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has no logits")
        _check_inputs(session, path, shape, _CONTROL)
        if logits[-1] != shape.vocabulary:
            raise MirageError(
                Code.BUNDLE_INVALID, reason=f"{path.name} has another vocabulary than the manifest states"
            )
        if prompt is None:
            return OnnxRuntimeDecoder(session, shape)
        # Without an arena: what a prompt needs is given back.
        reader = open_session(prompt, threads=threads, arena=False)
        _check_inputs(reader, prompt, shape, _CONTROL - {"rows"})
        return OnnxRuntimeDecoder(session, shape, reader)


def _check_inputs(session: ort.InferenceSession, path: Path, shape: DecoderShape, control: set[str]) -> None:
    """Raises BUNDLE_INVALID if a graph has other inputs than these and the cache, or another cache."""
    shapes = {value.name: value.shape for value in session.get_inputs()}
    cache = {f"{kind}.{layer}" for layer in range(shape.layers) for kind in ("key", "value")}
    if set(shapes) != cache | control:
        raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has other inputs than a decoder of this size")
    stated = [1, shape.heads, shape.head_size]
    if any([shapes[name][place] for place in (0, 1, 3)] != stated for name in cache):
        raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has another cache than the manifest states")
