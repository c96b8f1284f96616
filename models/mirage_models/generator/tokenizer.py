"""CLIP's tokenizer, as transformers keeps it (vocab.json, merges.txt), as one `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import convert_slow_tokenizer

from mirage_inference.bundles import PromptInput
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from mirage_models.generator.checkpoint import Checkpoint

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(checkpoint: Checkpoint) -> CLIPTokenizer:
    """Returns the tokenizer as the original pipeline runs it; raises CheckpointError if it cannot be read."""
    try:
        return CLIPTokenizer.from_pretrained(checkpoint.folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the library raises whatever the files gave it
        raise CheckpointError("the tokenizer cannot be read") from error


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> PromptInput:
    """Writes `tokenizer.json` and returns how prompts are tokenised.

    Raises CheckpointError if the tokenizer cannot be read.
    """
    slow = load_tokenizer(checkpoint)
    if slow.vocab_size > int(checkpoint.text["vocab_size"]):
        raise CheckpointError(
            f"the tokenizer has {slow.vocab_size} tokens, the text tower {checkpoint.text['vocab_size']}"
        )
    try:
        fast = convert_slow_tokenizer(slow)
    except Exception as error:  # as above
        raise CheckpointError("the tokenizer cannot be converted") from error
    (folder / TOKENIZER_FILE).write_text(fast.to_str(pretty=False), "utf-8")
    context = min(slow.model_max_length, int(checkpoint.text["max_position_embeddings"]))
    return PromptInput(
        tokenizer=TOKENIZER_FILE,
        context_length=context,
        start_id=slow.bos_token_id,
        end_id=slow.eos_token_id,
        pad_id=slow.pad_token_id,
    )
