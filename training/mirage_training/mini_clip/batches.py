"""Training batches: fresh sections and negatives with their augmentation, and their texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mirage_atlas.demo.contrast import SEQUENCES, Sequence, contrast_volume
from mirage_atlas.demo.landmarks import PLANES, Plane
from mirage_atlas.demo.lesions import BRIGHTNESS, SIGNALS, draw_lesion, lesion_mask, with_lesion
from mirage_atlas.demo.sections import FIELD_MM, LEVELS_MM, Lesion, SectionSpec, section
from mirage_atlas.demo.template import Template
from mirage_training.mini_clip.claims import Shown
from mirage_training.mini_clip.model import OPENAI_MEAN, OPENAI_STD

HELD_OUT_STEP_MM = 4
"""Levels that are multiples of this belong to the atlas and the evaluation; training uses those midway between them."""

SIDE_PX = 120
PATCH_PX = 12
LESION_SHARE = 0.68
NEGATIVE_SHARE = 0.08
SAMPLE_SHARE = 0.08


@dataclass(frozen=True)
class Pictures:
    """Native pictures before augmentation: float32 [N, FIELD_MM, FIELD_MM] 0..1, lesion masks alike, what each
    shows.
    """

    pixels: NDArray[np.float32]
    masks: NDArray[np.float32]
    shown: list[Shown]


class SectionSource:
    """Draws section specs of training levels and lesion places, and renders them."""

    def __init__(self, template: Template, samples: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        self.template = template
        self.volumes = {sequence: contrast_volume(template, sequence) for sequence in SEQUENCES}
        self.tissue = (template.grey + template.white).astype(np.float32)
        self.samples = dict(samples or {})

    def training_level(self, plane: Plane, rng: np.random.Generator) -> int:
        """A level midway between two held-out ones: 2 mm from the nearest."""
        low, high = LEVELS_MM[plane]
        return int(rng.integers(low // 4, high // 4)) * HELD_OUT_STEP_MM + 2

    def draw(self, rng: np.random.Generator) -> SectionSpec:
        """A section of a training level, more often than not with a lesion in a training cell."""
        plane = PLANES[int(rng.integers(3))]
        sequence = SEQUENCES[int(rng.integers(3))]
        level = self.training_level(plane, rng)
        lesion = None
        if rng.random() < LESION_SHARE:
            for _ in range(4):
                lesion = draw_lesion(
                    self.template, rng, plane=plane, level_mm=level, sequence=sequence, want_held_out=False
                )
                if lesion:
                    break
                level = self.training_level(plane, rng)
        return SectionSpec(plane, level, sequence, lesion)

    def counterpart(self, spec: SectionSpec, rng: np.random.Generator) -> SectionSpec:
        """The same section but for one attribute: contrast, side, signal, lesion or plane."""
        kind = int(rng.integers(5))
        lesion = spec.lesion
        if lesion and spec.plane != "sagittal" and rng.random() < 0.4:
            return mirrored(spec)
        if kind == 0 or (lesion is None and kind in (2, 3)):
            others: list[Sequence] = [s for s in SEQUENCES if s != spec.sequence]
            return replace(spec, sequence=others[int(rng.integers(2))])
        if lesion is None and spec.plane == "sagittal" and kind == 1:
            return mirrored(spec)
        if lesion is None:
            return replace(spec, level_mm=self.training_level(spec.plane, rng))
        if kind == 1:
            return mirrored(spec)
        if kind == 2:
            return replace(spec, lesion=replace(lesion, signal=SIGNALS[1 - SIGNALS.index(lesion.signal)]))
        if kind == 3:
            return replace(spec, lesion=None)
        plane = [p for p in PLANES if p != spec.plane][int(rng.integers(2))]
        centre = lesion.centre_mm[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]]
        return replace(spec, plane=plane, level_mm=int(np.floor(centre / 4)) * 4 + 2)

    def render(self, spec: SectionSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The section and its lesion mask, float32 [FIELD_MM, FIELD_MM] each."""
        picture = section(self.volumes[spec.sequence], spec.plane, spec.level_mm)
        if spec.lesion is None:
            return picture, np.zeros_like(picture)
        mask = lesion_mask(spec.lesion, spec.plane, spec.level_mm)
        tissue = section(self.tissue, spec.plane, spec.level_mm)
        return with_lesion(picture, tissue, mask, BRIGHTNESS[(spec.sequence, spec.lesion.signal)]), mask

    def negative(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A picture that is not in the atlas: a computed one, or a clinical sample or section cut up past
        recognition.
        """
        if rng.random() < 0.4:
            return negative(rng)
        names = sorted(self.samples)
        if names and rng.random() < 0.6:
            source = self.samples[names[int(rng.integers(len(names)))]]
        else:
            source = self.render(self.draw(rng))[0]
        return cut_up(source, rng)

    def pictures(self, count: int, rng: np.random.Generator) -> Pictures:
        """Returns a batch: pairs that differ in one attribute, a few clinical samples, a few pictures that are not
        sections.
        """
        negatives = round(count * NEGATIVE_SHARE)
        clinical = round(count * SAMPLE_SHARE) if self.samples else 0
        specs: list[SectionSpec] = []
        while len(specs) < count - negatives - clinical:
            spec = self.draw(rng)
            specs += [spec, self.counterpart(spec, rng)]
        specs = specs[: count - negatives - clinical]
        rendered = [self.render(spec) for spec in specs]
        shown = [Shown(spec=spec) for spec in specs]
        empty = np.zeros((FIELD_MM, FIELD_MM), dtype=np.float32)
        names = sorted(self.samples)
        for _ in range(clinical):
            name = names[int(rng.integers(len(names)))]
            rendered.append((self.samples[name], empty))
            shown.append(Shown(sample=name))
        for _ in range(negatives):
            rendered.append((self.negative(rng), empty))
            shown.append(Shown())
        return Pictures(np.stack([p for p, _ in rendered]), np.stack([m for _, m in rendered]), shown)


def mirrored(spec: SectionSpec) -> SectionSpec:
    """The section on the other side of the symmetric template: the lesion's x and the sagittal level change sign."""
    lesion: Lesion | None = None
    if spec.lesion:
        x, y, z = spec.lesion.centre_mm
        lesion = replace(spec.lesion, side="left" if spec.lesion.side == "right" else "right", centre_mm=(-x, y, z))
    return replace(spec, level_mm=-spec.level_mm if spec.plane == "sagittal" else spec.level_mm, lesion=lesion)


def cut_up(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A picture with its blocks in random order, or a small part of it enlarged and turned, sometimes inverted."""
    side = FIELD_MM
    if rng.random() < 0.5:
        blocks = int(rng.choice([2, 3, 4, 6]))
        size = side // blocks
        tiles = [
            picture[r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(blocks) for c in range(blocks)
        ]
        order = rng.permutation(len(tiles))
        rows = [np.concatenate([tiles[i] for i in order[r * blocks : (r + 1) * blocks]], axis=1) for r in range(blocks)]
        result = np.concatenate(rows, axis=0)
    else:
        size = int(rng.integers(24, 72))
        middle = (side - size) // 2
        top, left = (int(np.clip(rng.normal(middle, 22), 0, side - size)) for _ in range(2))
        part = torch.from_numpy(np.ascontiguousarray(picture[top : top + size, left : left + size]))[None, None]
        result = functional.interpolate(part, size=(side, side), mode="bilinear")[0, 0].numpy()
    result = np.rot90(result, int(rng.integers(4)))
    return np.ascontiguousarray(1.0 - result if rng.random() < 0.3 else result, dtype=np.float32)


def negative(rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns a picture that is not a section: flat, noise, smooth clouds, stripes, blocks or blobs; float32 0..1."""
    side = FIELD_MM
    kind = int(rng.integers(6))
    if kind == 0:
        return np.full((side, side), rng.random(), dtype=np.float32)
    if kind == 1:
        return rng.random((side, side), dtype=np.float32)
    if kind in (2, 5):
        grid = rng.random((int(rng.integers(3, 24)),) * 2)
        cloud = functional.interpolate(
            torch.from_numpy(grid)[None, None].float(), size=(side, side), mode="bilinear" if kind == 2 else "bicubic"
        )
        picture = cloud[0, 0].numpy()
        if kind == 5:
            picture = (picture > 0.5) * rng.random() + 0.2 * picture
        clipped: NDArray[np.float32] = np.clip(picture, 0, 1).astype(np.float32)
        return clipped
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    if kind == 3:
        angle, period = rng.random() * np.pi, rng.uniform(4, 60)
        wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / period)
        waves: NDArray[np.float32] = (0.5 + 0.5 * wave * rng.random()).astype(np.float32)
        return waves
    picture = np.full((side, side), rng.random() * 0.4, dtype=np.float32)
    for _ in range(int(rng.integers(1, 8))):
        y, x = rng.integers(0, side, 2)
        h, w = rng.integers(8, 110, 2)
        if rng.random() < 0.5:
            picture[y : y + h, x : x + w] = rng.random()
        else:
            picture[((rows - y) / h) ** 2 + ((columns - x) / w) ** 2 < 1] = rng.random()
    return picture


def augmented(pictures: Pictures, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Model input [N, 3, 120, 120] (OpenAI-normalised) and lesion share of each patch [N, patches].

    A mild affine change, blur, gamma, gain, uneven field and noise; no flip, because sides mean something.
    """
    count = len(pictures.shown)
    stack = torch.from_numpy(np.stack([pictures.pixels, pictures.masks], axis=1))
    angle = torch.from_numpy(rng.normal(0, 3.5, count).clip(-9, 9) * np.pi / 180).float()
    scale = torch.from_numpy(rng.normal(1, 0.035, (count, 2)).clip(0.9, 1.1)).float()
    shift = torch.from_numpy(rng.normal(0, 0.02, (count, 2)).clip(-0.06, 0.06)).float()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = torch.cos(angle) * scale[:, 0], -torch.sin(angle) * scale[:, 1]
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(angle) * scale[:, 0], torch.cos(angle) * scale[:, 1]
    theta[:, :, 2] = shift
    blurred = stack.clone()
    # Slices, because a one-channel convolution is several times slower here.
    blurred[:, :, 1:-1] = 0.5 * stack[:, :, 1:-1] + 0.25 * (stack[:, :, :-2] + stack[:, :, 2:])
    blurred[:, :, :, 1:-1] = 0.5 * blurred[:, :, :, 1:-1] + 0.25 * (blurred[:, :, :, :-2] + blurred[:, :, :, 2:])
    mix = torch.from_numpy(rng.uniform(0.2, 1.2, (count, 1, 1, 1))).float()
    stack = stack + (blurred - stack) * mix
    grid = functional.affine_grid(theta, [count, 2, SIDE_PX, SIDE_PX], align_corners=False)
    sampled = functional.grid_sample(stack, grid, mode="bilinear", align_corners=False)
    pixels, masks = sampled[:, :1].clamp(0, 1), sampled[:, 1:]
    pixels = pixels ** torch.from_numpy(np.exp(rng.normal(0, 0.13, (count, 1, 1, 1)))).float()
    field = torch.from_numpy(rng.normal(0, 0.05, (count, 1, 3, 3))).float()
    field = functional.interpolate(field, size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=True)
    gain = torch.from_numpy(rng.normal(1, 0.06, (count, 1, 1, 1))).float()
    noise_level = torch.from_numpy(
        rng.uniform(0, 0.03, (count, 1, 1, 1)) * (rng.random((count, 1, 1, 1)) < 0.7)
    ).float()
    noise = torch.from_numpy(rng.standard_normal((count, 1, SIDE_PX, SIDE_PX), dtype=np.float32))
    pixels = (pixels * gain * (1 + field) + noise * noise_level).clamp(0, 1)
    return normalised(pixels), functional.avg_pool2d(masks, PATCH_PX).flatten(1)


def normalised(pixels: Tensor) -> Tensor:
    """Grey pixels [N, 1, H, W] in 0..1 as the three normalised channels that CLIP takes."""
    mean = torch.tensor(OPENAI_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(OPENAI_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std
