"""Measure a generator's bundle: `python -m mirage_training.mini_generator.evaluate --bundle DIR --work DIR [--prompts
N]`.

Captions of sections at levels and with lesions in places that training never saw are made into images, as the service
makes them. The mini encoder classifies them. Each figure is given with that of real sections of the same captions, in
poses as in training, measured in the same way.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mirage_core.errors import MirageError
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_inference.generator.pipeline import ImageRequest, make_image
from mirage_models.paths import mini_clip_bundle
from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_clip.encoders import BundleEncoder
from mirage_training.mini_clip.heldout import EVALUATION_SEED, held_out_gallery
from mirage_training.mini_clip.queries import caption_query
from mirage_training.mini_clip.workfolder import cached_template
from mirage_training.mini_generator.detail import fine_energy, frechet_distance
from mirage_training.mini_generator.judge import Judge, Judged, even_limit
from mirage_training.mini_generator.pictures import draw_pose, posed, rendered
from mirage_training.mini_generator.recipe import SIDE_PX, Recipe
from mirage_training.mini_generator.sheet import contact_sheet
from mirage_training.trust.intervals import Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mirage_atlas.demo.sections import SectionSpec
    from mirage_inference.generator.model import GeneratorModel

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

_POOL = 2
_CALIBRATING = 400
_BLOCK = 2000


@dataclass(frozen=True)
class Asked:
    """A caption, what it says, and the real section of it: grey uint8 [SIDE_PX, SIDE_PX]."""

    caption: str
    spec: SectionSpec
    real: Bytes


def held_out_prompts(source: SectionSource, count: int) -> list[Asked]:
    """Captions of held-out sections, half of them with a lesion."""
    rng = np.random.default_rng(EVALUATION_SEED + 1)
    gallery = held_out_gallery(source.template, max(1, count))
    plain = [spec for spec in gallery if spec.lesion is None]
    sick = [spec for spec in gallery if spec.lesion is not None]
    asked = []
    for index in range(count):
        kind = sick if index % 2 else plain
        spec = kind[int(rng.integers(len(kind)))]
        real = posed(source.render(spec)[0], draw_pose(rng))
        asked.append(Asked(caption_query(spec, rng).text, spec, real))
    return asked


def training_sections(source: SectionSource, count: int) -> tuple[list[SectionSpec], Bytes]:
    """Real sections of training levels, every other one with a lesion: uint8 [N, SIDE_PX, SIDE_PX]."""
    rng = np.random.default_rng(EVALUATION_SEED + 2)
    specs: list[SectionSpec] = []
    while len(specs) < count:
        spec = source.draw(rng)
        if (spec.lesion is not None) == bool(len(specs) % 2):
            specs.append(spec)
    return specs, np.stack([posed(source.render(spec)[0], draw_pose(rng)) for spec in specs])


def share(right: NDArray[np.bool_]) -> dict[str, float | list[float] | int]:
    """The share of what is right, its 95 % interval and the number."""
    found = Share(int(right.sum()), len(right))
    low, high = found.interval()
    return {"right": round(found.value, 4), "interval": [round(low, 4), round(high, 4)], "of": found.total}


def mean(values: Floats) -> dict[str, float | list[float] | int]:
    """A mean, its 95 % interval and the number."""
    middle, reach = (
        float(values.mean()),
        1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0,
    )
    return {
        "mean": round(middle, 4),
        "interval": [round(middle - reach, 4), round(middle + reach, 4)],
        "of": len(values),
    }


def margins(pictures: Floats, texts: Floats) -> Floats:
    """Returns each picture's cosine to its own text minus its mean cosine to the others, [N]."""
    cosines = pictures @ texts.T
    own = np.diagonal(cosines)
    others = (cosines.sum(axis=1) - own) / max(1, len(texts) - 1)
    return np.asarray(own - others, dtype=np.float32)


def nearest(pictures: Bytes, known: Bytes) -> Floats:
    """Root mean square difference (0..1 is black to white) of each picture to the nearest known one, at half the
    size.
    """
    wanted = _pooled(pictures)
    best = np.full(len(wanted), np.inf, dtype=np.float32)
    for start in range(0, len(known), _BLOCK):
        block = _pooled(known[start : start + _BLOCK])
        squares = (wanted**2).sum(axis=1)[:, None] + (block**2).sum(axis=1)[None] - 2 * wanted @ block.T
        best = np.minimum(best, squares.min(axis=1))
    return np.asarray(np.sqrt(best.clip(0) / wanted.shape[1]), dtype=np.float32)


def _pooled(pictures: Bytes) -> Floats:
    count, side = pictures.shape[0], pictures.shape[1] // _POOL
    blocks = pictures.reshape(count, side, _POOL, side, _POOL).astype(np.float32)
    return np.asarray(blocks.mean(axis=(2, 4)).reshape(count, -1) / 255, dtype=np.float32)


def generate(model: GeneratorModel, asked: list[Asked], *, steps: int, guidance: float) -> tuple[Bytes, Floats]:
    """An image of each caption, RGB uint8 [N, SIDE_PX, SIDE_PX, 3], and the seconds that each took."""
    images, seconds = [], []
    for seed, each in enumerate(asked):
        began = time.perf_counter()
        made = make_image(model, ImageRequest(each.caption, steps, guidance, seed, SIDE_PX, SIDE_PX))
        seconds.append(time.perf_counter() - began)
        images.append(made.pixels)
    return np.stack(images), np.array(seconds, dtype=np.float32)


def figures(judged: Judged, specs: Sequence[SectionSpec], texts: Floats, distances: Floats) -> dict[str, Any]:
    """The measurements of one kind of pictures."""
    sick = np.array([spec.lesion is not None for spec in specs], dtype=np.bool_)
    planes = np.array([spec.plane for spec in specs if spec.lesion])
    return {
        "plane": share(judged.plane),
        "contrast": share(judged.contrast),
        "lesion seen where there is to be one": share(judged.lesion[sick]),
        "lesion seen where there is to be none": share(judged.lesion[~sick]),
        "lesion side": share(judged.side),
        # A sagittal section is of one side as a whole: a common share would hide the figures of the other planes.
        "lesion side by plane": {plane: share(judged.side[planes == plane]) for plane in sorted(set(planes))},
        "prompt margin": mean(margins(judged.vectors, texts)),
        "distance to the nearest training picture": mean(distances),
    }


def lesions_from(limit: float, judged: Judged, specs: Sequence[SectionSpec]) -> dict[str, Any]:
    """Returns the shares of pictures whose margin is above a limit."""
    sick = np.array([spec.lesion is not None for spec in specs], dtype=np.bool_)
    seen = judged.lesion_margin > limit
    return {"where there is to be one": share(seen[sick]), "where there is to be none": share(seen[~sick])}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_generator.evaluate", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="the generator's bundle")
    parser.add_argument("--work", type=Path, required=True, help="folder of training pictures; rendered where missing")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, help="default: the bundle's")
    parser.add_argument("--variant", default="", help="the bundle's precision (default: its own)")
    parser.add_argument("--encoder", type=Path, default=mini_clip_bundle(), help="the bundle that judges")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--sheet", type=Path, help="write some of the images as one picture, each marked as synthetic")
    parsed = parser.parse_args(arguments)
    if parsed.prompts < 2:
        parser.error("--prompts is at least 2")
    try:
        model = load_model(parsed.bundle, variant=parsed.variant, options=EngineOptions(threads=parsed.threads))
    except MirageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    recipe = Recipe()
    parsed.work.mkdir(parents=True, exist_ok=True)
    source = SectionSource(cached_template(parsed.work))
    asked = held_out_prompts(source, parsed.prompts)
    guidance = model.manifest.guidance.default if parsed.guidance is None else parsed.guidance
    try:
        images, seconds = generate(model, asked, steps=parsed.steps, guidance=guidance)
    except MirageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        model.close()
    known = rendered(parsed.work / "pictures", lambda: source, count=recipe.pictures, seed=recipe.seed).pixels
    judge = Judge(BundleEncoder(parsed.encoder, threads=parsed.threads))
    texts = judge.texts([each.caption for each in asked])
    specs = [each.spec for each in asked]
    reals = np.stack([each.real for each in asked])
    grey = np.asarray(images.mean(axis=-1), dtype=np.uint8)
    made = judge.look([Image.fromarray(image) for image in images], specs)
    real = judge.look([Image.fromarray(image).convert("RGB") for image in reals], specs)
    others, shown = training_sections(source, _CALIBRATING)
    looked = judge.look([Image.fromarray(image).convert("RGB") for image in shown], others)
    limit = even_limit(looked.lesion_margin, np.array([spec.lesion is not None for spec in others]))
    report = {
        "fingerprint": model.manifest.fingerprint,
        "steps": parsed.steps,
        "guidance": guidance,
        "prompts": len(asked),
        "seconds an image": {"median": round(float(np.median(seconds)), 3), "most": round(float(seconds.max()), 3)},
        "generated": figures(made, specs, texts, nearest(grey, known)),
        "real": figures(real, specs, texts, nearest(reals, known)),
        "lesion seen, with the limit that errs equally often on training sections": {
            "margin": round(limit, 4),
            "these sections": lesions_from(limit, looked, others),
            "generated": lesions_from(limit, made, specs),
            "real": lesions_from(limit, real, specs),
        },
        "fine detail, of real": round(fine_energy(grey) / fine_energy(reals), 3),
        "frechet distance": round(frechet_distance(made.vectors, real.vectors), 4),
    }
    text = json.dumps(report, indent=2)
    if parsed.out:
        parsed.out.write_text(text + "\n", encoding="utf-8")
    if parsed.sheet:
        contact_sheet(images, [each.caption for each in asked]).save(parsed.sheet, quality=85)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
