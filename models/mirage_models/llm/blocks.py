"""Weights in blocks: int4 and int8 with one scale for some neighbours, as ONNX Runtime's MatMulNBits holds them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

Bits: TypeAlias = Literal[4, 8]
# Of these shares of the scale that just holds the largest value, the one with the least squared error is taken, block
# by
# block: cutting off one large value can be better than coarse steps for the others.
_SHARES = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 1.05)
_ROWS_BYTES = 2**20


@dataclass(frozen=True)
class Blocks:
    """A matrix [N, K] in B = K / block blocks along K: uint8 [N, B, block * bits / 8], and float32 scales [N * B]."""

    values: Bytes
    scales: Floats
    bits: Bits

    def dequantised(self, columns: int) -> Floats:
        """The matrix [N, columns] that a kernel multiplies with."""
        blocks = self.values
        if self.bits == 4:
            blocks = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*blocks.shape[:2], -1)
        centred = blocks.astype(np.float32) - (8 if self.bits == 4 else 128)
        scaled = centred * self.scales.reshape(*blocks.shape[:2], 1)
        result: Floats = scaled.reshape(len(scaled), -1)[:, :columns]
        return result


@dataclass(frozen=True)
class Stored:
    """A matrix [N, K] that a checkpoint stores in 4 bits itself: `scale` * `steps` + `low`.

    `steps` is uint8 [N, K] from 0 to 15; `scale` and `low` are float32 [N, K / 32].
    """

    steps: Bytes
    scale: Floats
    low: Floats

    @property
    def blocks(self) -> Blocks:
        """The part that is symmetric about 8, exactly."""
        pairs = self.steps.reshape(*self.scale.shape, STORED_BLOCK // 2, 2)
        packed: Bytes = pairs[..., 0] | (pairs[..., 1] << np.uint8(4))
        return Blocks(packed, self.scale.reshape(-1), 4)

    @property
    def centre(self) -> Floats:
        """The rest: what is added to every weight of a block, float32 [N, K / 32]."""
        return self.low + np.float32(8) * self.scale


STORED_BLOCK = 32


def quantise(weights: Floats, bits: Bits, *, block: int, threads: int = 2) -> Blocks:
    """Returns blocks of a float32 matrix [N, K], symmetric about zero; the same bytes for any number of threads.

    `block` is 16, 32, 64 or more by powers of two; if K is not a multiple of it, the last block is filled with zeros.
    """
    rows, columns = weights.shape
    count = -(-columns // block)
    values = np.empty((rows, count, block * bits // 8), np.uint8)
    scales = np.empty((rows, count), np.float32)
    step = max(1, _ROWS_BYTES // (4 * columns))

    def work(first: int) -> None:
        part = weights[first : first + step]
        if columns % block:
            part = np.pad(part, ((0, 0), (0, count * block - columns)))
        blocks = np.ascontiguousarray(part, np.float32).reshape(len(part), count, block)
        quantised, scale = (_four if bits == 4 else _eight)(blocks)
        values[first : first + step] = quantised
        scales[first : first + step] = scale

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, rows, step)))
    return Blocks(values, scales.reshape(-1), bits)


def quantise_columns(weights: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Returns int8 [K, N] and scales float32 [N] of a float32 matrix [N, K], symmetric about zero."""
    rows, columns = weights.shape
    values, scales = np.empty((columns, rows), np.int8), np.empty(rows, np.float32)
    step = max(1, _ROWS_BYTES // (4 * columns))
    for first in range(0, rows, step):
        part = weights[first : first + step]
        scale = np.abs(part).max(-1, keepdims=True) / np.float32(127)
        steps = part * np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
        values[:, first : first + step] = np.rint(steps).T
        scales[first : first + step] = scale[:, 0]
    return values, scales


def _four(blocks: Floats) -> tuple[Bytes, Floats]:
    # The value of largest magnitude becomes -8, the one end that has a step more (as in llama.cpp's Q4_0).
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    full = largest / np.float32(-8)
    best = np.full(blocks.shape[:2], -np.inf, np.float32)
    values, scales = np.zeros(blocks.shape, np.int8), np.zeros(blocks.shape[:2], np.float32)
    for share in _SHARES:
        scale = full * np.float32(share)
        steps = blocks * np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
        np.rint(steps, out=steps)
        np.clip(steps, -8, 7, out=steps)
        # For given steps the least squares scale is <w, q> / <q, q>, and the error |w|^2 - <w, q>^2 / <q, q>.
        product = np.einsum("rbk,rbk->rb", blocks, steps)
        square = np.einsum("rbk,rbk->rb", steps, steps)
        gain = np.divide(product * product, square, out=np.zeros_like(square), where=square > 0)
        better = gain > best
        best = np.where(better, gain, best)
        scales = np.where(better, np.divide(product, square, out=np.zeros_like(square), where=square > 0), scales)
        np.copyto(values, steps.astype(np.int8), where=better[..., None])
    unsigned = (values + np.int8(8)).astype(np.uint8)
    packed: Bytes = unsigned[..., 0::2] | (unsigned[..., 1::2] << np.uint8(4))
    return packed, scales


def _eight(blocks: Floats) -> tuple[Bytes, Floats]:
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    steps = blocks * np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    return (np.rint(steps) + 128).astype(np.uint8), scale[..., 0]
