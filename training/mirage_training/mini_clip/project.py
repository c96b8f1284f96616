"""The last stage of mini-clip 2, after `tune`: `python -m mirage_training.mini_clip.project --help`.

It begins with the mean of the weights of one or more checkpoints that were tuned from the same one (Wortsman et al. 2022). The
towers stay, and only their two linear projections learn, with batches of a thousand images and as many texts. A batch of 64
hardly has two sections of one plane and contrast at levels that are near each other, or two images of one source: here the
cosine learns how much such details count. Seeded. It takes minutes and cannot be resumed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from mirage_models.encoder.checkpoint import load_checkpoint
from mirage_models.tasks import CheckpointError
from mirage_training.mini_clip.facts import Text
from mirage_training.mini_clip.joint import CONTEXT, JointHeads, save_checkpoint, trunk_features
from mirage_training.mini_clip.pool import Pool
from mirage_training.mini_clip.prepare import read_config
from mirage_training.mini_clip.queries import Shift
from mirage_training.mini_clip.tune import all_facts, draw_texts, loss_parts, mean_hidden

BLOCK = 256


@dataclass(frozen=True)
class Bank:
    """Texts and shifts with what the text tower gives for them: float32 [texts, width], and [shifts, 4, width] of base, target,
    what is taken away and what is added.
    """

    texts: list[Text]
    hidden: Tensor
    shifts: list[Shift]
    shift_hidden: Tensor


def mean_model(folders: list[Path]) -> Any:
    """The model of the first checkpoint with the mean of the weights of all.

    Raises CheckpointError if a folder has no checkpoint, or one of another vocabulary or shape.
    """
    model = load_checkpoint(folders[0]).model.float().eval()
    words = (folders[0] / "tokenizer.json").read_bytes()
    states = []
    for folder in folders:
        state = load_checkpoint(folder).model.float().state_dict()
        same = {name: value.shape for name, value in state.items()} == {
            name: value.shape for name, value in model.state_dict().items()
        }
        if not same or (folder / "tokenizer.json").read_bytes() != words:
            raise CheckpointError(f"{folder} is not of the same vocabulary and shape as {folders[0]}")
        states.append(state)
    model.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
            for name, value in states[0].items()
        }
    )
    return model


def image_hidden(model: Any, pool: Pool) -> Tensor:
    """What the image tower gives to its projection, for all views: float32 [views, width]."""
    rows = range(len(pool.items))
    with torch.inference_mode():
        parts = [trunk_features(model, pool.features(list(rows[at : at + BLOCK]))) for at in range(0, len(rows), BLOCK)]
    return torch.cat(parts).clone()


def draw_bank(model: Any, tokenizer: Tokenizer, pool: Pool, config: dict[str, Any]) -> Bank:
    """Texts as `tune` draws them, about images of the pool."""
    texts: list[Text] = []
    shifts: list[Shift] = []
    for number in range(config["project"]["texts_about"] // config["train"]["batch"]):
        rng = np.random.default_rng([config["seed"], 5, number])
        items = [pool.items[index] for index in pool.draw(config["train"]["batch"], rng)]
        drawn, shifted = draw_texts(items, rng)
        texts += drawn[: len(drawn) - 2 * len(shifted)]
        shifts += shifted
    words = [text.text for text in texts]
    words += [each for s in shifts for each in (s.base.text, s.target.text, s.minus, s.plus)]
    with torch.inference_mode():
        tower = model.text.transformer
        parts = [mean_hidden(tower, tokenizer, words[at : at + BLOCK]) for at in range(0, len(words), BLOCK)]
    hidden = torch.cat(parts).clone()
    return Bank(texts, hidden[: len(texts)], shifts, hidden[len(texts) :].unflatten(0, (len(shifts), 4)))


def learn(model: Any, pool: Pool, images: Tensor, bank: Bank, config: dict[str, Any], log: Path) -> dict[str, Tensor]:
    """Trains the projections and returns the model's averaged state."""
    settings, facts = config["project"], all_facts(pool.items)
    torch.manual_seed(config["seed"])
    heads = JointHeads(config["towers"]["dimension"], facts)
    image, text = model.visual.head.proj, model.text.proj
    tuned = [*image.parameters(), *text.parameters(), model.logit_scale]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in tuned:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        [
            {"params": tuned, "rate": settings["rate"]},
            {"params": list(heads.parameters()), "rate": settings["head_rate"]},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    average = [each.detach().clone() for each in tuned]
    began = time.monotonic()
    for step in range(settings["steps"]):
        rng = np.random.default_rng([config["seed"], 6, step])
        rows = pool.draw(settings["batch"], rng)
        asked = rng.choice(len(bank.texts), settings["batch"], replace=False)
        moved = rng.choice(len(bank.shifts), settings["batch"] // 10, replace=False)
        shifts = [bank.shifts[index] for index in moved]
        texts = [bank.texts[index] for index in asked]
        texts += [Text(shift.base.text, frozenset(), shift.base.claim) for shift in shifts]
        texts += [Text(shift.target.text, frozenset(), shift.target.claim) for shift in shifts]
        hidden = torch.cat([bank.hidden[asked], *bank.shift_hidden[moved].unbind(1)])
        alone = step < settings["heads_alone"]
        left = (settings["steps"] - step) / (settings["steps"] - settings["heads_alone"])
        for group, still in zip(optimiser.param_groups, (alone, False), strict=True):
            group["lr"] = 0.0 if still else group["rate"] * min(1.0, max(left, 0.02))
        units = functional.normalize(text(hidden), dim=-1)
        vectors = functional.normalize(image(images[rows]), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100.0)
        parts = loss_parts([pool.items[row] for row in rows], texts, shifts, vectors, units, heads, facts, scale)
        loss = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimiser.step()
        with torch.no_grad():
            for kept, value in zip(average, tuned, strict=True):
                kept.lerp_(value, 1.0 if alone else 0.02)
        if step % 20 == 19:
            line: dict[str, float] = {"step": step + 1, "seconds": round(time.monotonic() - began)}
            line |= {name: round(float(value.detach()), 4) for name, value in parts.items()}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"scale": round(float(scale.detach()), 2)}) + "\n")
    with torch.no_grad():
        for kept, value in zip(average, tuned, strict=True):
            value.copy_(kept)
    state: dict[str, Tensor] = model.state_dict()
    return state


def main(argv: list[str] | None = None) -> None:
    """Trains the projections of a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.project", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, action="append", required=True, help="a checkpoint of `tune`; can be repeated"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of `prepare`")
    parser.add_argument("--out", type=Path, required=True, help="folder for the log and the checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    config = read_config()
    try:
        model = mean_model(arguments.checkpoint)
    except (CheckpointError, FileNotFoundError) as error:
        parser.error(str(error))
    vocabulary = Tokenizer.from_file(str(arguments.checkpoint[0] / "tokenizer.json"))
    words = vocabulary.get_vocab()
    vocabulary.enable_truncation(CONTEXT)
    try:
        pool = Pool(arguments.work / "views", config["views"]["shards"])
    except ValueError as error:
        parser.error(str(error))
    if len(pool.items) < 8 * config["project"]["batch"]:
        parser.error(
            f"{arguments.work} has {len(pool.items)} views: too few for batches of {config['project']['batch']}"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    images, bank = image_hidden(model, pool), draw_bank(model, vocabulary, pool, config)
    print(f"{len(images)} views, {len(bank.texts)} texts, {len(bank.shifts)} shifts", flush=True)
    state = learn(model, pool, images, bank, config, arguments.out / "log.jsonl")
    save_checkpoint(
        state, arguments.out / "checkpoint", kept=sorted(words, key=lambda word: words[word]),
        layers=len(config["towers"]["text_layers"]), dimension=config["towers"]["dimension"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
