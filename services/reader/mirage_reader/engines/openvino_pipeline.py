"""The native part of the engine openvino-genai: one loaded model with vision."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_core.telemetry import get_logger

_log = get_logger()
_TRIED_SIDE = 64
_PROMPT_TOKENS = 1 << 20


class OpenVinoPipeline:
    """See Pipeline. It keeps nothing of an image after it has written about it."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Loads the folder; raises BUNDLE_INVALID if it is damaged or of a layout that the library does not know."""
        # Without a cache of prompts: it would keep images. A prompt is one piece: the tokens of an image look at each other.
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = _PROMPT_TOKENS
        scheduler.max_num_seqs = 1
        try:
            self._pipeline: Any = openvino_genai.VLMPipeline(
                str(folder), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads
            )
            self._tokenizer: Any = self._pipeline.get_tokenizer()
        except Exception as error:  # the library's exceptions share no narrower base
            _log.warning("reading model cannot be loaded", problem=_last_line(error))
            raise MirageError(Code.BUNDLE_INVALID, reason=_reason(error)) from error
        if not self._tokenizer.chat_template:
            raise MirageError(Code.BUNDLE_INVALID, reason="it has no chat template")

    def try_out(self) -> None:
        """See Pipeline.try_out."""
        grey = np.full((_TRIED_SIDE, _TRIED_SIDE, 3), 128, np.uint8)
        self._write(grey, "Describe.", "Describe this image.", 1, lambda _: None, lambda: False)

    def write(
        self,
        image: bytes,
        system: str,
        question: str,
        *,
        max_tokens: int,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        """See Pipeline.write."""
        if stop():
            return
        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        self._write(pixels, system, question, max_tokens, say, stop)

    def _write(
        self,
        pixels: Any,
        system: str,
        question: str,
        max_tokens: int,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        # The model's own, for the tokens that end a text.
        config = self._pipeline.get_generation_config()
        config.do_sample = False
        config.num_beams = 1
        config.max_new_tokens = max_tokens
        streamer = _Streamer(self._tokenizer, say, stop)
        try:
            self._pipeline.generate(
                # One text: with messages of roles the library puts a second token of the beginning in front (2026.4.1).
                f"{system}\n\n{question}",
                images=[openvino.Tensor(np.ascontiguousarray(pixels[None]))],
                generation_config=config,
                streamer=streamer,
            )
        except Exception as error:  # as above
            _log.warning("reading model failed", problem=_last_line(error))
            raise MirageError(Code.MODEL_FAILED) from error
        if streamer.failed:
            raise MirageError(Code.MODEL_FAILED)


class _Streamer(openvino_genai.StreamerBase):  # type: ignore[misc]  # no types without the library
    """Asks before each token whether to stop. An exception here would end the process, so that none leaves it."""

    def __init__(self, tokenizer: Any, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        super().__init__()
        self._say = say
        self._stop = stop
        # Holds back what is not a whole character yet.
        self._text = openvino_genai.TextStreamer(tokenizer, self._pass_on)
        self.failed = False

    def write(self, token: Any) -> Any:
        try:
            return openvino_genai.StreamingStatus.CANCEL if self._stop() else self._text.write(token)
        except Exception:
            self.failed = True
            return openvino_genai.StreamingStatus.CANCEL

    def end(self) -> None:
        try:
            self._text.end()
        except Exception:
            self.failed = True

    def _pass_on(self, text: str) -> Any:
        self._say(text)
        return openvino_genai.StreamingStatus.RUNNING


def _reason(error: Exception) -> str:
    if "VLM model type" in str(error):
        return "openvino-genai does not know its layout"
    return "openvino-genai cannot load it"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
