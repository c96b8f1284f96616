"""Views of the training images: each picture taken again in another way, and its features from the frozen stages, in shards.

The first stages of the image tower stay as ImageNet left them, so their output is computed once a view: `prepare` writes shards,
seeded by their numbers, and passes over those that are there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_clip.facts import Item
from mirage_training.mini_clip.items import Made

Rng = np.random.Generator
SIDE_PX = 192
SHARD = 1024
MIX = {"brain": 0.42, "real": 0.34, "volumes": 0.14, "pictures": 0.02, "others": 0.08}
"""Share of each source in a shard."""
VIEW_SHAPE = (112, 12, 12)
"""What the frozen stages give for a view: channels, rows and columns."""
FLIPPED = ("microscopy", "dermoscopy", "histology")
BLOCK = 64


def taken_again(image: Image.Image, item: Item, rng: Rng) -> Image.Image:
    """The picture as another camera, scanner, screenshot or file might give it: RGB, SIDE_PX square.

    Nothing that shows a side is mirrored. Renderings keep their field of view, because levels are read from it.
    """
    rendered = item.spec is not None
    width, height = image.size
    if not rendered and rng.random() < 0.3:
        longest = int(rng.integers(64, 160))
        image = ImageOps.contain(image, (longest, longest), Image.Resampling.BILINEAR)
        width, height = image.size
    angle = float(rng.normal(0, 3.5 if rendered else 5)) * np.pi / 180
    if rendered:
        scale_x, scale_y = (float(np.clip(rng.normal(1, 0.035), 0.9, 1.1)) for _ in range(2))
        shift_x, shift_y = (float(np.clip(rng.normal(0, 0.02), -0.06, 0.06)) for _ in range(2))
    else:
        zoom = float(np.exp(rng.uniform(-0.35, 0.12))) if rng.random() < 0.8 else 1.0
        aspect = float(np.exp(rng.normal(0, 0.07)))
        scale_x, scale_y = zoom * aspect, zoom / aspect
        free_x, free_y = max(0.0, 1 - scale_x) / 2, max(0.0, 1 - scale_y) / 2
        shift_x, shift_y = float(rng.uniform(-free_x, free_x)), float(rng.uniform(-free_y, free_y))
    flip_x = flip_y = 1.0
    if {f"modality:{each}" for each in FLIPPED} & item.facts:
        flip_x, flip_y = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(2))
        angle = float(rng.uniform(-np.pi, np.pi)) if rng.random() < 0.5 else angle
    elif {"modality:us", "body:hand", "kind:other"} & item.facts and rng.random() < 0.5:
        flip_x = -1.0
    cos, sin = np.cos(angle), np.sin(angle)
    # From target pixels to source pixels, both about their middles.
    a, b = width / SIDE_PX * scale_x * cos * flip_x, -width / SIDE_PX * scale_x * sin * flip_y
    d, e = height / SIDE_PX * scale_y * sin * flip_x, height / SIDE_PX * scale_y * cos * flip_y
    c = width * (0.5 + shift_x) - (a + b) * SIDE_PX / 2
    f = height * (0.5 + shift_y) - (d + e) * SIDE_PX / 2
    if max(abs(a), abs(e)) > 1.6:
        shrink = max(abs(a), abs(e)) / 1.3
        image = image.resize((max(1, round(width / shrink)), max(1, round(height / shrink))), Image.Resampling.BOX)
        ratio_x, ratio_y = image.width / width, image.height / height
        a, b, c, d, e, f = a * ratio_x, b * ratio_x, c * ratio_x, d * ratio_y, e * ratio_y, f * ratio_y
    fill = int(rng.choice([0, 0, 255, 128])) if not rendered else 0
    image = image.transform(
        (SIDE_PX, SIDE_PX), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC, fillcolor=(fill,) * 3
    )
    if any(fact.startswith("structure:") for fact in item.facts) and rng.random() < 0.7:
        image = warped(image, rng)
    if not rendered and rng.random() < 0.15:
        edge = int(rng.integers(4, 28))
        inner = image.resize((SIDE_PX - 2 * edge,) * 2, Image.Resampling.BILINEAR)
        image = Image.new("RGB", image.size, (int(rng.choice([0, 0, 255, 200])),) * 3)
        image.paste(inner, (edge, edge))
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.1))))
    pixels = np.asarray(image, np.float32) / 255
    pixels = pixels ** float(np.exp(rng.normal(0, 0.13 if rendered else 0.25)))
    pixels = pixels * float(rng.normal(1, 0.06 if rendered else 0.12))
    if not rendered:
        pixels = pixels + float(rng.normal(0, 0.04))
        if pixels.std(axis=2).mean() > 0.01:
            pixels = pixels * rng.normal(1, 0.06, 3).astype(np.float32)
            if rng.random() < 0.06:
                pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    else:
        small = Image.fromarray(rng.normal(1, 0.05, (3, 3)).astype(np.float32))
        pixels = pixels * np.asarray(small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))[..., None]
    if rng.random() < 0.6:
        noise = rng.standard_normal((SIDE_PX, SIDE_PX, 1), dtype=np.float32)
        pixels = pixels + noise * float(rng.uniform(0, 0.035))
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(35, 92)))
        image = Image.open(buffer).convert("RGB")
    return image


def warped(image: Image.Image, rng: Rng, cells: int = 4) -> Image.Image:
    """Returns a square picture distorted as if it were of another body: inner points of a grid move, and the cells stretch."""
    side = image.width
    knots = np.stack(np.meshgrid(*[np.linspace(0, side, cells + 1)] * 2), axis=-1)
    knots[1:-1, 1:-1] += rng.normal(0, 0.05 * side, (cells - 1, cells - 1, 2)).clip(-0.1 * side, 0.1 * side)
    mesh = []
    for row in range(cells):
        for column in range(cells):
            corners = knots[[row, row + 1, row + 1, row], [column, column, column + 1, column + 1]]
            box = (column * side // cells, row * side // cells, (column + 1) * side // cells, (row + 1) * side // cells)
            mesh.append((box, tuple(corners.ravel())))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BICUBIC)


def plain(image: Image.Image) -> Image.Image:
    """The picture as the encoder's preprocessing gives it: SIDE_PX square, nothing cut off."""
    return image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)


def as_pixels(images: list[Image.Image]) -> Tensor:
    """float32 [N, 3, SIDE_PX, SIDE_PX] in -1..1, which EfficientNet-Lite takes."""
    stack = np.stack([np.asarray(image, np.float32) for image in images]) / 127.5 - 1
    return torch.from_numpy(stack.transpose(0, 3, 1, 2).copy())


def write_shard(
    path: Path, number: int, seed: int, makers: dict[str, Callable[[Rng], Made]], stem: Callable[[Tensor], Tensor]
) -> None:
    """Writes one shard: float16 features [SHARD, channels, h, w] and its items, whole or not at all."""
    rng = np.random.default_rng([seed, number])
    names = [name for name, share in MIX.items() for _ in range(round(share * SHARD))]
    names = (names + ["others"] * SHARD)[:SHARD]
    items, parts = [], []
    for start in range(0, SHARD, BLOCK):
        images = []
        for name in names[start : start + BLOCK]:
            item, image = makers[name](rng)
            items.append(item)
            images.append(taken_again(image, item, rng))
        parts.append(stem(as_pixels(images)).half().numpy())
    features: NDArray[np.float16] = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".jsonl").write_text("".join(item_to_json(item) + "\n" for item in items), "utf-8")
    with (path.parent / (path.name + ".part")).open("wb") as file:
        np.save(file, features)
    (path.parent / (path.name + ".part")).replace(path)


def read_shard(path: Path) -> tuple[NDArray[np.float16], list[Item]]:
    """Features, mapped from the file, and items of a shard that this project wrote.

    Raises ValueError if it was written with other frozen stages.
    """
    lines = path.with_suffix(".jsonl").read_text("utf-8").splitlines()
    features = np.load(path, mmap_mode="r")
    if features.shape[1:] != VIEW_SHAPE:
        raise ValueError(f"{path} was written by an earlier `prepare`: delete the views and run `prepare` again")
    return features, [item_from_json(line) for line in lines]


def item_to_json(item: Item) -> str:
    """Returns an item as one line."""
    fields = {**asdict(item), "facts": sorted(item.facts), "closed": sorted(item.closed)}
    return json.dumps(fields, ensure_ascii=False)


def item_from_json(line: str) -> Item:
    """Returns the item of a line."""
    fields = json.loads(line)
    if fields["spec"] is not None:
        lesion = fields["spec"].pop("lesion")
        if lesion is not None:
            lesion = Lesion(**{**lesion, "centre_mm": tuple(lesion["centre_mm"]), "axes_mm": tuple(lesion["axes_mm"])})
        fields["spec"] = SectionSpec(**fields["spec"], lesion=lesion)
    return Item(**{**fields, "facts": frozenset(fields["facts"]), "closed": frozenset(fields["closed"])})
