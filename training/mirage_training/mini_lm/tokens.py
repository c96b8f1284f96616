"""The tokenizer: byte-level BPE of our own texts, with Dolly's special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mirage_inference.llm.prompt import prompt
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.explanations import TOGETHER
from mirage_training.mini_lm.heldout import training_examples

END_OF_TEXT = "<|endoftext|>"
SPECIAL = (END_OF_TEXT, "### End", "### Instruction:", "### Response:\n")
"""As in Dolly v2's tokenizer: `### Response:` is one token together with its line break."""
VOCABULARY = 4096
_EXAMPLES = 30_000


def train_tokenizer(seed: int, *, examples: int = _EXAMPLES) -> Tokenizer:
    """Returns a tokenizer of `VOCABULARY` tokens, the same for the same seed. Each digit is a token, so that numbers
    can be copied.
    """
    return trained_on(_texts(seed, examples))


def trained_on(texts: Iterable[str]) -> Tokenizer:
    """Returns a tokenizer of `VOCABULARY` tokens of texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _texts(seed: int, examples: int) -> Iterator[str]:
    yield from sorted(facts.sentences())
    for made in islice(training_examples(np.random.default_rng(seed), TOGETHER), examples):
        yield prompt(made.query, [each.caption for each in made.seen])
        yield made.text
