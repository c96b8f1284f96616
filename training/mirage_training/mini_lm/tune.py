"""Tunes the mini llm so that it copies: `python -m mirage_training.mini_lm.tune --roco FILE --start DIR --work DIR --out DIR`.

It begins with the checkpoint that `train` made, gets a tokenizer that knows the words of real captions, and learns to say what
captions of ROCO, of labelled volumes and of the exercises say. Seeded and resumable: a batch depends on its step alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM

from mirage_inference.llm.prompt import prompt
from mirage_inference.llm.words import medical
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.exercises import exercises, volume_examples
from mirage_training.mini_lm.explanations import Example
from mirage_training.mini_lm.learnt import write as write_learnt
from mirage_training.mini_lm.roco import Row, examples, learnt_from, read
from mirage_training.mini_lm.tokens import SPECIAL, trained_on
from mirage_training.mini_lm.train import STATE_FILE, TOKENIZER_FILE, Plan, encode, export, learn, padded


@dataclass(frozen=True)
class Recipe:
    """Everything except the code that decides a run. Shares are of examples; the rest are exercises."""

    seed: int = 20261129
    steps: int = 280
    rate: float = 1e-3
    warmup: int = 40
    decay: int = 90
    weight_decay: float = 0.05
    batch: int = 16
    context: int = 512
    prompt_weight: float = 0.1
    real: float = 0.55
    volumes: float = 0.15
    answer_tokens: int = 124


SORTED = 4
"""Batches that are made together, so that each has examples of like length."""


def mixed(recipe: Recipe, rows: Sequence[Row], rng: np.random.Generator) -> Iterator[Example]:
    """Examples of all kinds, without end."""
    real, volumes, known = examples(rows, rng), volume_examples(rng), exercises(rng)
    while True:
        drawn = rng.random()
        yield next(real if drawn < recipe.real else volumes if drawn < recipe.real + recipe.volumes else known)


def new_tokenizer(recipe: Recipe, rows: Sequence[Row]) -> Tokenizer:
    """A tokenizer of captions of all kinds, real ones counted thrice."""
    rng = np.random.default_rng(recipe.seed)
    texts = [row.caption for row in rows for _ in range(3)]
    texts += [" ".join(sorted(medical()))] * 3 + sorted(facts.sentences())
    for source in (exercises(rng), volume_examples(rng)):
        for made in islice(source, 400):
            texts += [prompt(made.query, made.captions), made.text]
    return trained_on(texts)


def graft(model: GPTNeoXForCausalLM, old: Tokenizer, new: Tokenizer) -> None:
    """Gives a model another tokenizer: a token's embeddings are the mean of those of its pieces in the old one."""
    special = len(SPECIAL)
    with torch.no_grad():
        for layer in (model.gpt_neox.embed_in, model.embed_out):
            before = layer.weight.clone()
            for token in range(special, new.get_vocab_size()):
                pieces = old.encode(new.decode([token])).ids
                if pieces:
                    layer.weight[token] = before[pieces].mean(dim=0)


def fitted(made: Example, tokenizer: Tokenizer, recipe: Recipe) -> Example:
    """The example without the last sentences of an answer that would be cut."""
    sentences = list(made.sentences)
    while len(sentences) > 1 and len(tokenizer.encode(" ".join(sentences)).ids) > recipe.answer_tokens:
        sentences.pop()
    return Example(made.query, made.seen, tuple(sentences), made.texts)


def batch(
    tokenizer: Tokenizer, recipe: Recipe, rows: Sequence[Row], step: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Tokens int64 [B, T] and the weight of each as a target float32 [B, T]."""
    rng = np.random.default_rng((recipe.seed, step // SORTED))
    source = islice(mixed(recipe, rows, rng), recipe.batch * SORTED)
    made = []
    for each in source:
        short = fitted(each, tokenizer, recipe)
        ids, head = encode(tokenizer, short.query, list(short.captions), short.text)
        made.append((ids[: recipe.context], head))
    made.sort(key=lambda each: len(each[0]))
    place = int(rng.permutation(SORTED)[step % SORTED])
    made = made[place * recipe.batch : (place + 1) * recipe.batch]
    return padded(made, recipe.prompt_weight)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then the same rate up to the last steps, in which it falls to a twentieth."""
    left = (recipe.steps - step) / recipe.decay
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup, 0.05 + 0.95 * left)


def tune(
    work: Path, start: Path, rows: Sequence[Row], recipe: Recipe, *, save_every: int = 20, stop_at: int | None = None
) -> GPTNeoXForCausalLM:
    """Trains in `work` from its last saved state, or from the checkpoint `start`; the log has a line every 10 steps."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / TOKENIZER_FILE
    if not path.exists():
        new_tokenizer(recipe, rows).save(str(path))
    tokenizer = Tokenizer.from_file(str(path))
    torch.manual_seed(recipe.seed)
    model = GPTNeoXForCausalLM.from_pretrained(start, dtype=torch.float32, attn_implementation="sdpa")
    graft(model, Tokenizer.from_file(str(start / TOKENIZER_FILE)), tokenizer)
    return learn(
        model,
        work / STATE_FILE,
        Plan(recipe.steps, recipe.weight_decay, save_every, stop_at, log_every=10, half=False),
        rate=lambda step: learning_rate(recipe, step),
        batch=lambda step: batch(tokenizer, recipe, rows, step),
    )


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and tune."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_lm.tune", description=__doc__)
    parser.add_argument("--roco", type=Path, required=True, help="ROCO's captions, a JSON a line")
    parser.add_argument("--start", type=Path, required=True, help="the checkpoint that `train` wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder for tokenizer, state and log")
    parser.add_argument("--out", type=Path, help="write the checkpoint here at the end")
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    recipe = Recipe()
    print(json.dumps(asdict(recipe)), flush=True)
    try:
        rows = learnt_from(read(parsed.roco))
    except (OSError, ValueError) as error:
        parser.error(f"{parsed.roco}: {error}")
    model = tune(parsed.work, parsed.start, rows, recipe)
    if parsed.out:
        export(model, parsed.work, parsed.out)
        write_learnt(parsed.out)
        pmcids = "\n".join(sorted({row.pmcid for row in rows}))
        (parsed.out.parent / "roco_pmcids.txt").write_text(f"{pmcids}\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
