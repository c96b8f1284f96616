"""A checkpoint's tokenizer as the bundle's `tokenizer.json`, and what it says of the prompt's format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mirage_core.errors import MirageError
from mirage_inference.llm.prompt import DOLLY, END, RESPONSE, PromptFormat
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_models.llm.architecture import read_json
from mirage_models.llm.chat_formats import chat_format
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_inference.bundles.llm import ChatFormat

TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILE, _SPECIAL_FILE = "tokenizer_config.json", "special_tokens_map.json"
INSTRUCTION = "### Instruction:"


@dataclass(frozen=True)
class Format:
    """The format of prompts, and the tokens that end a response. `chat` is there for the format "chat"."""

    name: Literal["dolly", "plain", "chat"]
    end_ids: tuple[int, ...]
    chat: ChatFormat | None = None

    @property
    def prompt(self) -> PromptFormat | None:
        """The format of the service's prompts, None for a model that follows no instructions."""
        if self.chat is not None:
            return PromptFormat(**self.chat.model_dump())
        return DOLLY if self.name == "dolly" else None


def complete_tokenizer(source: Path, target: Path, *, vocabulary: int) -> None:
    """Writes the tokenizer to `target`, with the special tokens that only its companion files name.

    Raises CheckpointError if it is missing, cannot be read, or has more tokens than the model.
    """
    if not (source / TOKENIZER_FILE).is_file():
        raise CheckpointError(f"the tokenizer is missing: there is no {TOKENIZER_FILE}")
    content = read_json(source / TOKENIZER_FILE)
    _complete(content, source, vocabulary)
    target.write_text(json.dumps(content, ensure_ascii=False, sort_keys=False) + "\n", "utf-8")


def format_of(path: Path, *, vocabulary: int, end_ids: tuple[int, ...]) -> Format:
    """The format that a `tokenizer.json` is made for; `end_ids` are the model's own.

    Raises CheckpointError if the file cannot be used.
    """
    try:
        tokenizer = LlmTokenizer(path, vocabulary=vocabulary)
    except MirageError as error:
        raise CheckpointError(f"{TOKENIZER_FILE} cannot be used: {error.message}") from error
    ends = set(end_ids)
    if (chat := chat_format(tokenizer)) is not None:
        return Format("chat", tuple(sorted(ends | {chat[1]})), chat[0])
    # Dolly's markers are tokens of their own, of which `### Response:` has its line break with it
    # (databrickslabs/dolly, training/consts.py); for another model they are text like any other.
    markers = [tokenizer.id_of(marker) for marker in (END, INSTRUCTION, RESPONSE)]
    if (end := tokenizer.id_of(END)) is not None:
        ends.add(end)
    return Format("dolly" if None not in markers else "plain", tuple(sorted(ends)))


def _complete(content: dict[str, Any], source: Path, vocabulary: int) -> None:
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
    if free > vocabulary:
        raise CheckpointError(f"the tokenizer has {free} tokens, the model knows {vocabulary}")


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
