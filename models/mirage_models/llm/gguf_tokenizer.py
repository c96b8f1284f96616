"""The tokenizer of a GGUF file as a `tokenizer.json`: byte-level BPE, and SentencePiece's BPE with scores.

The pre-tokenizers are those that llama.cpp knows by these names (llama-vocab.cpp), in the form that the models' own
`tokenizer.json` has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4  # kinds of tokens (gguf.TokenType)
_SPACE = "\u2581"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PLAIN = ("gpt-2", "smollm")
_SPLIT = {"llama-bpe": _WORDS.format(digits="{1,3}"), "qwen2": _WORDS.format(digits="")}


def write_gguf_tokenizer(fields: Mapping[str, Any], target: Path, *, name: str) -> None:
    """Writes the tokenizer in a GGUF file's metadata to `target`.

    Raises CheckpointError if it is missing or damaged, UnknownArchitectureError for another kind.
    """
    try:
        tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
        kinds: Sequence[int] = fields.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
        model = fields["tokenizer.ggml.model"]
        if model == "gpt2":
            tokenizer = _byte_level(fields, tokens)
        elif model == "llama":
            tokenizer = _sentencepiece(fields, tokens)
        else:
            raise UnknownArchitectureError(
                f"{name} has a tokenizer of the kind {str(model)[:40]}; gpt2 and llama are known"
            )
        added = [
            AddedToken(token, normalized=False, special=kind in (_CONTROL, _UNKNOWN))
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (_CONTROL, _UNKNOWN, _USER) and token
        ]
        tokenizer.add_tokens([token for token in added if not token.special])
        tokenizer.add_special_tokens([token for token in added if token.special])
        if tokenizer.get_vocab_size(with_added_tokens=True) > len(tokens):
            raise CheckpointError(f"{name} has a tokenizer whose special tokens are not in its vocabulary")
        tokenizer.save(str(target))
    except (UnknownArchitectureError, CheckpointError):
        raise
    except Exception as error:  # the library raises plain Exception, and damaged metadata anything
        raise CheckpointError(f"{name} has a tokenizer that cannot be used") from error


def _byte_level(fields: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    before = fields.get("tokenizer.ggml.pre", "gpt-2")
    if before not in (*_PLAIN, *_SPLIT):
        known = ", ".join((*_PLAIN, *_SPLIT))
        raise UnknownArchitectureError(f"the pre-tokenizer {str(before)[:40]} is not known; {known} are")
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    # Llama 3 takes a word that is a token as it is.
    tokenizer = Tokenizer(models.BPE(_numbered(tokens), merges, ignore_merges=before == "llama-bpe"))
    if before == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if before in _SPLIT:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLIT[before]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        parts = [pre_tokenizers.Digits(individual_digits=True)] if before == "smollm" else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(fields: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    vocabulary, scores = _numbered(tokens), fields["tokenizer.ggml.scores"]
    # SentencePiece joins the neighbours whose token has the best score: the same as merges in this order.
    ranked = sorted(range(len(tokens)), key=lambda number: (-scores[number], number))
    merges = []
    for number in ranked:
        token = tokens[number]
        splits = [(token[:place], token[place:]) for place in range(1, len(token))]
        known = [(left, right) for left, right in splits if left in vocabulary and right in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    unknown = tokens[int(fields.get("tokenizer.ggml.unknown_token_id", 0))]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixed = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixed else spaces
    parts = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefixed else parts)
    return tokenizer


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    numbered: dict[str, int] = {}
    for number, token in enumerate(tokens):
        numbered.setdefault(token, number)
    return numbered
