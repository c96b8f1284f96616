"""An LCM-LoRA into the weights of a UNet: W + up x down x alpha / rank.

Source: Hu et al., "LoRA", 2021; the keys are those of kohya-ss/sd-scripts, in which latent-consistency/lcm-lora-sdv1-5
is published. Checked against diffusers' `load_lora_weights` and `fuse_lora`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

LORA_FILE = "pytorch_lora_weights.safetensors"
_PREFIX = "lora_unet_"


def fuse_lora(unet: Any, source: Path) -> int:
    """Adds the LoRA in `source` (a file, or a folder with one) to the UNet's weights.

    Returns the number of changed layers.

    Raises CheckpointError if the file has another form or belongs to another model.
    """
    path = source if source.is_file() else source / LORA_FILE
    if not path.is_file():
        raise CheckpointError(f"the LoRA has no {LORA_FILE}")
    modules = {name.replace(".", "_"): module for name, module in unet.named_modules() if hasattr(module, "weight")}
    count = 0
    try:
        with safe_open(str(path), framework="pt") as tensors:
            for layer in _layers(list(tensors.keys())):
                module = modules.get(layer)
                if module is None:
                    raise CheckpointError(f"the LoRA is for another model: this UNet has no layer {layer}")
                key = _PREFIX + layer
                down = tensors.get_tensor(f"{key}.lora_down.weight").float()
                up = tensors.get_tensor(f"{key}.lora_up.weight").float()
                rank = down.shape[0]
                names = tensors.keys()  # a file of tensors has no `in`
                alpha = float(tensors.get_tensor(f"{key}.alpha")) if f"{key}.alpha" in names else rank
                _add(module.weight, up, down, alpha / rank, layer)
                count += 1
    except CheckpointError:
        raise
    except Exception as error:  # the library's own errors share no narrower base
        raise CheckpointError(f"the LoRA cannot be read: {path.name}") from error
    return count


def _layers(keys: list[str]) -> Iterator[str]:
    if not keys:
        raise CheckpointError("the LoRA is empty")
    for key in sorted(keys):
        if not key.startswith(_PREFIX):
            raise CheckpointError(f"the LoRA has a layer {key}; only layers of a UNet in kohya's form are known")
        layer, _, rest = key.removeprefix(_PREFIX).partition(".")
        if rest not in ("lora_down.weight", "lora_up.weight", "alpha"):
            raise CheckpointError(f"the LoRA has a tensor {key}; lora_down, lora_up and alpha are known")
        if rest == "lora_down.weight":
            yield layer


def _add(weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor, scale: float, layer: str) -> None:
    change = (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])
    if change.shape != weight.shape:
        if change.numel() != weight.numel():
            raise CheckpointError(f"the LoRA is for another model: {layer} has shape {tuple(weight.shape)} here")
        change = change.reshape(weight.shape)  # a linear layer kept as a 1 x 1 convolution
    with torch.no_grad():
        weight += scale * change
