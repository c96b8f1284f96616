"""The training objective: soft multi-positive contrast, calibrated sigmoid, attributes, lesion patches and
arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES
from mirage_atlas.demo.lesions import LOBES, SIGNALS
from mirage_training.mini_clip.claims import SIDES, Claim, ImageTable
from mirage_training.mini_clip.model import GROUPS, SPOT, Heads

IGNORED = -100
LEVEL_UNIT_MM = 50.0
NARROW_MM = 18.0
"""A text's level is read by the level head only when its range is at most this wide."""


@dataclass(frozen=True)
class Targets:
    """Attribute targets of N inputs: int64 [N] by group (-100: not asked) and level [N, planes] in units (NaN: not
    asked).
    """

    groups: dict[str, Tensor]
    level: Tensor


def image_targets(table: ImageTable) -> Targets:
    """Returns the heads' targets for images.

    A picture that is not a section has its own class for plane, contrast and side.
    """
    groups: dict[str, Tensor] = {}
    for name, column, others in (
        ("plane", table.plane, True),
        ("sequence", table.sequence, True),
        ("side", table.side, True),
        ("lobe", table.lobe, False),
        ("signal", table.signal, False),
        ("lesion", table.lesion, False),
    ):
        missing = GROUPS[name] - 1 if others else IGNORED
        groups[name] = torch.from_numpy(np.where(column < 0, missing, column))
    level = np.full((len(table.plane), len(PLANES)), np.nan, dtype=np.float32)
    rows = np.flatnonzero(table.plane >= 0)
    level[rows, table.plane[rows]] = table.level[rows] / LEVEL_UNIT_MM
    return Targets(groups, torch.from_numpy(level))


def text_targets(claims: list[Claim]) -> Targets:
    """Returns the heads' targets for texts: only what each text claims, and the other class for texts about
    something else.
    """
    columns: dict[str, list[int]] = {name: [] for name in GROUPS}
    level = np.full((len(claims), len(PLANES)), np.nan, dtype=np.float32)
    for row, claim in enumerate(claims):
        for name, options, value in (
            ("plane", PLANES, claim.plane),
            ("sequence", SEQUENCES, claim.sequence),
            ("side", SIDES, claim.side),
            ("lobe", LOBES, claim.lobe),
            ("signal", SIGNALS, claim.signal),
        ):
            known = IGNORED if value is None else options.index(value)
            if not claim.brain and name in ("plane", "sequence"):
                known = GROUPS[name] - 1
            columns[name].append(known)
        columns["lesion"].append(IGNORED if claim.lesion is None else int(claim.lesion))
        for plane, (low, high) in claim.levels:
            if claim.plane == plane and high - low <= NARROW_MM:
                level[row, PLANES.index(plane)] = (low + high) / 2 / LEVEL_UNIT_MM
    return Targets({name: torch.tensor(values) for name, values in columns.items()}, torch.from_numpy(level))


WEIGHTS = {"lesion": 2.0, "side": 4.0, "lobe": 2.0}
"""Attributes that are learnt late count more; the others 1."""


def attribute_loss(heads: Heads, unit: Tensor, targets: Targets) -> Tensor:
    """Cross entropy of the asked attributes plus smooth L1 of the asked levels."""
    read = heads(unit)
    total = unit.new_zeros(())
    for name, target in targets.groups.items():
        if bool((target != IGNORED).any()):
            each = functional.cross_entropy(read[name], target, ignore_index=IGNORED)
            total = total + WEIGHTS.get(name, 1.0) * each
    asked = ~torch.isnan(targets.level)
    if bool(asked.any()):
        total = total + 4.0 * functional.smooth_l1_loss(read["level"][asked], targets.level[asked], beta=0.1)
    return total


LEVEL_BINS_MM = tuple(range(-120, 104, 4))
BIN_SPREAD_MM = 5.0


def level_bin_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """Returns the Kullback-Leibler divergence of predicted level bins, logits [N, planes, bins], from soft bins around the levels
    [N, planes] in units (NaN: not asked).

    A linear reader of the level in mm needs only one direction of the vectors, so the cosines of near levels hardly differ. Bins
    give each level its own directions.
    """
    asked = ~torch.isnan(levels)
    if not bool(asked.any()):
        return logits.new_zeros(())
    away = (levels[asked][:, None] * LEVEL_UNIT_MM - torch.tensor(LEVEL_BINS_MM, dtype=torch.float32)) / BIN_SPREAD_MM
    wanted = torch.softmax(-0.5 * away**2, dim=1)
    read = functional.log_softmax(logits[asked], dim=1)
    return functional.kl_div(read, wanted, reduction="batchmean")


def contrast_loss(cosines: Tensor, truths: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy from each row to its true columns, weighted as they are true; rows without any are left out."""
    sums = truths.sum(dim=1, keepdim=True)
    asked = sums[:, 0] > 0
    if not bool(asked.any()):
        return cosines.new_zeros(())
    wanted = truths[asked] / sums[asked]
    entropy = -(wanted * torch.log(wanted.clamp_min(1e-9))).sum(dim=1)
    loss = -(wanted * functional.log_softmax(cosines[asked] * scale, dim=1)).sum(dim=1)
    return (loss - entropy).mean()


def sigmoid_loss(cosines: Tensor, truths: Tensor, heads: Heads) -> Tensor:
    """Binary cross entropy of every pair: it ties an absolute cosine to being true, which `match` needs."""
    logits = cosines * heads.sigmoid[0] + heads.sigmoid[1]
    each = functional.binary_cross_entropy_with_logits(logits, truths, reduction="none")
    return (each * (1.0 + 4.0 * truths)).mean()


def patch_loss(heads: Heads, tokens: Tensor, shares: Tensor) -> Tensor:
    """Returns the binary cross entropy of the lesion share of each patch, which directs the tower to lesions early."""
    logits = heads.patches(tokens)[..., 0]
    each = functional.binary_cross_entropy_with_logits(logits, shares.clamp(0, 1), reduction="none")
    return (each * (1.0 + 9.0 * (shares > 0.1))).mean()


def lesion_side_loss(heads: Heads, unit: Tensor, table: ImageTable) -> Tensor:
    """Returns the cross entropy of left against right from images with a lesion off the sagittal plane: only the
    lesion shows a side.
    """
    rows = torch.from_numpy((table.lesion == 1) & (table.plane >= 0) & (table.plane != PLANES.index("sagittal")))
    if not bool(rows.any()):
        return unit.new_zeros(())
    return functional.cross_entropy(heads(unit[rows])["side"][:, :2], torch.from_numpy(table.side)[rows])


def spot_loss(heads: Heads, tokens: Tensor, shares: Tensor, targets: Targets) -> Tensor:
    """Returns the cross entropy of side, lobe and signal read from the lesion's patches, so that patches carry their
    place.
    """
    rows = (shares.sum(dim=1) > 0.2) & (targets.groups["lesion"] == 1)
    if not bool(rows.any()):
        return tokens.new_zeros(())
    weights = shares[rows] / shares[rows].sum(dim=1, keepdim=True)
    covered = functional.layer_norm((tokens[rows] * weights[..., None]).sum(dim=1), tokens.shape[-1:])
    logits = torch.split(heads.spot(covered), list(SPOT.values()), dim=1)
    total = tokens.new_zeros(())
    for name, read in zip(SPOT, logits, strict=True):
        total = total + functional.cross_entropy(read, targets.groups[name][rows])
    return total


def truth_matrix(rows: list[NDArray[np.float32]]) -> Tensor:
    """Truths of texts (rows) over images (columns) as one float32 tensor."""
    return torch.from_numpy(np.stack(rows))
