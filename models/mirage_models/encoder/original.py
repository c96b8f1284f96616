"""The PyTorch original, run by open_clip's own tokenizer, transform and model: what a bundle is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from PIL import Image

    from mirage_models.encoder.checkpoint import Checkpoint

    Vectors = npt.NDArray[np.float32]

_BATCH = 32


class Original:
    """Unit vectors in float32 as open_clip gives them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model: Any = checkpoint.model
        self._tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{checkpoint.directory}")
        self._transform: Any = image_transform_v2(PreprocessCfg(**checkpoint.preprocess_cfg), is_train=False)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 array of shape (texts, dimension)."""
        return self._batched(lambda part: self._model.encode_text(self._tokenizer(list(part)), normalize=True), texts)

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """float32 array of shape (images, dimension)."""
        return self._batched(
            lambda part: self._model.encode_image(
                torch.stack([self._transform(each) for each in part]), normalize=True
            ),
            images,
        )

    @staticmethod
    def _batched(encode: Any, items: Sequence[Any]) -> Vectors:
        with torch.inference_mode():
            parts = [encode(items[start : start + _BATCH]).numpy() for start in range(0, len(items), _BATCH)]
        return np.concatenate(parts).astype(np.float32)
