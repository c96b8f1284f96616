"""The decoders of `bench.decode`: the bundle as the service runs it, and its peers on the same weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import GPTNeoXForCausalLM

from bench.llama_cpp import LlamaCppModel
from mirage_inference.bundles import load_llm
from mirage_inference.llm.decode import PrefixCache
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CAPACITY = 512
"""Tokens that every side makes room for."""


class Subject(Protocol):
    """Something that decodes."""

    name: str

    def first(self, ids: Sequence[int]) -> float:
        """Seconds until the logits after the prompt are there, nothing of it computed before."""
        ...

    def first_after(self, prefix: Sequence[int], ids: Sequence[int]) -> float:
        """The same with the first tokens, `prefix`, computed for an earlier prompt."""
        ...

    def tokens(self, count: int) -> list[float]:
        """Seconds of each of the tokens that follow."""
        ...


class Ours:
    """A variant of the bundle, as the service runs it, or without the graph that reads prompts."""

    def __init__(self, bundle: Path, variant: str, threads: int, *, prompt_graph: bool = True) -> None:
        self.name = f"bundle, {variant}" + ("" if prompt_graph else ", prompts by the decoder")
        manifest = load_llm(bundle)
        self.parity = manifest.variants[variant].parity
        started = time.perf_counter()
        self._decoder = OnnxRuntimeEngine().load(bundle, manifest, variant, threads=threads, prompt_graph=prompt_graph)
        self.load_s = time.perf_counter() - started
        self._prefix: PrefixCache | None = None
        self._token = 0

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        return self._begin(PrefixCache(self._decoder, ()), ids)

    def first_after(self, prefix: Sequence[int], ids: Sequence[int]) -> float:
        """See Subject.first_after."""
        self._prefix = self._prefix or PrefixCache(self._decoder, prefix)
        return self._begin(self._prefix, ids)

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens."""
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            self._token = int(self._session.step(self._token).argmax())
            taken.append(time.perf_counter() - started)
        return taken

    def _begin(self, prefix: PrefixCache, ids: Sequence[int]) -> float:
        started = time.perf_counter()
        self._session, rest = prefix.begin(ids, capacity=CAPACITY)
        self._token = int(self._session.prefill(rest).argmax())
        return time.perf_counter() - started


class PyTorch:
    """The original."""

    name = "PyTorch float32, eager"

    def __init__(self, checkpoint: Path) -> None:
        self._model = GPTNeoXForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        self._cache: Any = None
        return self._run(list(ids))

    def first_after(self, prefix: Sequence[int], ids: Sequence[int]) -> float:
        """See Subject.first_after."""
        self.first(prefix)
        return self._run(list(ids[len(prefix) :]))

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens."""
        return [self._run([self._token]) for _ in range(count)]

    def _run(self, ids: list[int]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            found = self._model(torch.tensor([ids]), past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = found.past_key_values
        self._token = int(found.logits[0, -1].argmax())
        return time.perf_counter() - started


class Optimum:
    """optimum's ORTModelForCausalLM on a graph that its own exporter wrote."""

    def __init__(self, folder: Path, threads: int, *, file: str, name: str) -> None:
        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._model = ORTModelForCausalLM.from_pretrained(
            folder, file_name=file, provider="CPUExecutionProvider", session_options=options, use_io_binding=False
        )

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        self._cache: Any = None
        self._seen = 0
        return self._run(list(ids))

    def first_after(self, prefix: Sequence[int], ids: Sequence[int]) -> float:
        """See Subject.first_after."""
        self.first(prefix)
        return self._run(list(ids[len(prefix) :]))

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens."""
        return [self._run([self._token]) for _ in range(count)]

    def _run(self, ids: list[int]) -> float:
        started = time.perf_counter()
        self._seen += len(ids)
        positions = torch.arange(self._seen - len(ids), self._seen)[None]
        with torch.inference_mode():
            found = self._model(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones((1, self._seen), dtype=torch.int64),
                position_ids=positions,
                past_key_values=self._cache,
            )
        self._cache = found.past_key_values
        self._token = int(found.logits[0, -1].argmax())
        return time.perf_counter() - started


class LlamaCpp:
    """llama.cpp in this process; it times itself, tokenising and sampling not included."""

    name = "llama.cpp"

    def __init__(self, model: Path, threads: int) -> None:
        self._model = LlamaCppModel(model, context=CAPACITY, threads=threads)

    def first(self, ids: Sequence[int]) -> float:
        """See Subject.first."""
        self._ids = list(ids)
        return float(self._timings(self._ids, 1)["prompt_ms"]) / 1000

    def first_after(self, prefix: Sequence[int], ids: Sequence[int]) -> float:
        """See Subject.first_after."""
        self._ids = list(ids)
        # The slot then holds the prefix and another text behind it, as after an earlier prompt.
        self._timings([*prefix, *reversed(ids[len(prefix) :])], 1)
        found = self._timings(self._ids, 1, cached=True)
        if found["prompt_n"] != len(ids) - len(prefix):
            raise RuntimeError(f"llama.cpp computed {found['prompt_n']} tokens, not what follows the prefix")
        return float(found["prompt_ms"]) / 1000

    def tokens(self, count: int) -> list[float]:
        """See Subject.tokens; the mean of them."""
        return [float(self._timings(self._ids, count)["predicted_per_token_ms"]) / 1000]

    def _timings(self, ids: Sequence[int], count: int, *, cached: bool = False) -> dict[str, Any]:
        timings: dict[str, Any] = self._model.complete(ids, count, cached=cached)["timings"]
        return timings
