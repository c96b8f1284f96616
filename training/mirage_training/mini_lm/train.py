"""Trains the mini llm: `python -m mirage_training.mini_lm.train --work FOLDER`. Seeded and resumable.

Every batch is composed from its step's number, so that a resumed run sees the same batches as an uninterrupted one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from mirage_inference.llm.prompt import END, prompt
from mirage_training.mini_lm.explanations import TOGETHER, Composition
from mirage_training.mini_lm.heldout import training_examples
from mirage_training.mini_lm.tokens import SPECIAL, VOCABULARY, train_tokenizer

TOKENIZER_FILE = "tokenizer.json"
STATE_FILE = "state.pt"
IGNORED = -100


@dataclass(frozen=True)
class Round:
    """Steps with one cosine of the learning rate, from `rate` down to a twentieth.

    `prompt_weight` is how much the prompt's tokens count in the loss: captions are worth knowing, but the response is
    asked for.
    """

    steps: int
    rate: float
    prompt_weight: float
    composition: Composition


@dataclass(frozen=True)
class Recipe:
    """Everything except the code that decides a run."""

    seed: int = 20261123
    rounds: tuple[Round, ...] = (
        Round(2400, 2e-3, 0.1, TOGETHER),
        Round(1200, 1e-3, 0.1, TOGETHER),
        Round(1200, 1e-3, 0.0, Composition(brain=0.6)),
        Round(1000, 1e-3, 0.1, Composition(brain=0.3)),
    )
    batch: int = 16
    context: int = 512
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    warmup: int = 200
    weight_decay: float = 0.05

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(each.steps for each in self.rounds)

    def at(self, step: int) -> tuple[Round, int]:
        """The round of a step, and the step's number in it."""
        for each in self.rounds[:-1]:
            if step < each.steps:
                return each, step
            step -= each.steps
        return self.rounds[-1], step


def make_model(recipe: Recipe) -> GPTNeoXForCausalLM:
    """A new GPT-NeoX in Pythia's configuration, small, with one matrix for input and output embeddings."""
    torch.manual_seed(recipe.seed)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.hidden,
        max_position_embeddings=1024,
        rotary_pct=0.25,
        hidden_act="gelu",
        use_parallel_residual=True,
        tie_word_embeddings=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        bos_token_id=0,
        eos_token_id=SPECIAL.index(END),
        attn_implementation="sdpa",
    )
    return GPTNeoXForCausalLM(config)


def encode(tokenizer: Tokenizer, query: str, captions: list[str], response: str) -> tuple[list[int], int]:
    """Ids of a prompt with its response and the end token, and how many of them are the prompt's."""
    head = tokenizer.encode(prompt(query, captions)).ids
    return head + tokenizer.encode(response + "\n\n" + END).ids, len(head)


def batch(tokenizer: Tokenizer, recipe: Recipe, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Tokens int64 [B, T] and the weight of each as a target float32 [B, T]; of similar length, to pad little."""
    rng = np.random.default_rng((recipe.seed, step))
    current = recipe.at(step)[0]
    made = [
        encode(tokenizer, each.query, [seen.caption for seen in each.seen], each.text)
        for each in islice(training_examples(rng, current.composition), recipe.batch)
    ]
    return padded([(ids[: recipe.context], head) for ids, head in made], current.prompt_weight)


def padded(
    made: Sequence[tuple[list[int], int]], prompt_weight: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows of ids, with how many of each are the prompt's, as tokens int64 [B, T] and weights float32 [B, T]."""
    length = -(-max(len(ids) for ids, _ in made) // 16) * 16
    tokens = np.zeros((len(made), length), dtype=np.int64)
    weights = np.zeros((len(made), length), dtype=np.float32)
    for row, (ids, head) in enumerate(made):
        tokens[row, : len(ids)] = ids
        weights[row, : len(ids)] = 1.0
        weights[row, :head] = prompt_weight
    return tokens, weights


def loss_of(
    model: GPTNeoXForCausalLM, tokens: torch.Tensor, weights: torch.Tensor, *, half: bool = True
) -> torch.Tensor:
    """Returns the weighted mean cross-entropy of the next token, in nats; tokens of zero weight are not computed."""
    share = weights[:, 1:]
    counts = share > 0
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        states = model.gpt_neox(input_ids=tokens[:, :-1]).last_hidden_state
        logits = model.embed_out(states[counts])
    losses = torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][counts], reduction="none")
    return (losses * share[counts]).sum() / share.sum()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up at the start, then the cosine of each round."""
    if step < recipe.warmup:
        return recipe.rounds[0].rate * (step + 1) / recipe.warmup
    current, done = recipe.at(step)
    warm = recipe.warmup if current is recipe.rounds[0] else 0
    share = min(1.0, (done - warm) / max(1, current.steps - warm))
    return current.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def train(work: Path, recipe: Recipe, *, save_every: int = 200, stop_at: int | None = None) -> GPTNeoXForCausalLM:
    """Trains in `work` from its last saved state up to `stop_at` (if given); the log has a line every 20 steps."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / TOKENIZER_FILE
    if not path.exists():
        train_tokenizer(recipe.seed).save(str(path))
    tokenizer = Tokenizer.from_file(str(path))
    return learn(
        make_model(recipe),
        work / STATE_FILE,
        Plan(recipe.steps, recipe.weight_decay, save_every, stop_at, log_every=20),
        rate=lambda step: learning_rate(recipe, step),
        batch=lambda step: batch(tokenizer, recipe, step),
    )


@dataclass(frozen=True)
class Plan:
    """Steps of a run, how often its state is saved and a line is logged, and the step to stop at (None: the last).

    `half`: products in bfloat16.
    """

    steps: int
    weight_decay: float
    save_every: int
    stop_at: int | None
    log_every: int
    half: bool = True


def learn(
    model: GPTNeoXForCausalLM,
    state_file: Path,
    plan: Plan,
    *,
    rate: Callable[[int], float],
    batch: Callable[[int], tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]],
) -> GPTNeoXForCausalLM:
    """Trains on from the saved state, if there is one; learning rate and batch depend on the step alone."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate(0), betas=(0.9, 0.95), weight_decay=plan.weight_decay)
    start = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["step"])
    began, recent = time.monotonic(), 0.0
    for step in range(start, min(plan.steps, plan.stop_at or plan.steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        tokens, weights = (torch.from_numpy(each) for each in batch(step))
        loss = loss_of(model, tokens, weights, half=plan.half)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = 0.95 * recent + 0.05 * float(loss.detach()) if recent else float(loss.detach())
        if (step + 1) % plan.log_every == 0:
            pace = (time.monotonic() - began) / (step + 1 - start)
            print(json.dumps({"step": step + 1, "loss": round(recent, 4), "s_per_step": round(pace, 2)}), flush=True)
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            save(state_file, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
    return model.eval()


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a state whole or not at all."""
    temporary = path.with_suffix(".writing")
    torch.save(state, temporary)
    temporary.replace(path)


def export(model: GPTNeoXForCausalLM, work: Path, out: Path) -> None:
    """Write the checkpoint in the Hub's layout: config.json, model.safetensors (float16), tokenizer files as Dolly
    has them.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tokenizer = Tokenizer.from_file(str(work / TOKENIZER_FILE))
    tokenizer.save(str(out / TOKENIZER_FILE))
    end, *headings = SPECIAL
    config = {
        "tokenizer_class": "GPTNeoXTokenizerFast",
        "add_prefix_space": False,
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "model_max_length": 1024,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    special = {"bos_token": end, "eos_token": end, "unk_token": end, "additional_special_tokens": headings}
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", "utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_lm.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for tokenizer, state and log")
    parser.add_argument("--out", type=Path, help="write the checkpoint here at the end")
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    recipe = Recipe()
    print(json.dumps(asdict(recipe)), flush=True)
    model = train(parsed.work, recipe)
    if parsed.out:
        export(model, parsed.work, parsed.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
