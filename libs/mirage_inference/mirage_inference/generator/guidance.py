"""Guidance, which makes an image follow its prompt: an input of a native latent consistency UNet, or a second run of
the UNet.
"""

import numpy as np

from mirage_inference.engines.base import FloatArray


def guidance_embedding(scale: float, dimension: int) -> FloatArray:
    """float32[1, dimension]: the guidance scale as a native LCM's UNet takes it.

    Sines and cosines of the scale less one, as `get_guidance_scale_embedding` of diffusers'
    LatentConsistencyModelPipeline has it (after google-research/vdm, model_vdm.py); an odd dimension ends in a zero.
    """
    half = dimension // 2
    # In float32, step by step: the angles reach thousands, and float64 would round them to other sines.
    frequencies = np.exp(np.arange(half, dtype=np.float32) * -(np.log(np.float32(10_000.0)) / np.float32(half - 1)))
    angles = np.float32(scale - 1.0) * np.float32(1000.0) * frequencies
    out = np.zeros((1, dimension), dtype=np.float32)
    out[0, :half], out[0, half : 2 * half] = np.sin(angles), np.cos(angles)
    return out


def combine(unconditional: FloatArray, conditional: FloatArray, scale: float) -> FloatArray:
    """Classifier-free guidance (Ho and Salimans 2022, in the form of Imagen): beyond the prompt, away from none."""
    return np.asarray(unconditional + np.float32(scale) * (conditional - unconditional), dtype=np.float32)
