"""Tokenisation and preprocessing of a checkpoint, as the manifest states them and as files of the bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import open_clip
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from mirage_inference.bundles import ImageInput, TextInput
from mirage_models.encoder.clip_tokenizer import clip_tokenizer_json
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mirage_models.encoder.checkpoint import Checkpoint

TOKENIZER_FILE = "tokenizer.json"
_TOKENIZER_SOURCES = ("tokenizer.json", "vocab.txt")


def original_tokenizer(checkpoint: Checkpoint) -> Any:
    """Open_clip's tokenizer of a checkpoint; raises CheckpointError where its files are absent or cannot be read."""
    if checkpoint.text_cfg.get("hf_tokenizer_name"):
        there = [name for name in _TOKENIZER_SOURCES if (checkpoint.directory / name).is_file()]
        if not there:
            raise CheckpointError(f"the tokenizer is missing: expected {' or '.join(_TOKENIZER_SOURCES)}")
    try:
        return open_clip.get_tokenizer(f"local-dir:{checkpoint.directory}")
    except Exception as error:  # the libraries raise nothing more precise
        raise CheckpointError(f"the tokenizer cannot be read: {str(error)[:200]}") from error


def describe_text(checkpoint: Checkpoint) -> tuple[TextInput, str]:
    """Returns the tokenisation as a manifest states it, and the text of its tokenizer.json.

    Raises CheckpointError if the tokenizer cannot be read, and UnknownArchitectureError if it is of another kind.
    """
    tokenizer = original_tokenizer(checkpoint)
    if isinstance(tokenizer, SimpleTokenizer):
        if tokenizer.reduction_fn is not None:
            raise UnknownArchitectureError(
                "a tokenizer that drops words in the middle of a text was found; known cut its end"
            )
        text = TextInput(
            tokenizer=TOKENIZER_FILE,
            cleaning=_cleaning(checkpoint, default="lower"),
            context_length=tokenizer.context_length,
            start_id=tokenizer.sot_token_id,
            end_id=tokenizer.eot_token_id,
            pad_id=0,
        )
        return text, clip_tokenizer_json(tokenizer)
    if isinstance(tokenizer, HFTokenizer):
        return _describe_bert(checkpoint, tokenizer)
    raise UnknownArchitectureError(
        f"a tokenizer of the class {type(tokenizer).__name__} was found; known: CLIP's and BERT's"
    )


def _describe_bert(checkpoint: Checkpoint, theirs: Any) -> tuple[TextInput, str]:
    tokenizer = theirs.tokenizer
    sides = {getattr(tokenizer, "padding_side", ""), getattr(tokenizer, "truncation_side", "")}
    if not getattr(tokenizer, "is_fast", False) or sides != {"right"}:
        raise UnknownArchitectureError(
            "a tokenizer that cuts or fills up at the start, or has no tokenizer.json, was found"
        )
    start, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    # As BERT's wordpieces: start, text, end. Other post-processing would be lost in the bundle.
    if None in (start, end, pad) or tokenizer.encode("") != [start, end]:
        raise UnknownArchitectureError("a tokenizer that does not frame a text as BERT's does was found")
    masked = checkpoint.model.text.config.pad_token_id
    if pad != masked:
        raise CheckpointError(f"the tokenizer fills up with {pad}, the text tower masks {masked}")
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    # The encoder cuts and fills up by itself: it has to know how long a text was.
    content["truncation"] = content["padding"] = None
    text = TextInput(
        tokenizer=TOKENIZER_FILE,
        cleaning=_cleaning(checkpoint, default="whitespace"),
        context_length=theirs.context_length,
        start_id=start,
        end_id=end,
        pad_id=pad,
    )
    return text, json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _cleaning(checkpoint: Checkpoint, *, default: str) -> Any:
    options: Mapping[str, Any] = checkpoint.text_cfg.get("tokenizer_kwargs") or {}
    return options.get("clean", default)


def describe_image(checkpoint: Checkpoint) -> ImageInput:
    """Preprocessing as a manifest states it; raises UnknownArchitectureError for one that it cannot state."""
    cfg = checkpoint.preprocess_cfg
    sides = cfg["size"] if isinstance(cfg["size"], list | tuple) else (cfg["size"], cfg["size"])
    if sides[0] != sides[1]:
        raise UnknownArchitectureError("an image tower whose input is not square was found")
    return ImageInput(
        size=sides[0],
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        resize_mode=cfg["resize_mode"],
        interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        fill_color=cfg["fill_color"],
    )


def write_inputs(checkpoint: Checkpoint, folder: Path) -> tuple[TextInput, ImageInput]:
    """Write tokenizer.json.

    What the manifest says of texts and images. Raises as `describe_text` and `describe_image`.
    """
    image = describe_image(checkpoint)
    text, tokenizer = describe_text(checkpoint)
    (folder / TOKENIZER_FILE).write_text(tokenizer, "utf-8")
    return text, image
