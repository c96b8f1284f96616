"""The two halves of a CLIP model as modules that export: pixels or token ids in, unit vectors out."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional


class ExportedAttention(torch.nn.Module):
    """Self-attention of a `torch.nn.MultiheadAttention` written as one ONNX `Attention` node.

    The module's own decomposition is some thirty nodes a layer, which at nine tokens cost more than the arithmetic.
    """

    def __init__(self, source: torch.nn.MultiheadAttention, *, causal: bool) -> None:
        """Take the weights of `source`, which must be batch first, packed and with biases (as open_clip builds it)."""
        super().__init__()
        if not source.batch_first or source.in_proj_weight is None or source.bias_k is not None:
            raise ValueError("not the attention of an open_clip tower")
        self.in_weight, self.in_bias = source.in_proj_weight, source.in_proj_bias
        self.out = source.out_proj
        self.heads = source.num_heads
        self.causal = causal

    def forward(self, query: torch.Tensor, *_: torch.Tensor, **__: object) -> tuple[torch.Tensor, None]:
        """Attend: float32[B, T, D] -> (float32[B, T, D], None), as the module it stands for."""
        packed = functional.linear(query, self.in_weight, self.in_bias)
        first, second, third = packed.chunk(3, dim=-1)
        mixed, *_rest = torch.onnx.ops.attention(
            first, second, third, is_causal=self.causal, q_num_heads=self.heads, kv_num_heads=self.heads
        )
        return self.out(mixed), None


def _with_exported_attention(tower: torch.nn.Module, *, causal: bool) -> torch.nn.Module:
    lean = copy.deepcopy(tower)
    for parent in list(lean.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.MultiheadAttention):
                setattr(parent, name, ExportedAttention(child, causal=causal))
    return lean


class ImageTower(torch.nn.Module):
    """`pixels` float32[B, 3, S, S], normalised, to `unit_vector` float32[B, D] of length 1."""

    def __init__(self, clip: Any) -> None:
        """Take the image side of an open_clip model."""
        super().__init__()
        self.visual = _with_exported_attention(clip.visual, causal=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode."""
        return functional.normalize(self.visual(pixels), dim=-1)


class CausalTextTower(torch.nn.Module):
    """`tokens` int64[B, T] with any T up to the context to `unit_vector` float32[B, D] of length 1.

    A causal tower pooled at the end token gives the same vector whatever stands behind that token, so T may be the
    longest text of the batch where open_clip always runs the whole context (checked against it by the builder).
    """

    def __init__(self, clip: Any) -> None:
        """Take the text side of an open_clip model; raises ValueError unless it is causal and pooled at the end."""
        super().__init__()
        if getattr(clip, "attn_mask", None) is None or clip.text_pool_type not in ("argmax", "eos"):
            raise ValueError("not a causal text tower pooled at the end token")
        self.embed = clip.token_embedding
        self.register_buffer("position", clip.positional_embedding.detach().clone(), persistent=False)
        self.transformer = _with_exported_attention(clip.transformer, causal=True)
        self.norm = clip.ln_final
        self.projection = clip.text_projection
        self.end_id: int | None = clip.text_eos_id if clip.text_pool_type == "eos" else None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode."""
        length = tokens.shape[1]
        hidden = self.embed(tokens) + self.position[:length]
        hidden = self.transformer(hidden)
        end = tokens.argmax(dim=-1) if self.end_id is None else (tokens == self.end_id).int().argmax(dim=-1)
        # Gather before the norm and the projection: both work on each position alone.
        pooled = self.norm(hidden[torch.arange(tokens.shape[0]), end])
        if isinstance(self.projection, torch.nn.Linear):
            pooled = self.projection(pooled)
        elif self.projection is not None:
            pooled = pooled @ self.projection
        return functional.normalize(pooled, dim=-1)
