"""Open_clip's byte-pair tokenizer as a Hugging Face `tokenizer.json`."""

from __future__ import annotations

import json
from typing import Any

from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

# As in open_clip/tokenizer.py. The flag that ignores case matters for the letters after an apostrophe only; it also
# makes
# that library take U+0345 (a combining Greek iota) and some unassigned code points another way, which is not followed.
_PIECES = r"<start_of_text>|<end_of_text>|(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_tokenizer_json(source: SimpleTokenizer) -> str:
    """Returns the text of a tokenizer.json that gives the ids of `source.encode`, for texts that are cleaned as it
    cleans them.

    Cleaning and the start and end tokens are left to the caller (mirage_inference.encoder.tokenizer), which also reads the two
    markers as one token each if a text spells them out.
    """
    model = BPE(
        vocab=dict(source.encoder),
        merges=list(source.bpe_ranks),
        end_of_word_suffix="</w>",
        fuse_unk=False,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = Sequence(
        [
            Split(Regex(_PIECES), behavior="removed", invert=True),
            ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    # Compact, and in one order whatever the library's version.
    content: Any = json.loads(tokenizer.to_str())
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
