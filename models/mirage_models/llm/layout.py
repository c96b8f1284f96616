"""The configuration of today's decoders: Llama, Qwen 2.5, Qwen 3 and Gemma 3 (text), as config.json or a GGUF file states it.

They share one form: root mean square norms, rotary positions, grouped-query attention, and a gated perceptron.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np

from mirage_models.llm.architecture import CONFIG_FILE
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

Layout: TypeAlias = Literal["llama", "qwen2", "qwen3", "gemma3"]
Gate: TypeAlias = Literal["silu", "gelu"]
LAYOUTS: Mapping[str, Layout] = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma3ForCausalLM": "gemma3",
}
_GATES: Mapping[str, Gate] = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu"}
# A longer context costs memory (cosines, sines and the cache), and a prompt of captions needs about 1,000 tokens.
CONTEXT = 4096
_GEMMA_PERIOD, _GEMMA_LOCAL_BASE = 6, 10_000.0
_GEMMA_27B_LAYERS = 62  # the one Gemma 3 whose attention is scaled by another size than a head's (llama.cpp, gemma3)


@dataclass(frozen=True)
class Rotation:
    """Rotary positions: the base, and the factors (one for each pair of dimensions) that slow down the frequencies."""

    base: float
    factors: tuple[float, ...] = ()

    def tables(self, context: int, head: int) -> tuple[Floats, Floats]:
        """Returns cosines and sines float32 [context, head / 2] (Su et al. 2021)."""
        frequencies = self.base ** -(np.arange(0, head, 2, dtype=np.float64) / head)
        if self.factors:
            frequencies = frequencies / np.array(self.factors)
        # In float32, as transformers computes them.
        angles = np.arange(context, dtype=np.float32)[:, None] * frequencies.astype(np.float32)
        return np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)


@dataclass(frozen=True)
class LayoutConfig:
    """A decoder. `local` has True for each layer that sees only the last `window` tokens and turns by `local_rotation`.

    `norm_offset` is added to the scale of every norm: 1 if the checkpoint stores the difference from 1.
    """

    layout: Layout
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head: int
    intermediate: int
    context: int
    epsilon: float
    rotation: Rotation
    local_rotation: Rotation
    window: int
    local: tuple[bool, ...]
    scale: float
    gate: Gate
    tied: bool
    norm_offset: float
    end_ids: tuple[int, ...]

    @property
    def attention_bias(self) -> bool:
        """True if queries, keys and values have a bias."""
        return self.layout == "qwen2"

    @property
    def head_norm(self) -> bool:
        """True if each head's queries and keys are normalised."""
        return self.layout in ("qwen3", "gemma3")

    @property
    def norm_after(self) -> bool:
        """True if what attention and perceptron add is normalised as well."""
        return self.layout == "gemma3"

    @property
    def embedding_scale(self) -> float:
        """The factor on the embeddings."""
        return math.sqrt(self.hidden) if self.layout == "gemma3" else 1.0

    @property
    def parameters(self) -> int:
        """Weights in matrices, which is nearly all there are."""
        attention = 2 * self.hidden * self.head * (self.heads + self.key_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + (
            (1 if self.tied else 2) * self.vocabulary * self.hidden
        )


def layout_of(raw: Mapping[str, Any]) -> Layout | None:
    """The layout that a config.json names, None for another architecture."""
    named = raw.get("architectures")
    return (
        next((LAYOUTS[str(name)] for name in named if str(name) in LAYOUTS), None) if isinstance(named, list) else None
    )


def config_from_json(raw: Mapping[str, Any], layout: Layout) -> LayoutConfig:
    """The configuration in a config.json.

    Raises UnknownArchitectureError for a variation that cannot be built, CheckpointError if a size is missing or wrong.
    """
    _refuse(
        {
            name: raw.get(name)
            for name in ("attn_logit_softcapping", "final_logit_softcapping", "mlp_bias", "use_sliding_window")
        }
        | ({} if layout == "qwen2" else {"attention_bias": raw.get("attention_bias")})
    )
    gate = raw.get("hidden_activation") or raw.get("hidden_act") or "silu"
    if gate not in _GATES:
        raise UnknownArchitectureError(f"the activation {gate} is not known; {', '.join(_GATES)} are")
    try:
        hidden, heads, layers = int(raw["hidden_size"]), int(raw["num_attention_heads"]), int(raw["num_hidden_layers"])
        head = int(raw.get("head_dim") or hidden // heads)
        window = int(raw.get("sliding_window") or 0) if layout == "gemma3" else 0
        end = raw.get("eos_token_id")
        # Newer versions of transformers keep everything about rotary positions in one place, by kind of layer.
        rotary = raw.get("rope_parameters") or {}
        everywhere = {"rope_theta": raw.get("rope_theta"), **(raw.get("rope_scaling") or {})}
        wide = rotary.get("full_attention") or (rotary if "rope_theta" in rotary else everywhere)
        near = rotary.get("sliding_attention") or {"rope_theta": raw.get("rope_local_base_freq")}
        return _checked(
            LayoutConfig(
                layout=layout,
                vocabulary=int(raw["vocab_size"]),
                hidden=hidden,
                layers=layers,
                heads=heads,
                key_heads=int(raw.get("num_key_value_heads") or heads),
                head=head,
                intermediate=int(raw["intermediate_size"]),
                context=min(CONTEXT, int(raw["max_position_embeddings"])),
                epsilon=float(raw.get("rms_norm_eps", 1e-6)),
                rotation=_rotation(wide, head, 1e6 if layout == "gemma3" else 1e4),
                local_rotation=_rotation(near, head, _GEMMA_LOCAL_BASE),
                window=window,
                local=_local(raw, layers) if window else (False,) * layers,
                scale=float(raw.get("query_pre_attn_scalar") or head) ** -0.5,
                gate=_GATES[gate],
                tied=bool(raw.get("tie_word_embeddings", layout == "gemma3")),
                norm_offset=1.0 if layout == "gemma3" else 0.0,
                end_ids=tuple(int(one) for one in (end if isinstance(end, list) else [raw["eos_token_id"]])),
            ),
            CONFIG_FILE,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{CONFIG_FILE} lacks a size or has a wrong one: {error}") from error


def config_from_gguf(fields: Mapping[str, Any], *, tied: bool, factors: tuple[float, ...], name: str) -> LayoutConfig:
    """The configuration in a GGUF file's metadata; `factors` are its tensor of rotary factors. Raises as config_from_json."""
    layout = fields.get("general.architecture")
    if layout not in LAYOUTS.values():
        known = ", ".join(LAYOUTS.values())
        raise UnknownArchitectureError(f"{name} holds the architecture {str(layout)[:40]}; {known} are known")
    layout = cast("Layout", layout)

    def field(key: str, default: Any = None) -> Any:
        found = fields.get(f"{layout}.{key}", default)
        if found is None:
            raise KeyError(f"{layout}.{key}")
        return found

    try:
        _refuse({key: fields.get(f"{layout}.{key}") for key in ("attn_logit_softcapping", "final_logit_softcapping")})
        hidden, heads, layers = (
            int(field("embedding_length")),
            int(field("attention.head_count")),
            int(field("block_count")),
        )
        head = int(field("attention.key_length", hidden // heads))
        gemma = layout == "gemma3"
        window = int(field("attention.sliding_window", 0)) if gemma else 0
        scaling = {
            "rope_theta": field("rope.freq_base", 1e6 if gemma else 1e4),
            "rope_type": field("rope.scaling.type", "default"),
            "factor": field("rope.scaling.factor", 1.0),
        }
        if scaling["rope_type"] == "none":
            scaling["rope_type"] = "default"
        rotation = _rotation(scaling, head, 1e4)
        ends = (fields.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
        return _checked(
            LayoutConfig(
                layout=layout,
                vocabulary=len(fields["tokenizer.ggml.tokens"]),
                hidden=hidden,
                layers=layers,
                heads=heads,
                key_heads=int(field("attention.head_count_kv", heads)),
                head=head,
                intermediate=int(field("feed_forward_length")),
                context=min(CONTEXT, int(field("context_length"))),
                epsilon=float(field("attention.layer_norm_rms_epsilon")),
                rotation=Rotation(rotation.base, factors) if factors else rotation,
                local_rotation=Rotation(float(field("rope.freq_base_swa", _GEMMA_LOCAL_BASE))),
                window=window,
                local=_local({}, layers) if window else (False,) * layers,
                scale=(hidden / heads if gemma and layers == _GEMMA_27B_LAYERS else head) ** -0.5,
                gate="gelu" if gemma else "silu",
                tied=tied,
                # llama.cpp's converter has added the 1 already.
                norm_offset=0.0,
                end_ids=tuple(sorted({int(end) for end in ends if end is not None})),
            ),
            name,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{name} lacks a size or has a wrong one: {error}") from error


def _refuse(variations: Mapping[str, Any]) -> None:
    if found := [name for name, value in variations.items() if value]:
        raise UnknownArchitectureError(f"decoders with {', '.join(found)} cannot be built")


def _local(raw: Mapping[str, Any], layers: int) -> tuple[bool, ...]:
    if kinds := raw.get("layer_types"):
        return tuple(kind == "sliding_attention" for kind in kinds)
    period = int(raw.get("sliding_window_pattern") or _GEMMA_PERIOD)
    return tuple((layer + 1) % period != 0 for layer in range(layers))


def _rotation(raw: Mapping[str, Any], head: int, base: float) -> Rotation:
    """Rotary positions as transformers states them (modeling_rope_utils.py)."""
    base = float(raw.get("rope_theta") or base)
    kind = raw.get("rope_type") or raw.get("type") or "default"
    if kind == "default":
        return Rotation(base)
    factor = float(raw["factor"])
    if kind == "linear":
        return Rotation(base, (factor,) * (head // 2))
    if kind != "llama3":
        raise UnknownArchitectureError(f"rotary positions of the kind {str(kind)[:40]} cannot be built")
    low, high = float(raw["low_freq_factor"]), float(raw["high_freq_factor"])
    waves = 2 * np.pi * base ** (np.arange(0, head, 2) / head)
    # Long waves are slowed down by the factor, short ones are not, and those between partly (Llama 3.1).
    share = np.clip((float(raw["original_max_position_embeddings"]) / waves - low) / (high - low), 0, 1)
    return Rotation(base, tuple((1 / (share + (1 - share) / factor)).tolist()))


def _checked(config: LayoutConfig, name: str) -> LayoutConfig:
    sizes = (config.vocabulary, config.hidden, config.layers, config.heads, config.key_heads, config.intermediate)
    rotations = (config.rotation, config.local_rotation)
    numbers = (config.epsilon, config.scale, *(v for r in rotations for v in (r.base, *r.factors)))
    if (
        min(*sizes, config.context, config.head) < 1
        or config.heads % config.key_heads
        or len(config.local) != config.layers
        or not config.end_ids
        or not all(0 <= end < config.vocabulary for end in config.end_ids)
        or len(config.rotation.factors) not in (0, config.head // 2)
        or not all(0 < value < math.inf for value in numbers)
    ):
        raise CheckpointError(f"{name} has sizes that make no sense together")
    if config.head % 16:
        raise UnknownArchitectureError(f"heads of {config.head} dimensions cannot be built, only multiples of 16")
    return config
