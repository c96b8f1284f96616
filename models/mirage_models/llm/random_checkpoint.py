"""Checkpoints with random weights and exactly the files, keys, dtypes and configuration of a public one.

`python -m mirage_models.llm.random_checkpoint --like dolly-v2-3b --size full --out DIR --seed 0`

Facts from the repositories' config.json and file lists as publicly described: databricks/dolly-v2-3b (GPT-NeoX, 2.8 B,
one pytorch_model.bin of 5.68 GB in bfloat16, 50,280 tokens, three of Dolly's own at the end: databrickslabs/dolly,
training/consts.py) and EleutherAI/pythia-1b (1.0 B, model.safetensors of 2.09 GB in float16, 50,304 rows for 50,277
tokens). Both carry the buffers that older versions of transformers saved (causal mask, masked bias, rotary
frequencies): their sizes account for the difference between the parameters and the files.

The weights are random, but not without order. Purely random ones predict every token with nearly the same probability,
and then it is noise which of 50,000 comes first. Here the output matrix holds, for each token, the input vectors of
four others: a table of likely successors, with close scores, that the layers' (random) contributions decide between. So
the next token has a few candidates, as in a trained model, and errors of quantisation change it now and then.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mirage_models.llm.texts import SENTENCES

DOLLY_TOKENS = ("### End", "### Instruction:", "### Response:\n")
_SPACES = range(24, 1, -1)
_SUCCESSORS = (1.0, 0.95, 0.9, 0.8)
_LEADER = 10.0


@dataclass(frozen=True)
class Likeness:
    """The public checkpoint that a random one resembles: configuration (full and small), file, dtype, and tokenizer."""

    config: dict[str, Any]
    small: dict[str, Any]
    pickled: bool
    dolly: bool


_COMMON: dict[str, Any] = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neox",
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_parallel_residual": True,
}

LIKENESSES: dict[str, Likeness] = {
    "dolly-v2-3b": Likeness(
        {
            **_COMMON,
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "torch_dtype": "bfloat16",
            "vocab_size": 50280,
        },
        # The same 80 dimensions to a head, of which 20 turn.
        {"hidden_size": 320, "intermediate_size": 1280, "num_attention_heads": 4, "num_hidden_layers": 3},
        pickled=True,
        dolly=True,
    ),
    "pythia-1b": Likeness(
        {
            **_COMMON,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_attention_heads": 8,
            "num_hidden_layers": 16,
            "torch_dtype": "float16",
            "vocab_size": 50304,
        },
        {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 2, "num_hidden_layers": 3},
        pickled=False,
        dolly=False,
    ),
}
_SMALL_WORDS, _SMALL_CONTEXT = 640, 512
_WORDS = 50254  # of GPT-NeoX's tokenizer, before the runs of spaces


def neox_tokenizer(words: int, *, dolly: bool) -> Tokenizer:
    """A tokenizer of GPT-NeoX's kind (byte-level BPE, NFC, runs of spaces as tokens), trained on our sentences.

    `words` ids, of which those that the training does not reach are never used; then the spaces, and Dolly's tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=min(words, 2000),
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary.update({f"<unused{number}>": number for number in range(len(vocabulary), words)})
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in _SPACES])
    if dolly:
        tokenizer.add_special_tokens(list(DOLLY_TOKENS))
    return tokenizer


def _matrix(generator: torch.Generator, rows: int, columns: int, deviation: float) -> torch.Tensor:
    return torch.randn(rows, columns, generator=generator) * deviation


def _state(config: dict[str, Any], seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, wide, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    context, vocabulary = config["max_position_embeddings"], config["vocab_size"]
    rotary = int(hidden // config["num_attention_heads"] * config["rotary_pct"])
    state: dict[str, torch.Tensor] = {}

    def norm(name: str) -> None:
        state[f"{name}.weight"] = (1 + 0.2 * torch.randn(hidden, generator=generator)).to(dtype)
        state[f"{name}.bias"] = (0.1 * torch.randn(hidden, generator=generator)).to(dtype)

    def linear(name: str, rows: int, columns: int, gain: float) -> None:
        state[f"{name}.weight"] = _matrix(generator, rows, columns, gain * columns**-0.5).to(dtype)
        state[f"{name}.bias"] = (0.02 * torch.randn(rows, generator=generator)).to(dtype)

    embedding = torch.randn(vocabulary, hidden, generator=generator)
    state["gpt_neox.embed_in.weight"] = embedding.to(dtype)
    mask = torch.ones(context, context, dtype=torch.bool).tril().view(1, 1, context, context)
    for number in range(layers):
        name = f"gpt_neox.layers.{number}"
        norm(f"{name}.input_layernorm")
        norm(f"{name}.post_attention_layernorm")
        # Each has storage of its own: torch would otherwise save the one mask once, and the file be smaller.
        state[f"{name}.attention.bias"] = mask.clone()
        state[f"{name}.attention.masked_bias"] = torch.tensor(-1e9).to(dtype)
        frequencies = 1.0 / (config["rotary_emb_base"] ** (torch.arange(0, rotary, 2).float() / rotary))
        state[f"{name}.attention.rotary_emb.inv_freq"] = frequencies.to(dtype)
        linear(f"{name}.attention.query_key_value", 3 * hidden, hidden, 1.0)
        # All layers together weigh about as much as the embedding that they are added to.
        linear(f"{name}.attention.dense", hidden, hidden, layers**-0.5)
        linear(f"{name}.mlp.dense_h_to_4h", wide, hidden, 1.0)
        linear(f"{name}.mlp.dense_4h_to_h", hidden, wide, layers**-0.5)
    norm("gpt_neox.final_layer_norm")
    output = torch.zeros(vocabulary, hidden)
    for share in _SUCCESSORS:
        output += share * embedding[torch.randperm(vocabulary, generator=generator)]
    state["embed_out.weight"] = (output * (_LEADER / hidden)).to(dtype)
    return state


def write_random_checkpoint(like: str, out: Path, *, size: str = "small", seed: int = 0, shards: int = 1) -> Path:
    """Write a checkpoint folder; the same weights for the same seed.

    `size` is "small" (a few MB) or "full"; `shards` above 1 writes the weights as transformers does for models that are
    large, with an index. Raises KeyError for a likeness that is not known.
    """
    likeness = LIKENESSES[like]
    config = dict(likeness.config)
    words = _WORDS
    if size == "small":
        words = _SMALL_WORDS
        extra = config["vocab_size"] - _WORDS
        config |= likeness.small | {"max_position_embeddings": _SMALL_CONTEXT, "vocab_size": words + extra}
    out.mkdir(parents=True, exist_ok=True)
    dtype = torch.bfloat16 if config["torch_dtype"] == "bfloat16" else torch.float16
    _write_weights(_state(config, seed, dtype), out, pickled=likeness.pickled, shards=shards)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    neox_tokenizer(words, dolly=likeness.dolly).save(str(out / "tokenizer.json"))
    end = "<|endoftext|>"
    tokenizer = {
        "add_prefix_space": False,
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "tokenizer_class": "GPTNeoXTokenizer" if likeness.pickled else "GPTNeoXTokenizerFast",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n", "utf-8")
    special: dict[str, Any] = {"bos_token": end, "eos_token": end, "unk_token": end}
    if likeness.dolly:
        special = {"additional_special_tokens": list(DOLLY_TOKENS), **special, "pad_token": end}
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", "utf-8")
    return out


def _write_weights(state: dict[str, torch.Tensor], out: Path, *, pickled: bool, shards: int) -> None:
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")

    def write(part: dict[str, torch.Tensor], name: str) -> None:
        if pickled:
            torch.save(part, out / name)
        else:
            save_file(part, out / name, metadata={"format": "pt"})

    if shards == 1:
        write(state, f"{stem}.{suffix}")
        return
    names = iter(state)
    where: dict[str, str] = {}
    for number in range(shards):
        count = -(-len(state) // shards)
        part = {name: state[name] for name in islice(names, count)}
        file = f"{stem}-{number + 1:05d}-of-{shards:05d}.{suffix}"
        write(part, file)
        where |= dict.fromkeys(part, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (out / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.llm.random_checkpoint", description=__doc__)
    parser.add_argument("--like", choices=sorted(LIKENESSES), required=True)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    arguments = parser.parse_args()
    write_random_checkpoint(
        arguments.like, arguments.out, size=arguments.size, seed=arguments.seed, shards=arguments.shards
    )


if __name__ == "__main__":
    main()
