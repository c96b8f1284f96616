"""The model: open_clip's CLIP in a small size, with auxiliary heads that exist only while it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES
from mirage_atlas.demo.lesions import LOBES, SIGNALS
from mirage_training.mini_clip.claims import SIDES

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 120, "patch_size": 12, "width": 256, "layers": 6, "head_width": 64, "mlp_ratio": 4.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 4},
}
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
PREPROCESS: dict[str, Any] = {
    "size": [120, 120],
    "mode": "RGB",
    "mean": list(OPENAI_MEAN),
    "std": list(OPENAI_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
GROUPS: dict[str, int] = {
    "plane": len(PLANES) + 1,
    "sequence": len(SEQUENCES) + 1,
    "side": len(SIDES) + 1,
    "lesion": 2,
    "lobe": len(LOBES),
    "signal": len(SIGNALS),
}
"""Attributes that the auxiliary heads read from a unit vector, with their number of classes."""


SPOT: dict[str, int] = {"side": 2, "lobe": len(LOBES), "signal": len(SIGNALS)}
"""Attributes of a lesion that a head reads from the mean of the patches it covers."""


def build_model() -> CLIP:
    """The untrained model."""
    return CLIP(**MODEL_CONFIG)


class Heads(nn.Module):
    """Linear readers of attributes, shared by both towers' unit vectors, and a lesion reader on the image patches."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.attributes = nn.ModuleDict({name: nn.Linear(dim, classes) for name, classes in GROUPS.items()})
        self.level = nn.Linear(dim, len(PLANES))
        self.patches = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.sigmoid = nn.Parameter(torch.tensor([10.0, -5.0]))
        self.spot = nn.Linear(width, sum(SPOT.values()))

    def forward(self, unit: Tensor) -> dict[str, Tensor]:
        """Logits of every attribute [N, classes] and `level` [N, planes] in units of 50 mm, from unit vectors [N, dim]."""
        wide = unit * self.scale
        return {name: head(wide) for name, head in self.attributes.items()} | {"level": self.level(wide)}


def encode_images(model: CLIP, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings [N, dim] of normalised pixels [N, 3, 120, 120] and the last layer's patch tokens [N, patches, width]."""
    visual = model.visual
    tokens = visual.transformer(visual._embeds(pixels))
    pooled, _ = visual._pool(tokens)
    return pooled @ visual.proj, tokens[:, 1:]


def encode_texts(model: CLIP, ids: Tensor) -> Tensor:
    """Embeddings [N, dim] of token ids [N, length]; the tower is causal, so the shorter length changes nothing."""
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    hidden = model.ln_final(hidden)
    ends = hidden[torch.arange(ids.shape[0]), ids.argmax(dim=-1)]
    return ends @ model.text_projection


def save_checkpoint(state: dict[str, Tensor], folder: Path) -> None:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` (fp16) as the Hub's open_clip checkpoints have them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    half = {name: value.half().contiguous() for name, value in state.items() if name != "attn_mask"}
    save_file(half, folder / "open_clip_model.safetensors")


def load_checkpoint(folder: Path) -> CLIP:
    """The model of a folder that `save_checkpoint` wrote, in float32 and evaluation mode."""
    model = build_model()
    state = {name: value.float() for name, value in load_file(folder / "open_clip_model.safetensors").items()}
    model.load_state_dict(state, strict=False)
    model.eval()
    return model
