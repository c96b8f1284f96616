"""The mini generator's whole checkpoint: what the repository holds of it, CLIP's tokenizer, which open_clip brings, and the
whole table of tokens: the repository holds the rows of those that prompts can have.

`python -m mirage_models.generator.whole_folder --checkpoint DIR --out DIR` writes it as diffusers and the builder read it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
from safetensors.torch import save_file

from mirage_models.encoder.weights import read_weights
from mirage_models.generator.folder import write_json, write_tokenizer_files
from mirage_models.paths import bundles_folder
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

END = 49407
TEXT = "text_encoder"
WEIGHTS = "model.safetensors"
TABLE = "text_model.embeddings.token_embedding.weight"
KEPT = "kept_tokens"
"""The ids of the rows, int32: not among transformers' names."""
BROUGHT = "_tokenizer"
INDEX: dict[str, Any] = {
    "_class_name": "LatentConsistencyModelPipeline",
    "_diffusers_version": diffusers.__version__,
    BROUGHT: "open_clip",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    TEXT: ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
"""`model_index.json` of a mini generator whose tokenizer is brought by open_clip."""


def text_tower_folder() -> Path:
    """Returns the folder of the mini generator's text tower, the first mini encoder's, in transformers' layout (float16)."""
    return bundles_folder() / "generator" / "checkpoint" / TEXT


def filled(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the text tower's weights with a row for each of CLIP's tokens: 0 for those that were not kept.

    Raises CheckpointError if the rows are not those of the ids.
    """
    whole = {name: value for name, value in kept.items() if name != KEPT}
    if KEPT in kept:
        rows, ids = whole.get(TABLE), kept[KEPT].long()
        if rows is None or rows.shape[:1] != ids.shape or not bool(((ids >= 0) & (ids <= END)).all()):
            raise CheckpointError(f"the rows of {TABLE} are not those of {KEPT}")
        whole[TABLE] = rows.new_zeros((END + 1, rows.shape[1])).index_copy(0, ids, rows)
    return whole


def lacks_tokenizer(checkpoint: Path) -> bool:
    """Returns True for a folder whose `model_index.json` says that open_clip brings its tokenizer."""
    try:
        index = json.loads((checkpoint / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get(BROUGHT) == INDEX[BROUGHT]


def complete(checkpoint: Path, out: Path) -> Path:
    """Writes the complete folder at `out` and returns it.

    Raises FileExistsError, or CheckpointError for a text tower that is absent or cannot be read.
    """
    weights = checkpoint / TEXT / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{weights} is not there")
    tower = filled(read_weights(weights))
    shutil.copytree(checkpoint, out)
    save_file(tower, out / TEXT / WEIGHTS, metadata={"format": "pt"})
    write_json(out / "model_index.json", {key: value for key, value in INDEX.items() if key != BROUGHT})
    write_tokenizer_files(out / "tokenizer")
    return out


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and completes a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.generator.whole_folder", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="what the repository holds of the mini generator"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must not exist")
    parsed = parser.parse_args(arguments)
    try:
        complete(parsed.checkpoint, parsed.out)
    except (OSError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
