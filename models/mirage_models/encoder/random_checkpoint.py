"""Checkpoints with random weights and the files, keys, dtypes and configurations of the public ones.

`python -m mirage_models.encoder.random_checkpoint --config medicat-roco --out DIR [--size small] [--seed 0]`: for
tests, and to measure speed without the trained weights. Sources of `configs/`: medicat-roco is `pmc_vit_l_14` of the
MedICaT-ROCO repository's training code at 448 px, openai-vit-b-32 is open_clip's ViT-B-32-quickgelu, biomedclip is the
open_clip_config.json of `microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224`; BiomedCLIP's weights were saved by
a transformers older than 4.31, hence the key `position_ids`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file

from mirage_models.encoder.checkpoint import CONFIG_FILE, make_model, text_tower_config

Size = Literal["small", "full"]
Form = Literal["safetensors", "bin", "training"]

_POSITIONS = "text.transformer.embeddings.position_ids"
_WORDS = (
    *("axial", "sagittal", "coronal", "ct", "mri", "t1", "t2", "flair", "of", "the", "brain", "chest", "lung", "left"),
    *("right", "lobe", "mass", "cyst", "with", "contrast", "lesion", "fundus", "histology", "liver", "kidney", "heart"),
    *("frontal", "view", "corpus", "callosum", "and", "in", "word", "##s", "##ed", "##ing"),
)
# Small sizes instead of the public models'; the layout of the keys stays.
_SMALL: dict[str, dict[str, Any]] = {
    "medicat-roco": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 70, "layers": 3, "width": 128, "patch_size": 14},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
    },
    "openai-vit-b-32": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 96, "layers": 3, "width": 128, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
    },
    "biomedclip": {"embed_dim": 64, "vision_cfg": {"timm_model_name": "test_vit", "image_size": 160}},
}
# A small BERT has a configuration file: by its name alone it would be the large one.
_SMALL_BERT = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "num_hidden_layers": 3}
_SMALL_BERT |= {"vocab_size": 1000}


def preset_names() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("mirage_models.encoder") / "configs"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def write_random_checkpoint(
    preset: str, out: Path, *, seed: int = 0, size: Size = "full", half: bool = False, form: Form | None = None
) -> Path:
    """Writes a checkpoint's folder, the same bytes for the same arguments; returns `out`.

    Weights are open_clip's own initialisation, with noise instead of its zeros and ones, in float32 or float16. `form`
    is how they are stored: safetensors, a .bin as on the hub, or the .pt of a training run (default: as the public
    checkpoint). Raises KeyError for an unknown configuration.
    """
    if preset not in preset_names():
        raise KeyError(preset)
    text = (resources.files("mirage_models.encoder") / "configs" / f"{preset}.json").read_text("utf-8")
    config = json.loads(text)
    out.mkdir(parents=True, exist_ok=True)
    model_cfg = config["model_cfg"]
    tower = text_tower_config(out, model_cfg["text_cfg"])
    if size == "small" and preset in _SMALL:
        for name, value in _SMALL[preset].items():
            model_cfg[name] = {**model_cfg[name], **value} if isinstance(value, dict) else value
        if tower is not None:
            tower |= _SMALL_BERT
            (out / "config.json").write_text(json.dumps(tower, indent=2), "utf-8")
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=2), "utf-8")
    torch.manual_seed(seed)
    model = make_model(model_cfg, tower=tower)
    state = _noisy(model.state_dict(), torch.float16 if half else torch.float32)
    if tower is not None:
        state[_POSITIONS] = torch.arange(tower["max_position_embeddings"])[None]
        _write_wordpieces(out, tower["vocab_size"])
    _save(state, out, form or ("bin" if preset in ("biomedclip", "medicat-roco") else "safetensors"))
    return out


def _noisy(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    # Biases of zero and norms of one would hide that one of them is left out, and with BERT's small initial weights
    # every
    # text would get the vector of its first token.
    def noisy(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 1:
            return tensor + 0.05 * torch.randn(tensor.shape)
        return 4 * tensor if name.startswith("text.transformer.encoder") else tensor

    return {name: noisy(name, tensor).to(dtype).contiguous() for name, tensor in state.items()}


def _save(state: dict[str, torch.Tensor], out: Path, form: Form) -> None:
    if form == "safetensors":
        save_file(state, out / "open_clip_model.safetensors")
    elif form == "bin":
        torch.save(state, out / "open_clip_pytorch_model.bin")
    else:
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 1, "name": "run", "state_dict": wrapped}, out / "epoch_1.pt")


def _write_wordpieces(out: Path, size: int) -> None:
    """The tokenizer files of a BERT, with a made-up vocabulary of `size` wordpieces."""
    from tokenizers import BertWordPieceTokenizer

    characters = string.ascii_lowercase + string.digits + string.punctuation
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = itertools.chain(
        special,
        characters,
        (f"##{character}" for character in characters),
        _WORDS,
        ("".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=2)),
        (f"##{''.join(letters)}" for letters in itertools.product(string.ascii_lowercase, repeat=3)),
        ("".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=3)),
    )
    vocabulary = list(itertools.islice(dict.fromkeys(pieces), size))
    (out / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    BertWordPieceTokenizer(vocab=ids, lowercase=True).save(str(out / "tokenizer.json"))
    names = {f"{name.lower().strip('[]')}_token": name for name in special}
    (out / "special_tokens_map.json").write_text(json.dumps(names), "utf-8")
    settings = {**names, "tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 10**30}
    (out / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.encoder.random_checkpoint", description=__doc__)
    parser.add_argument("--config", choices=preset_names(), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=get_args(Size), default="full")
    parser.add_argument("--form", choices=get_args(Form))
    parser.add_argument("--half", action="store_true", help="float16")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_random_checkpoint(given.config, given.out, seed=given.seed, size=given.size, half=given.half, form=given.form)


if __name__ == "__main__":
    main()
