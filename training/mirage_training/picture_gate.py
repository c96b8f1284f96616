"""Fit the encoder's picture gate: `python -m mirage_training.picture_gate --photos FOLDER --out picture_gate.json`.

Medical pictures are the demonstration atlas, its clinical samples, varied (window, inversion, crop, frame, marks), and
computed histology and fundus pictures; the others are photographs of a folder with crops of them, and computed pages,
charts and drawings. Grey photographs are in neither: pixels do not separate them from radiographs. Each set has the
same weight.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mirage_atlas.readers import open_reader
from mirage_atlas.records import AtlasRecord
from mirage_core.imaging import decode_image
from mirage_inference.encoder.picture_statistics import NAMES, picture_statistics

DECLINE_BELOW = 0.15
MEDICAL_FROM = 0.7
_RIDGE = 1.0
_MADE = 60
_EVERY = 6
Rows = NDArray[np.float64]
Rng = np.random.Generator


def features(images: Iterable[Image.Image]) -> Rows:
    """Statistics and their squares, a row an image."""
    rows = np.stack([picture_statistics(image) for image in images]).astype(np.float64)
    return np.hstack([rows, rows * rows])


def crops(image: Image.Image, count: int, rng: Rng) -> list[Image.Image]:
    """Square crops of 40 to 100 % of the shorter side, at 256 pixels."""
    made = []
    for _ in range(count):
        side = int(min(image.size) * rng.uniform(0.4, 1))
        x, y = (int(rng.integers(0, length - side + 1)) for length in image.size)
        made.append(image.crop((x, y, x + side, y + side)).resize((256, 256)))
    return made


def varied(image: Image.Image, rng: Rng) -> Image.Image:
    """A medical picture as others might store it: windowed, inverted, cropped, framed, marked."""
    grey = np.asarray(image.convert("L").resize((256, 256)), dtype=np.float64) / 255
    if rng.random() < 0.3:
        grey = 1 - grey
    grey = np.clip(grey ** rng.uniform(0.4, 1.6) * rng.uniform(0.8, 1.4) + rng.uniform(0, 0.35), 0, 1)
    picture = Image.fromarray((grey * 255).astype(np.uint8)).convert("RGB")
    if rng.random() < 0.5:
        [picture] = crops(picture, 1, rng)
    if rng.random() < 0.3:
        framed = Image.new("RGB", (320, 320), (int(rng.choice([0, 255])),) * 3)
        framed.paste(picture, (32, 32))
        picture = framed
    if rng.random() < 0.3:
        draw = ImageDraw.Draw(picture)
        for _ in range(3):
            y = int(rng.integers(0, 230))
            colour = (255, 255, 0) if rng.random() < 0.5 else (255, 255, 255)
            draw.rectangle((5, y, int(rng.integers(20, 90)), y + 12), outline=colour)
    return picture


def histology(rng: Rng) -> Image.Image:
    """Pink ground with purple nuclei."""
    noise = Image.fromarray((rng.random((256, 256)) * 255).astype(np.uint8))
    blurred = np.asarray(noise.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 6)))), dtype=np.float64)
    waves = np.clip((blurred - blurred.mean()) / (blurred.std() + 1e-6), -1, 3)[..., None]
    ground = np.array([0.86, 0.66, 0.80]) + rng.normal(0, 0.04, 3) - waves * np.array([0.12, 0.18, 0.06])
    picture = Image.fromarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(30, 200))):
        (x, y), r = rng.integers(0, 256, 2).tolist(), int(rng.integers(2, 6))
        colour = tuple(int(v) for v in np.clip(np.array([90, 60, 140]) + rng.normal(0, 15, 3), 0, 255))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(0.7))


def fundus(rng: Rng) -> Image.Image:
    """An orange disc on black with a bright optic disc and dark vessels."""
    ground = tuple(int(v) for v in np.clip(np.array([185, 80, 35]) + rng.normal(0, 20, 3), 0, 255))
    picture = Image.new("RGB", (256, 256), ground)
    draw = ImageDraw.Draw(picture)
    x, y = float(rng.choice([70, 180])), 128 + float(rng.normal(0, 10))
    draw.ellipse((x - 16, y - 18, x + 16, y + 18), fill=(250, 210, 130))
    for _ in range(10):
        px, py, angle = x, y, float(rng.uniform(0, 6.3))
        for _ in range(14):
            angle += float(rng.normal(0, 0.3))
            qx, qy = px + 10 * np.cos(angle), py + 10 * np.sin(angle)
            draw.line((px, py, qx, qy), fill=(120, 30, 15), width=2)
            px, py = qx, qy
    disc = Image.new("L", (256, 256), 0)
    ImageDraw.Draw(disc).ellipse((8, 8, 248, 248), fill=255)
    dark = Image.new("RGB", (256, 256), (2, 2, 2))
    dark.paste(picture.filter(ImageFilter.GaussianBlur(1)), (0, 0), disc)
    return dark


def page(rng: Rng) -> Image.Image:
    """Lines of words, dark or light, often under a coloured bar."""
    dark = rng.random() < 0.4
    picture = Image.new("RGB", (640, 480), (20, 20, 24) if dark else (250, 250, 250))
    draw = ImageDraw.Draw(picture)
    y = 20
    while y < 460:
        x = 20
        while x < 600 and rng.random() > 0.05:
            width = int(rng.integers(10, 70))
            plain = (220, 220, 220) if dark else (20, 20, 20)
            draw.rectangle((x, y, x + width, y + 6), fill=plain if rng.random() < 0.9 else _colour(rng))
            x += width + 8
        y += int(rng.integers(12, 26))
    if rng.random() < 0.6:
        draw.rectangle((0, 0, 640, 30), fill=_colour(rng))
    return picture


def chart(rng: Rng) -> Image.Image:
    """Axes with lines or bars."""
    picture = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(picture)
    draw.line((40, 320, 460, 320), fill=0)
    draw.line((40, 20, 40, 320), fill=0)
    for _ in range(int(rng.integers(1, 4))):
        heights = 320 - np.abs(np.cumsum(rng.normal(0, 20, 20))) % 290
        points = [(40.0 + 21 * i, float(height)) for i, height in enumerate(heights)]
        colour = _colour(rng)
        if rng.random() < 0.5:
            draw.line(points, fill=colour, width=2)
        else:
            for x, y in points:
                draw.rectangle((x, y, x + 12, 320), fill=colour)
    return picture


def drawing(rng: Rng) -> Image.Image:
    """Coloured shapes."""
    picture = Image.new("RGB", (320, 320), _colour(rng) if rng.random() < 0.5 else (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 15))):
        x, y, a, b = rng.integers(0, 320, 4).tolist()
        box, colour = (min(x, a), min(y, b), max(x, a) + 1, max(y, b) + 1), _colour(rng)
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(
            box, fill=colour if rng.random() < 0.6 else None, outline=colour
        )
    return picture


def _colour(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 255, 3).tolist()
    return red, green, blue


def made(make: Callable[[Rng], Image.Image], rng: Rng, count: int = _MADE) -> list[Image.Image]:
    """Some computed pictures of a kind."""
    return [make(rng) for _ in range(count)]


def fit(medical: list[Rows], others: list[Rows]) -> dict[str, object]:
    """Ridge logistic regression by Newton's method, each set with the same weight."""
    sets = [*medical, *others]
    rows = np.vstack(sets)
    truth = np.concatenate([np.full(len(s), float(i < len(medical))) for i, s in enumerate(sets)])
    share = np.concatenate(
        [np.full(len(s), 1 / len(s) / (len(medical) if i < len(medical) else len(others))) for i, s in enumerate(sets)]
    )
    share *= len(rows) / 2
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    design = np.c_[(rows - mean) / scale, np.ones(len(rows))]
    ridge = np.r_[np.full(design.shape[1] - 1, _RIDGE), 0.0]
    weights = np.zeros(design.shape[1])
    for _ in range(60):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (share * (chance - truth)) + ridge * weights
        curvature = (design * (share * chance * (1 - chance))[:, None]).T @ design + np.diag(ridge + 1e-9)
        weights -= np.linalg.solve(curvature, gradient)
    return {
        "statistics": list(NAMES),
        "mean": _rounded(mean),
        "scale": _rounded(scale),
        "weights": _rounded(weights[:-1]),
        "bias": round(float(weights[-1]), 6),
        "decline_below": DECLINE_BELOW,
        "medical_from": MEDICAL_FROM,
    }


def _rounded(values: Rows) -> list[float]:
    return [round(float(value), 6) for value in values]


def atlas_pictures() -> tuple[list[Image.Image], list[Image.Image]]:
    """Some renderings of the demonstration atlas, and its clinical samples."""
    records = [record for record in open_reader("demo").read() if isinstance(record, AtlasRecord)]
    renderings = [record for record in records if record.id.startswith("demo-")][::_EVERY]
    samples = [record for record in records if record.id.startswith("sample-")]
    first, second = ([decode_image(record.read_image()).image for record in each] for each in (renderings, samples))
    return first, second


def photos(folder: Path, rng: Rng) -> list[Image.Image]:
    """The folder's pictures and eight crops of each."""
    whole = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")]
    return [picture for each in whole for picture in (each, *crops(each, 8, rng))]


def main(arguments: list[str] | None = None) -> int:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.picture_gate", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of colour photographs, PNG or JPEG")
    parser.add_argument("--out", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    rng = np.random.default_rng(20261123)
    renderings, samples = atlas_pictures()
    medical = [
        renderings,
        samples + [crop for sample in samples for crop in crops(sample, 4, rng)],
        [varied(picture, rng) for picture in (*renderings, *(sample for sample in samples for _ in range(8)))],
        made(histology, rng),
        made(fundus, rng),
    ]
    others = [photos(parsed.photos, rng), made(page, rng) + made(chart, rng) + made(drawing, rng)]
    content = fit([features(each) for each in medical], [features(each) for each in others])
    parsed.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
