"""A checkpoint's tokenizer as the bundle's `tokenizer.json`, and what it says of the prompt's format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mirage_core.errors import MirageError
from mirage_inference.llm.prompt import END, RESPONSE
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_models.llm.architecture import read_json
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_models.llm.architecture import NeoxConfig

TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILE, _SPECIAL_FILE = "tokenizer_config.json", "special_tokens_map.json"
INSTRUCTION = "### Instruction:"


@dataclass(frozen=True)
class Format:
    """The format of prompts, and the tokens that end a response."""

    name: Literal["dolly", "plain"]
    end_ids: tuple[int, ...]


def write_tokenizer(source: Path, target: Path, config: NeoxConfig) -> Format:
    """Writes the tokenizer to `target`, with the special tokens that only its companion files name.

    Raises CheckpointError if it is missing, cannot be read, or has more tokens than the model.
    """
    if not (source / TOKENIZER_FILE).is_file():
        raise CheckpointError(f"the tokenizer is missing: there is no {TOKENIZER_FILE}")
    content = read_json(source / TOKENIZER_FILE)
    _complete(content, source, config)
    target.write_text(json.dumps(content, ensure_ascii=False, sort_keys=False) + "\n", "utf-8")
    try:
        tokenizer = LlmTokenizer(target, vocabulary=config.vocabulary)
    except MirageError as error:
        raise CheckpointError(f"{TOKENIZER_FILE} cannot be used: {error.message}") from error
    # Dolly's markers are tokens of their own, of which `### Response:` has its line break with it
    # (databrickslabs/dolly,
    # training/consts.py); for another model they are text like any other.
    markers = [tokenizer.id_of(marker) for marker in (END, INSTRUCTION, RESPONSE)]
    end_ids = {config.end_id}
    if (end := tokenizer.id_of(END)) is not None:
        end_ids.add(end)
    return Format("dolly" if None not in markers else "plain", tuple(sorted(end_ids)))


def _complete(content: dict[str, Any], source: Path, config: NeoxConfig) -> None:
    """Adds the tokens that tokenizer_config.json or special_tokens_map.json name and tokenizer.json does not.

    transformers does the same when it loads such a folder: those with an id get that, the others the next free one.
    """
    added = content.get("added_tokens")
    model = content.get("model")
    if not isinstance(added, list) or not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise CheckpointError(f"{TOKENIZER_FILE} is no tokenizer with a vocabulary")
    known = {str(entry["content"]) for entry in added} | set(model["vocab"])
    free = max([*model["vocab"].values(), *(int(entry["id"]) for entry in added)], default=-1) + 1
    for number, entry in _with_ids(source):
        if entry["content"] not in known:
            if number != free:
                raise CheckpointError(f"{_CONFIG_FILE} gives a token the id {number}; the next free one is {free}")
            added.append({"id": free, **entry})
            known.add(entry["content"])
            free += 1
    for text in _additional(source):
        if text not in known:
            added.append({"id": free, **_entry(text)})
            known.add(text)
            free += 1
    if free > config.vocabulary:
        raise CheckpointError(f"the tokenizer has {free} tokens, the model knows {config.vocabulary}")


def _entry(text: str) -> dict[str, Any]:
    return {
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _with_ids(source: Path) -> list[tuple[int, dict[str, Any]]]:
    if not (source / _CONFIG_FILE).is_file():
        return []
    named = read_json(source / _CONFIG_FILE).get("added_tokens_decoder") or {}
    try:
        return sorted(
            (int(number), {key: entry[key] for key in _entry("") if key in entry} | {"content": str(entry["content"])})
            for number, entry in named.items()
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{_CONFIG_FILE} cannot be read") from error


def _additional(source: Path) -> list[str]:
    if not (source / _SPECIAL_FILE).is_file():
        return []
    named = read_json(source / _SPECIAL_FILE).get("additional_special_tokens") or []
    return [str(entry["content"] if isinstance(entry, dict) else entry) for entry in named]
