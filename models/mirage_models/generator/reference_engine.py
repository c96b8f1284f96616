"""A checkpoint run by diffusers' and transformers' own modules behind the generator's engine Protocol.

The reference that the other engines are compared with, step by step, and a way to run a checkpoint on a GPU. It reads a
checkpoint's folders, not ONNX files, and needs torch, so it belongs to the build environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import diffusers
import numpy as np
import torch

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import TINY_DECODER
from mirage_inference.generator.model import GeneratorModel, network_names
from mirage_inference.generator.tokenizer import PromptTokenizer
from mirage_models.generator.checkpoint import load_text, load_tiny, load_unet, load_vae
from mirage_models.generator.export import Decoder, TextTower, UNet
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from mirage_inference.bundles import GeneratorManifest
    from mirage_inference.engines.base import EngineOptions, FloatArray, Inputs
    from mirage_models.generator.checkpoint import Checkpoint

Module: TypeAlias = Any

VARIANT = "original"


class TorchSession:
    """One module of PyTorch. Calls from several threads are as safe as the module's own `forward`, which keeps no
    state.
    """

    def __init__(self, module: Module, names: Collection[str], *, device: torch.device) -> None:
        self._module: Module | None = module
        self._names = tuple(names)
        self._device = device
        self._dtype = next(module.parameters()).dtype

    def run(self, inputs: Inputs) -> FloatArray:
        """See Session.run."""
        if self._module is None:
            raise MirageError(Code.MODEL_NOT_READY)
        try:
            if set(inputs) != set(self._names):
                raise ValueError(f"takes {self._names}, was given {tuple(inputs)}")
            with torch.inference_mode():
                output = self._module(*(self._tensor(inputs[name]) for name in self._names))
            return np.array(output.float().cpu().numpy(), dtype=np.float32)
        except Exception as error:  # torch's exceptions share no narrower base
            raise MirageError(Code.MODEL_FAILED) from error

    def close(self) -> None:
        """See Session.close."""
        self._module = None

    def _tensor(self, array: Any) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self._device, self._dtype if tensor.is_floating_point() else tensor.dtype)


class ReferenceEngine:
    """See Engine: loads the networks of one checkpoint, its LoRA fused.

    `device` is torch's name of one, such as "cpu" or "cuda". In float32, unless `EngineOptions.reduced_precision` lets
    a device other than the processor compute in float16. `EngineOptions.threads` is set for the whole process, as torch
    has it.
    """

    def __init__(self, checkpoint: Checkpoint, options: EngineOptions, *, device: str = "cpu") -> None:
        """Raises CheckpointError for a device that is not there."""
        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError) as error:  # torch raises either, by how it was built
            raise CheckpointError(f"there is no device {device[:40]!r} here") from error
        self._dtype = torch.float16 if options.reduced_precision and self._device.type != "cpu" else torch.float32
        self._checkpoint = checkpoint
        torch.set_num_threads(options.threads)

    @property
    def description(self) -> str:
        """See Engine.description."""
        precision = str(self._dtype).removeprefix("torch.")
        return f"diffusers {diffusers.__version__}, torch {torch.__version__}, {self._device.type} {precision}"

    def files(self) -> dict[str, Path]:
        """Returns the files that `load` takes, by role."""
        folder, tiny = self._checkpoint.folder, self._checkpoint.tiny
        files = {"text": folder / "text_encoder", "unet": folder / "unet", "decoder": folder / "vae"}
        return {**files, TINY_DECODER: tiny} if tiny is not None else files

    def load(self, path: Path, *, inputs: Collection[str], output: str) -> TorchSession:
        """The network in a folder of the checkpoint.

        Raises BUNDLE_INVALID for another, CheckpointError as loading does.
        """
        role = next((role for role, part in self.files().items() if part == path), None)
        guided = self._checkpoint.native
        if role is None or (set(inputs), output) != (set(network_names(role, guided=guided)[0]), _output(role)):
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} is no such part of the checkpoint")
        module = self._module(role).to(self._device, self._dtype).eval()
        return TorchSession(module, network_names(role, guided=guided)[0], device=self._device)

    def _module(self, role: str) -> Module:
        match role:
            case "text":
                return TextTower(load_text(self._checkpoint))
            case "unet":
                return UNet(load_unet(self._checkpoint))
            case "decoder":
                return Decoder(load_vae(self._checkpoint))
            case _:
                assert self._checkpoint.tiny is not None  # noqa: S101 -- `files` names it only then
                return Decoder(load_tiny(self._checkpoint.tiny))


def _output(role: str) -> str:
    return network_names(role, guided=False)[1]


def load_reference_model(
    checkpoint: Checkpoint,
    manifest: GeneratorManifest,
    tokenizer: Path,
    *,
    options: EngineOptions,
    device: str = "cpu",
) -> GeneratorModel:
    """The checkpoint as the pipeline takes it, with the ranges and the schedule of a manifest and a `tokenizer.json`.

    `close` it. Raises CheckpointError where weights cannot be loaded, or the manifest is of another kind of model.
    """
    if (manifest.guidance_input == "embedding") != checkpoint.native:
        raise CheckpointError("the manifest's model takes guidance otherwise than the checkpoint's")
    engine = ReferenceEngine(checkpoint, options, device=device)
    sessions = {}
    for role, path in engine.files().items():
        inputs, output = network_names(role, guided=checkpoint.native)
        sessions[role] = engine.load(path, inputs=inputs, output=output)
    return GeneratorModel(manifest, VARIANT, PromptTokenizer(tokenizer, manifest.prompt), sessions, engine.description)
