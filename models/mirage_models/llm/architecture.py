"""The config.json of a GPT-NeoX checkpoint (keys as in transformers' GPTNeoXConfig)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_FILE = "config.json"
KNOWN = (
    "GPTNeoXForCausalLM (Pythia, Dolly v2), LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Gemma3ForCausalLM, "
    "and GGUF files of the last four"
)

Gelu: TypeAlias = Literal["none", "tanh"]
# transformers' names for the Gaussian error linear unit, exact and by tanh (activations.py).
_ACTIVATIONS: dict[str, Gelu] = {
    "gelu": "none",
    "gelu_python": "none",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}


@dataclass(frozen=True)
class NeoxConfig:
    """A GPT-NeoX decoder (Black et al. 2022). `rotary` is the number of dimensions of a head that turn with the
    position.
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    context: int
    rotary: int
    rotary_base: float
    epsilon: float
    gelu: Gelu
    parallel: bool
    attention_bias: bool
    tied: bool
    end_id: int

    @property
    def head(self) -> int:
        """Dimensions of one head."""
        return self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """Weights in matrices, which is nearly all there are."""
        per_layer = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return self.layers * per_layer + (1 if self.tied else 2) * self.vocabulary * self.hidden


def read_json(path: Path) -> dict[str, Any]:
    """Returns a JSON object; raises CheckpointError if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} is no JSON object")
    return content


def read_config(source: Path) -> NeoxConfig:
    """The configuration in `source/config.json`.

    Raises UnknownArchitectureError for another model than GPT-NeoX or a variation that cannot be built, CheckpointError
    for a file that is absent or makes no sense.
    """
    raw = read_json(source / CONFIG_FILE)
    named = ", ".join(str(name) for name in raw.get("architectures") or []) or "no architecture"
    if raw.get("model_type") != "gpt_neox" or "GPTNeoXForCausalLM" not in named:
        found = f"{named} (model_type {raw.get('model_type')})"
        raise UnknownArchitectureError(f"{found} cannot be built as a language model; known are {KNOWN}")
    if raw.get("rope_scaling"):
        raise UnknownArchitectureError(f"scaled rotary embeddings (rope_scaling {raw['rope_scaling']}) are not known")
    activation = raw.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise UnknownArchitectureError(f"the activation {activation} is not known; {', '.join(_ACTIVATIONS)} are")
    try:
        hidden, heads = int(raw["hidden_size"]), int(raw["num_attention_heads"])
        config = NeoxConfig(
            vocabulary=int(raw["vocab_size"]),
            hidden=hidden,
            layers=int(raw["num_hidden_layers"]),
            heads=heads,
            intermediate=int(raw["intermediate_size"]),
            context=int(raw["max_position_embeddings"]),
            rotary=int(hidden // heads * float(raw.get("rotary_pct", 0.25))),
            # Newer versions of transformers write the base as rope_theta.
            rotary_base=float(raw.get("rotary_emb_base") or raw.get("rope_theta") or 10_000),
            epsilon=float(raw.get("layer_norm_eps", 1e-5)),
            gelu=_ACTIVATIONS[activation],
            parallel=bool(raw.get("use_parallel_residual", True)),
            attention_bias=bool(raw.get("attention_bias", True)),
            tied=bool(raw.get("tie_word_embeddings", False)),
            end_id=int(raw.get("eos_token_id") or 0),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{CONFIG_FILE} lacks or garbles a size: {error}") from error
    sizes = (config.vocabulary, config.hidden, config.layers, config.heads, config.intermediate, config.context)
    if min(sizes) < 1 or config.hidden % config.heads or config.rotary % 2 or config.rotary > config.head:
        raise CheckpointError(f"{CONFIG_FILE} has sizes that make no sense together")
    return config
