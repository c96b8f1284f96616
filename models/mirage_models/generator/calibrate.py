"""The ranges of activations, taken from images that the model itself makes in float32."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mirage_inference.generator.model import IMAGE, LATENTS, PREDICTION
from mirage_inference.generator.noise import SeededNoise
from mirage_inference.generator.pipeline import ImageRequest, StepDone, make_image
from mirage_models.generator.quantise import Span, SpanRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mirage_inference.bundles import Range
    from mirage_inference.generator.model import GeneratorModel

    Floats = npt.NDArray[np.float32]

_SEED = 10_000
"""Calibration's noise is not parity's, whose seeds are 0, 1, 2 ..."""


class _Skipped:
    """Takes the decoder's place if only latents are needed."""

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Floats:
        return np.zeros((1, 3, 8, 8), dtype=np.float32)

    def close(self) -> None:
        """Nothing to free."""


def calibrate_unet(
    files: Mapping[str, Path],
    names: Collection[str],
    load: Callable[[Mapping[str, Path]], GeneratorModel],
    *,
    prompts: Sequence[str],
    ranges: Mapping[str, Range],
    threads: int,
) -> tuple[dict[str, Span], Floats]:
    """The spans of the named activations, and finished latents float32[prompts, channels, h, w]."""
    recorder = SpanRecorder(files["unet"], names, output=PREDICTION, threads=threads)
    model = load({"text": files["text"]})
    model = replace(model, sessions={**model.sessions, "unet": recorder, "decoder": _Skipped()})
    side = int(ranges["side"].default)
    finished: list[Floats] = []
    try:
        for number, prompt in enumerate(prompts):
            steps: list[StepDone] = []
            request = ImageRequest(prompt, int(ranges["steps"].default), ranges["guidance"].default, 0, side, side)
            make_image(model, request, noise=SeededNoise(_SEED + number), on_step=steps.append)
            finished.append(steps[-1].latents[0])
    finally:
        model.close()
    return recorder.spans, np.stack(finished)


def calibrate_decoder(
    path: Path, names: Collection[str], latents: Floats, *, threads: int
) -> tuple[dict[str, Span], list[list[float]]]:
    """The spans of the named activations over these latents, and the preview map that they give (see `fit_preview`)."""
    recorder = SpanRecorder(path, names, output=IMAGE, threads=threads)
    try:
        images = [recorder.run({LATENTS: each[None]})[0] for each in latents]
    finally:
        recorder.close()
    return recorder.spans, fit_preview(latents, images)


def fit_preview(latents: Floats, images: Sequence[Floats]) -> list[list[float]]:
    """The map from latents float32[images, channels, h, w] to the colours of squares of float32[3, height, width] in
    0..1.

    It has a row of RGB for each channel and one more for the bias, by least squares.
    """
    rows, colours = [], []
    for each, image in zip(latents, images, strict=True):
        height, width = each.shape[1:]
        scale = image.shape[1] // height
        squares = image.reshape(3, height, scale, width, scale).mean(axis=(2, 4))
        rows.append(np.concatenate([each.reshape(len(each), -1), np.ones((1, height * width))]).T)
        colours.append(squares.reshape(3, -1).T)
    fitted = np.linalg.lstsq(np.concatenate(rows), np.concatenate(colours), rcond=None)[0]
    return [[round(float(value), 5) for value in row] for row in fitted]
