"""The mini CLIP's gate: `python -m mirage_training.mini_clip.gate --bundle DIR [--write]`.

Prompts for modality and body part, calibrated on the demonstration atlas with its clinical samples, each picture taken
again: the temperature by the likelihood of the truth, the bar of each value so that guesses above it are right in at
least 95 of 100. A value that fewer than 30 different pictures show gets no bar: a few of them, however often, prove
nothing. With `--write` the bundle's manifest is given the result, which changes no number of the model and not its
fingerprint.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.readers import open_reader
from mirage_atlas.records import AtlasRecord
from mirage_core.cpus import available_cpus
from mirage_core.imaging import decode_image
from mirage_inference.bundles import MANIFEST_FILE, GateFacet, GateValue, ImageGate, load_encoder
from mirage_inference.encoder.model import EncoderModel, load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines.base import EngineOptions

PROMPTS: dict[str, dict[str, tuple[str, ...]]] = {
    "modality": {
        "x-ray": ("X-ray", "radiograph", "frontal X-ray", "chest X-ray", "X-ray of the lower leg"),
        "ct": ("CT", "CT scan", "axial CT", "CT of the head", "CT of the abdomen"),
        "mr": ("MRI", "MR image", "T1 MRI", "brain MRI", "T2 MRI", "FLAIR MRI"),
        "us": ("ultrasound", "sonogram", "Doppler ultrasound", "echocardiogram", "ultrasound of the heart"),
        "nm": ("bone scan", "scintigraphy", "nuclear medicine", "whole body bone scan"),
    },
    "body_part": {
        "brain": ("brain", "brain MRI", "axial section of the brain", "sagittal brain", "coronal brain MRI"),
        "head": ("head CT", "CT of the head", "skull base"),
        "chest": ("chest X-ray", "frontal chest X-ray", "thorax"),
        "abdomen": ("CT of the abdomen", "abdomen MRI", "liver", "kidneys"),
        "heart": ("echocardiogram", "ultrasound of the heart", "heart"),
        "spine": ("CT of a vertebra", "spine"),
        "pelvis": ("ultrasound of the pelvis", "pelvis"),
        "lower leg": ("X-ray of the lower leg", "tibia"),
        "shoulder": ("MRI of the shoulder", "shoulder"),
    },
}
PRECISION = 0.95
_LEAST = 30
_TEMPERATURES = (2.0, 4.0, 6.0, 8.0, 10.0, 14.0, 20.0, 28.0, 40.0)
Rows = NDArray[np.float32]


def calibration_set(rng: np.random.Generator) -> tuple[list[Image.Image], dict[str, list[str]], list[int]]:
    """Pictures and their true values: every fourth rendering taken again, and each clinical sample twelve times.

    The last list says of which picture each is.
    """
    images: list[Image.Image] = []
    origins: list[int] = []
    truth: dict[str, list[str]] = {facet: [] for facet in PROMPTS}
    for number, record in enumerate(each for each in open_reader("demo").read() if isinstance(each, AtlasRecord)):
        sample = record.id.startswith("sample-")
        if not sample and number % 4:
            continue
        picture = decode_image(record.read_image()).image
        made = [retaken(picture, rng) for _ in range(12 if sample else 1)]
        images += made
        origins += [number] * len(made)
        for facet, values in truth.items():
            values += list(record.labels.get(facet, ("",))) * len(made)
    return images, truth, origins


def retaken(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture as another scanner or a screenshot might give it: cropped and turned a little, brighter or darker,
    noisy.
    """
    turned = picture.rotate(float(rng.uniform(-6, 6)), Image.Resampling.BICUBIC)
    left, top = (int(length * rng.uniform(0, 0.08)) for length in picture.size)
    right, bottom = (int(length * rng.uniform(0.92, 1)) for length in picture.size)
    pixels = np.asarray(turned.crop((left, top, right, bottom)), dtype=np.float32) * float(rng.uniform(0.8, 1.2))
    noisy = pixels + rng.normal(0, 5, pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def embed_texts(model: EncoderModel, texts: tuple[str, ...]) -> Rows:
    """Unit vectors, each text alone as a query is."""
    return np.concatenate([model.embed_texts([model.tokenizer.tokenize(text)]) for text in texts])


def calibrate(model: EncoderModel, seed: int = 20261123) -> ImageGate:
    """The gate of a model, with what was measured on the calibration set itself."""
    images, truth, origins = calibration_set(np.random.default_rng(seed))
    vectors = np.concatenate([model.embed_pixels([preprocess(each, model.manifest.image)]) for each in images])
    facets, measured = {}, {}
    for name, prompts in PROMPTS.items():
        values = list(prompts)
        means = np.stack([embed_texts(model, prompts[value]).mean(axis=0) for value in values])
        cosines = vectors @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        known = np.array([value in prompts for value in truth[name]])
        right = np.array([values.index(value) if value in prompts else -1 for value in truth[name]])
        temperature = min(_TEMPERATURES, key=lambda t: _loss(t * cosines[known], right[known]))
        best = cosines.argmax(axis=1)
        pictures = {i: len({o for o, r in zip(origins, right, strict=True) if r == i}) for i in range(len(values))}
        bars = {
            value: _bar(cosines[best == i, i], right[best == i] == i) if pictures[i] >= _LEAST else None
            for i, value in enumerate(values)
        }
        facets[name] = GateFacet(
            temperature=temperature,
            values={value: GateValue(prompts=prompts[value], sure_from=bars[value]) for value in values},
        )
        measured[name] = {"images": int(known.sum()), "accuracy": round(float((best == right)[known].mean()), 4)}
    return ImageGate(facets=facets, measured=measured)


def _loss(logits: Rows, right: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(right)), right]).mean())


def _bar(cosines: Rows, right: NDArray[np.bool_]) -> float | None:
    """The lowest cosine from which guesses are right often enough, above the lowest fifth of the right ones."""
    for bar in np.sort(cosines[right])[int(right.sum() * 0.2) :]:
        if right[cosines >= bar].mean() >= PRECISION:
            return round(float(bar), 4)
    return None


def main(arguments: list[str] | None = None) -> int:
    """Calibrates, prints, and writes with `--write`."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.gate", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="give the bundle's manifest the result")
    parsed = parser.parse_args(arguments)
    model = load_model(parsed.bundle, engine="onnxruntime", options=EngineOptions(threads=available_cpus()))
    gate = calibrate(model)
    print(json.dumps(gate.model_dump(mode="json"), indent=2))
    if parsed.write:
        manifest = load_encoder(parsed.bundle).model_copy(update={"gate": gate})
        (parsed.bundle / MANIFEST_FILE).write_text(manifest.to_json(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
