"""Text tower, UNet and decoders to ONNX, with a dynamic batch and, for images, dynamic sides."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from mirage_inference.generator.model import network_names
from mirage_models.generator.network_file import data_path, read_network, write_network

if TYPE_CHECKING:
    from pathlib import Path

OPSET = 23
_DYNAMIC = torch.export.Dim.DYNAMIC


class TextTower(torch.nn.Module):
    """`tokens` int64[B, context] to `hidden` float32[B, context, width]: what the UNet looks at."""

    def __init__(self, text: Any) -> None:
        """Take a CLIPTextModel of transformers."""
        super().__init__()
        self.text = text

    def forward(self, tokens: torch.Tensor) -> Any:
        """Encode."""
        return self.text(tokens, return_dict=False)[0]


class UNet(torch.nn.Module):
    """`sample` float32[B, 4, h, w], `timestep` int64[B], `prompt` float32[B, T, D] to `prediction` of the sample's
    shape.

    A native LCM takes `guidance` float32[B, G] as well.
    """

    def __init__(self, unet: Any) -> None:
        """Take a UNet2DConditionModel of diffusers."""
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, prompt: torch.Tensor, guidance: torch.Tensor | None = None
    ) -> Any:
        """Predict."""
        return self.unet(sample, timestep, prompt, timestep_cond=guidance, return_dict=False)[0]


class Decoder(torch.nn.Module):
    """`latents` float32[B, 4, h, w] as the sampler leaves them to RGB `image` float32[B, 3, 8h, 8w] in 0..1."""

    def __init__(self, vae: Any) -> None:
        """Take an AutoencoderKL or AutoencoderTiny of diffusers."""
        super().__init__()
        self.vae = vae
        self.scale = float(vae.config.scaling_factor)

    def forward(self, latents: torch.Tensor) -> Any:
        """Decode."""
        decoded = self.vae.decode(latents / self.scale, return_dict=False)[0]
        return (decoded * 0.5 + 0.5).clamp(0, 1)


def export_text(text: Any, target: Path, *, context: int) -> None:
    """Write the text tower's ONNX at `target`."""
    # Prompts are filled up to the whole context: the UNet looks at the filling too.
    tokens = torch.zeros((2, context), dtype=torch.int64)
    _export(TextTower(text), (tokens,), ({0: _DYNAMIC},), "text", target)


def export_unet(unet: Any, target: Path, *, context: int) -> None:
    """Writes the UNet as ONNX to `target`, with its weights in a second file.

    Takes about the UNet's size of extra memory.
    """
    config = unet.config
    width, guided = int(config.cross_attention_dim), config.time_cond_proj_dim
    example = [torch.zeros(2, config.in_channels, 32, 40), torch.tensor([999, 1]), torch.zeros(2, context, width)]
    shapes: list[dict[int, object]] = [{0: _DYNAMIC, 2: _DYNAMIC, 3: _DYNAMIC}, {0: _DYNAMIC}, {0: _DYNAMIC}]
    if guided is not None:
        example.append(torch.zeros(2, guided))
        shapes.append({0: _DYNAMIC})
    _export(UNet(unet), tuple(example), tuple(shapes), "unet", target, guided=guided is not None)


def export_decoder(vae: Any, target: Path) -> None:
    """Write a decoder's ONNX at `target`."""
    latents = torch.zeros(2, vae.config.latent_channels, 16, 24)
    _export(Decoder(vae), (latents,), ({0: _DYNAMIC, 2: _DYNAMIC, 3: _DYNAMIC},), "decoder", target)


def _export(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    shapes: tuple[dict[int, object], ...],
    role: str,
    target: Path,
    *,
    guided: bool = False,
) -> None:
    inputs, output = network_names(role, guided=guided)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            verbose=False,
            optimize=True,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    raw = target.with_name(f"{target.stem}.raw.onnx")
    program.save(raw, external_data=True)
    del program
    write_network(read_network(raw), target, name=role)
    raw.unlink()
    data_path(raw).unlink(missing_ok=True)
