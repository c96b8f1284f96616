"""Writes what the builder measures the mini llm's limits with: `python -m mirage_training.mini_lm.learnt --out CHECKPOINT`.

`learnt_words.txt` has the words of the captions that it was trained on, except made-up ones, which are rare.
`learnt_prompts.jsonl` has the captions of held-out prompts, a prompt a line.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from mirage_inference.llm.learnt import caption_words
from mirage_training.mini_lm.captions import brain_caption, brain_spec, other_caption
from mirage_training.mini_lm.heldout import heldout_examples

_SEED = 17
_CAPTIONS = 20_000
_OFTEN = 10
_OTHER = 0.28
_PROMPTS = 200


def words() -> list[str]:
    """Returns the words that at least ten of 20,000 captions of the training's kind have."""
    rng = np.random.default_rng(_SEED)
    counts: Counter[str] = Counter()
    for _ in range(_CAPTIONS):
        seen = other_caption(rng) if rng.random() < _OTHER else brain_caption(brain_spec(rng), rng)
        counts.update(set(caption_words(seen.caption)))
    return sorted(word for word, count in counts.items() if count >= _OFTEN)


def prompts() -> list[list[str]]:
    """Returns the captions of held-out prompts."""
    made = islice(heldout_examples(np.random.default_rng(_SEED)), _PROMPTS)
    return [[seen.caption for seen in example.seen] for example in made]


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint's folder")
    out: Path = parser.parse_args().out
    (out / "learnt_words.txt").write_text("\n".join(words()) + "\n", "utf-8")
    lines = (json.dumps(captions, ensure_ascii=False) for captions in prompts())
    (out / "learnt_prompts.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
