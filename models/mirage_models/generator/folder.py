"""Writing a folder in the layout of diffusers: configurations, weights, and CLIP's tokenizer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import open_clip
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping

State: TypeAlias = dict[str, torch.Tensor]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a configuration, its folder with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def write_part(folder: Path, config: Mapping[str, Any], state: State, dtype: torch.dtype, file: str) -> None:
    """Write a network's `config.json` and its weights: pickled where `file` ends so, else as safetensors."""
    write_json(folder / "config.json", config)
    state = {name: (each.to(dtype) if each.is_floating_point() else each).contiguous() for name, each in state.items()}
    if file.endswith(".bin"):
        torch.save(state, folder / file)
    else:
        save_file(state, folder / file, metadata={"format": "pt"})


def write_tokenizer_files(folder: Path) -> None:
    """CLIP's byte pairs as transformers keeps them, from the copy that open_clip brings (openai/CLIP's vocabulary)."""
    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(source, "rt", encoding="utf-8") as stream:
        merges = stream.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    tokens = list(open_clip.tokenizer.bytes_to_unicode().values())
    tokens += [token + "</w>" for token in tokens]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    marker = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    start, end = ({"content": content, **marker} for content in tokens[-2:])
    special = {"bos_token": start, "eos_token": end, "pad_token": tokens[-1], "unk_token": end}
    write_json(folder / "special_tokens_map.json", special)
    config = {**special, "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    for name in ("bos_token", "eos_token", "unk_token"):
        config[name] = {"__type": "AddedToken", **special[name]}
    write_json(folder / "tokenizer_config.json", {**config, "tokenizer_class": "CLIPTokenizer"})
