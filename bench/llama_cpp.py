"""llama.cpp in this process, through the `xllamacpp` wheel: completions of ids, nothing sampled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import xllamacpp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class LlamaCppModel:
    """A GGUF file, loaded; one text at a time."""

    def __init__(self, model: Path, *, context: int, threads: int) -> None:
        settings = xllamacpp.CommonParams()
        settings.model.path = str(model)
        settings.n_ctx = context
        settings.n_parallel = 1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.verbosity = -1
        # It would cache whole prompts and find a measured one again: then nothing is computed.
        settings.cache_ram_mib = 0
        self._server = xllamacpp.Server(settings)

    def complete(self, ids: Sequence[int], count: int, *, cached: bool = False, likeliest: int = 0) -> dict[str, Any]:
        """Returns the server's answer; with `cached`, what the last text had in common with this one is not computed again.

        `likeliest` is how many next tokens are reported with their log-probabilities.
        """
        asked = {
            "prompt": list(ids),
            "n_predict": count,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": cached,
            "n_probs": likeliest,
        }
        answer = self._server.handle_completions(asked)
        content: dict[str, Any] = json.loads(answer) if isinstance(answer, str | bytes) else answer
        if "error" in content:
            raise RuntimeError(f"llama.cpp: {content['error']}")
        return content
