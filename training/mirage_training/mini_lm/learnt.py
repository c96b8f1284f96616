"""Writes what the builder measures the mini llm's limits with: `python -m mirage_training.mini_lm.learnt --out CHECKPOINT`.

`learnt_words.txt` has the words of captions of exercises and labelled volumes, except made-up ones, which are rare.
`learnt_prompts.jsonl` has the captions of held-out prompts, a prompt a line. Captions of ROCO are in neither: what the model
learnt from them is not enough to describe such captions. `learnt_answers.json` has the words that answers have beyond their
captions', and how much copying is favoured.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mirage_inference.llm.learnt import caption_words
from mirage_training.mini_lm.captions import brain_caption, brain_spec, other_caption
from mirage_training.mini_lm.exercises import exercises, volume_examples
from mirage_training.mini_lm.explanations import Example
from mirage_training.mini_lm.heldout import heldout_examples
from mirage_training.mini_lm.volumes import volume_caption

_SEED = 17
_CAPTIONS = 20_000
_OFTEN = 10
_OTHER = 0.28
_VOLUMES = 4_000
_PROMPTS = 100
_ANSWERS = 1_000
COPYING = 0.8
"""In nats for each token that precedes the next one in a caption, of up to three."""
WORDS_FILE, PROMPTS_FILE, ANSWERS_FILE = "learnt_words.txt", "learnt_prompts.jsonl", "learnt_answers.json"
_WORD = re.compile(r"[^\W\d_]+")


def words() -> list[str]:
    """Returns the words that at least ten of 24,000 captions of exercises and volumes have."""
    rng = np.random.default_rng(_SEED)
    counts: Counter[str] = Counter()
    for _ in range(_CAPTIONS):
        seen = other_caption(rng) if rng.random() < _OTHER else brain_caption(brain_spec(rng), rng)
        counts.update(set(caption_words(seen.caption)))
    for _ in range(_VOLUMES):
        counts.update(set(caption_words(volume_caption(rng))))
    return sorted(word for word, count in counts.items() if count >= _OFTEN)


def prompts() -> list[list[str]]:
    """Returns the captions of held-out prompts: half of exercises, half of volumes."""
    rng = np.random.default_rng(_SEED)
    made = islice(heldout_examples(rng), _PROMPTS)
    exercises = [[seen.caption for seen in example.seen] for example in made]
    return exercises + [[volume_caption(rng) for _ in range(3)] for _ in range(_PROMPTS)]


def answer_words(sources: Iterable[Iterator[Example]]) -> list[str]:
    """Returns the words of examples' answers that are not in their captions."""
    found = set[str]()
    for source in sources:
        for made in islice(source, _ANSWERS):
            found |= set(_WORD.findall(made.text.lower())) - set(_WORD.findall(" ".join(made.captions).lower()))
    return sorted(found)


def write(out: Path) -> None:
    """Writes the files into a checkpoint."""
    (out / WORDS_FILE).write_text("\n".join(words()) + "\n", "utf-8")
    lines = (json.dumps(captions, ensure_ascii=False) for captions in prompts())
    (out / PROMPTS_FILE).write_text("\n".join(lines) + "\n", "utf-8")
    rng = np.random.default_rng(_SEED)
    answers = {"words": answer_words((exercises(rng), volume_examples(rng))), "copying": COPYING}
    (out / ANSWERS_FILE).write_text(json.dumps(answers) + "\n", "utf-8")


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint's folder")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
