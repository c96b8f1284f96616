"""The tensors of an open_clip checkpoint: which file holds them, and whether they fit the model."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    State = dict[str, torch.Tensor]

# Names that checkpoints on the hub carry, in open_clip's order of preference (open_clip/factory.py).
# `model.safetensors` is
# not among them: in timm's repositories it holds the image tower alone, under other keys.
WEIGHTS_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pt",
    "open_clip_pytorch_model.pth",
)
# Present in checkpoints of older libraries, and not weights: positions 0, 1, 2, ... of a BERT tower, sizes of OpenAI's
# files.
_NOT_WEIGHTS = ("text.transformer.embeddings.position_ids", "input_resolution", "context_length", "vocab_size")
_PREFIX = "module."  # of a model that was trained on several devices
_NAMED = 3


def find_weights(directory: Path) -> Path:
    """Returns the file with the weights.

    Raises CheckpointError unless there is exactly one to choose.
    """
    for name in WEIGHTS_FILES:
        if (directory / name).is_file():
            return directory / name
    others = sorted(path for path in directory.glob("*") if path.suffix in (".pt", ".pth"))
    if len(others) == 1:
        return others[0]
    found = ", ".join(path.name for path in others) or "none"
    raise CheckpointError(f"no weights: expected {', '.join(WEIGHTS_FILES)} or one .pt file; other .pt files: {found}")


def read_weights(path: Path) -> State:
    """The tensors by name, without the wrapping of a training run.

    Raises CheckpointError. No code of the file is run.
    """
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise CheckpointError(f"{path.name} cannot be read as weights: {reason}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path.name} holds no weights by name")
    if all(isinstance(name, str) and name.startswith(_PREFIX) for name in content):
        content = {name.removeprefix(_PREFIX): tensor for name, tensor in content.items()}
    state: State = {}
    for name, tensor in content.items():
        if name in _NOT_WEIGHTS:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{path.name}: {str(name)[:80]} is no tensor")
        state[str(name)] = tensor
    return state


def _is_zip(path: Path) -> bool:
    # Files of torch before 1.6 are not archives and cannot be mapped.
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def load_into(model: torch.nn.Module, state: Mapping[str, torch.Tensor], *, name: str) -> None:
    """Copy the tensors into the model, in its own precision.

    Raises CheckpointError unless they are all its, and finite.
    """
    wanted = model.state_dict()
    for tensor in ("logit_scale", "logit_bias"):
        # One number, in some checkpoints as a vector of one.
        if tensor in state and tensor in wanted and state[tensor].numel() == 1:
            state = {**state, tensor: state[tensor].reshape(wanted[tensor].shape)}
    if missing := sorted(wanted.keys() - state.keys()):
        raise CheckpointError(f"{name} lacks {_some(missing)}, which the configuration asks for")
    if extra := sorted(state.keys() - wanted.keys()):
        raise CheckpointError(f"{name} holds {_some(extra)}, which the configuration does not know")
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(
                f"{name}: {key} has shape {tuple(tensor.shape)}, the configuration asks for {tuple(wanted[key].shape)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name}: {key} holds values that are not finite")
    model.load_state_dict(dict(state))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
