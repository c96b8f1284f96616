"""The two halves of a CLIP model as modules that export: pixels or token ids in, unit vectors out."""

from __future__ import annotations

import copy
from typing import Any

import torch
from open_clip.hf_model import ClsLastHiddenStatePooler, HFTextEncoder, MeanPooler
from timm.layers import Attention as TimmAttention
from torch.nn import functional

from mirage_models.encoder.checkpoint import KNOWN
from mirage_models.tasks import UnknownArchitectureError


class ExportedAttention(torch.nn.Module):
    """Self-attention written as one ONNX `Attention` node, between a packed input and an output projection.

    The modules' own decomposition is some thirty nodes a layer, which at nine tokens cost more than the arithmetic.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.nn.Module,
        *,
        heads: int,
        causal: bool = False,
    ) -> None:
        """Take the packed weight [3 D, D] and bias [3 D] of queries, keys and values, and the projection behind."""
        super().__init__()
        self.in_weight, self.in_bias = weight, bias
        self.out = out
        self.heads = heads
        self.causal = causal

    def mix(self, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attend: float32[B, T, D], and optionally bool[B, 1, T, T] (true: attended to), to float32[B, T, D]."""
        packed = functional.linear(hidden, self.in_weight, self.in_bias)
        first, second, third = packed.chunk(3, dim=-1)
        mixed, *_rest = torch.onnx.ops.attention(
            first, second, third, mask, is_causal=self.causal, q_num_heads=self.heads, kv_num_heads=self.heads
        )
        projected: torch.Tensor = self.out(mixed)
        return projected


class PackedAttention(ExportedAttention):
    """Replaces a `torch.nn.MultiheadAttention` of open_clip."""

    def __init__(self, source: torch.nn.MultiheadAttention, *, causal: bool) -> None:
        """Take the weights of `source`, which must be batch first, packed and with biases (as open_clip builds it)."""
        if not source.batch_first or source.in_proj_weight is None or source.bias_k is not None:
            raise UnknownArchitectureError("an attention that is not open_clip's own was found")
        super().__init__(
            source.in_proj_weight, source.in_proj_bias, source.out_proj, heads=source.num_heads, causal=causal
        )

    def forward(self, query: torch.Tensor, *_: torch.Tensor, **__: object) -> tuple[torch.Tensor, None]:
        """Attend: float32[B, T, D] -> (float32[B, T, D], None), as the module that it replaces."""
        return self.mix(query), None


class TrunkAttention(ExportedAttention):
    """Replaces the attention of a timm ViT."""

    def __init__(self, source: Any) -> None:
        """Take the weights of `source`, which must be a plain one."""
        plain = (source.q_norm, source.k_norm, source.norm)
        if any(not isinstance(each, torch.nn.Identity) for each in plain) or source.gate is not None:
            raise UnknownArchitectureError("a timm image tower whose attention has norms or gates was found")
        if source.scale != source.head_dim**-0.5:
            raise UnknownArchitectureError("a timm image tower with a scale of its own was found")
        super().__init__(source.qkv.weight, source.qkv.bias, source.proj, heads=source.num_heads)

    def forward(self, hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        """Attend: float32[B, T, D] to float32[B, T, D], as the module that it replaces."""
        return self.mix(hidden)


def _with_exported_attention(tower: torch.nn.Module, *, causal: bool) -> torch.nn.Module:
    lean = copy.deepcopy(tower)
    for parent in list(lean.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.MultiheadAttention):
                setattr(parent, name, PackedAttention(child, causal=causal))
            elif isinstance(child, TimmAttention):
                setattr(parent, name, TrunkAttention(child))
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

    A causal tower pooled at the end token gives the same vector whatever follows that token. So T may be the longest
    text of the batch, although open_clip always runs the whole context (the builder checks this).
    """

    def __init__(self, clip: Any) -> None:
        """Take the text side of an open_clip model.

        Raises UnknownArchitectureError unless causal and pooled at the end.
        """
        super().__init__()
        if getattr(clip, "attn_mask", None) is None or clip.text_pool_type not in ("argmax", "eos"):
            raise UnknownArchitectureError(
                f"a text tower that is not causal and pooled at the end token was found; known are {KNOWN}"
            )
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


class BertLayer(torch.nn.Module):
    """One layer of a BERT: attention and a feed-forward part, each followed by a norm (Devlin et al., 2019)."""

    def __init__(self, source: Any) -> None:
        """Take a layer of transformers' BertModel."""
        super().__init__()
        parts = (source.attention.self.query, source.attention.self.key, source.attention.self.value)
        self.attention = ExportedAttention(
            torch.nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False),
            torch.nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False),
            source.attention.output.dense,
            heads=source.attention.self.num_attention_heads,
        )
        self.first_norm = source.attention.output.LayerNorm
        self.wide, self.activation = source.intermediate.dense, source.intermediate.intermediate_act_fn
        self.narrow, self.second_norm = source.output.dense, source.output.LayerNorm

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Run: float32[B, T, D] and bool[B, 1, T, T] to float32[B, T, D]."""
        hidden = self.first_norm(hidden + self.attention.mix(hidden, mask))
        narrow = self.narrow(self.activation(self.wide(hidden)))
        result: torch.Tensor = self.second_norm(hidden + narrow)
        return result


class BertTextTower(torch.nn.Module):
    """`tokens` int64[B, T] with any T up to the context, filled up with the pad id, to `unit_vector` float32[B, D].

    It looks both ways, so what fills a batch up is masked out, as open_clip does it (`HFTextEncoder.forward`): the mask
    is computed from the tokens, and the vector is that of the text padded to the whole context.
    """

    def __init__(self, clip: Any) -> None:
        """Take the text side of an open_clip model with a BERT; raises UnknownArchitectureError for another."""
        super().__init__()
        text = clip.text
        bert, config = text.transformer, text.config
        if (
            getattr(config, "position_embedding_type", "absolute") != "absolute"
            or config.is_decoder
            or not isinstance(text.pooler, ClsLastHiddenStatePooler | MeanPooler)
        ):
            raise UnknownArchitectureError(
                f"a BERT with a pooler or positions of another kind was found; known are {KNOWN}"
            )
        self.embed = bert.embeddings.word_embeddings
        # Every token belongs to the first segment.
        position = bert.embeddings.position_embeddings.weight + bert.embeddings.token_type_embeddings.weight[0]
        self.register_buffer("position", position.detach().clone(), persistent=False)
        self.norm = bert.embeddings.LayerNorm
        self.layers = torch.nn.ModuleList(BertLayer(layer) for layer in bert.encoder.layer)
        self.mean = isinstance(text.pooler, MeanPooler)
        self.projection = text.proj
        self.pad_id = int(config.pad_token_id)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode."""
        count, length = tokens.shape
        kept = tokens != self.pad_id
        mask = kept[:, None, None, :].expand(count, 1, length, length)
        hidden = self.norm(self.embed(tokens) + self.position[:length])
        for layer in self.layers:
            hidden = layer(hidden, mask)
        if self.mean:
            weight = kept.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        else:
            pooled = hidden[:, 0]
        return functional.normalize(self.projection(pooled), dim=-1)


def text_tower(clip: Any) -> CausalTextTower | BertTextTower:
    """The text side of an open_clip model as a module that exports; raises UnknownArchitectureError."""
    text = getattr(clip, "text", None)
    if isinstance(text, HFTextEncoder):
        return BertTextTower(clip)
    if text is not None:
        raise UnknownArchitectureError(f"a text tower of the class {type(text).__name__} was found; known are {KNOWN}")
    return CausalTextTower(clip)
