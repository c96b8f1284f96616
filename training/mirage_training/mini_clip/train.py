"""Train the mini CLIP: `python -m mirage_training.mini_clip.train --work DIR --steps N [--resume]`.

Every step draws its own sections, texts and augmentation from (seed, step), so a resumed run continues as it would have
gone on. The learning rate warms up, stays, and falls over the last `--decay` steps; averaged weights are what is saved
for use.
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
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional

from mirage_training.mini_clip import losses
from mirage_training.mini_clip.batches import SectionSource, augmented
from mirage_training.mini_clip.claims import Claim, image_table, truth
from mirage_training.mini_clip.model import Heads, build_model, encode_images, encode_texts, save_checkpoint
from mirage_training.mini_clip.offatlas import NOWHERE, off_atlas_query, opening, random_tokens
from mirage_training.mini_clip.queries import Query, attribute_query, caption_query, shift_query, short_query
from mirage_training.mini_clip.samples import sample_query
from mirage_training.mini_clip.workfolder import cached_template, read_samples, write_samples

AVERAGE_EVERY = 4
START, END = 49406, 49407


@dataclass(frozen=True)
class Mix:
    """The number of texts of each kind in one step, in addition to one short query per image."""

    captions: int = 16
    attributes: int = 12
    shifts: int = 12
    off_atlas: int = 16
    random: int = 15
    samples: int = 8


class Texts:
    """Token ids of texts, cut to the longest of a group because the tower is causal."""

    def __init__(self) -> None:
        self._tokenizer = SimpleTokenizer(context_length=77)

    def ids(self, texts: list[str]) -> Tensor:
        """int64 [N, longest] token ids with start and end."""
        ids = self._tokenizer(texts)
        longest = int(ids.argmax(dim=-1).max()) + 1
        return ids[:, :longest]

    @staticmethod
    def join(groups: list[Tensor]) -> Tensor:
        """Groups of ids padded with zeros to one length."""
        longest = max(group.shape[1] for group in groups)
        return torch.cat([functional.pad(group, (0, longest - group.shape[1])) for group in groups])


FILLER_SHARE = 0.1
"""Share of short queries that begin with one to four random tokens: unknown words before a known query should not change it."""


def with_filler(ids: Tensor, rows: int, rng: np.random.Generator) -> Tensor:
    """Returns ids with random tokens after the start of some of the first rows.

    The width grows if needed, up to the context.
    """
    lists = ids.tolist()
    for row in range(rows):
        if rng.random() < FILLER_SHARE:
            end = lists[row].index(END) + 1
            lists[row] = [START, *random_tokens(rng, 4), *lists[row][1:end]]
    longest = max(len(row) for row in lists)
    return torch.tensor([row + [0] * (longest - len(row)) for row in lists])[:, :77]


def random_ids(texts: Texts, count: int, rng: np.random.Generator) -> Tensor:
    """Token ids of off-atlas texts: random ones, and the atlas's own openings followed by random tokens."""
    rows = []
    for index in range(count):
        if index % 3 == 0:
            rows.append([START, *random_tokens(rng), END])
            continue
        known = texts.ids([opening(rng)])[0, 1:-1].tolist()
        unknown = random_tokens(rng, 4)
        rows.append([START, *(unknown + known if index % 3 == 1 and rng.random() < 0.3 else known + unknown), END])
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


class Trainer:
    """The state of one training run: model, heads, optimiser, averaged weights and the step."""

    def __init__(self, source: SectionSource, *, seed: int, batch: int, rate: float) -> None:
        torch.manual_seed(seed)
        self.source, self.seed, self.batch, self.rate = source, seed, batch, rate
        self.model = build_model()
        self.heads = Heads(self.model.visual.proj.shape[1], self.model.visual.conv1.out_channels)
        self.texts = Texts()
        self.mix = Mix()
        self.step = 0
        self.seconds = 0.0
        parameters = [*self.model.named_parameters(), *self.heads.named_parameters()]
        decayed = [p for name, p in parameters if p.ndim >= 2 and "embedding" not in name]
        others = [p for name, p in parameters if p.ndim < 2 or "embedding" in name]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=rate, betas=(0.9, 0.98), eps=1e-6, fused=True,
        )  # fmt: skip
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def learning_rate(self, total: int, decay: int) -> float:
        """Warm-up over 200 steps, constant, then linear to 2 % over the last `decay` steps."""
        warm = min(1.0, (self.step + 1) / 200)
        left = max(total - self.step, 0) / max(decay, 1)
        return self.rate * warm * max(min(1.0, left), 0.02)

    def run_step(self, total: int, decay: int) -> dict[str, float]:
        """One optimiser step; gives the parts of the loss."""
        rng = np.random.default_rng([self.seed, self.step])
        pictures = self.source.pictures(self.batch, rng)
        table = image_table(pictures.shown)
        pixels, shares = augmented(pictures, rng)
        specs = [shown.spec for shown in pictures.shown if shown.spec]
        mix = self.mix
        pick = rng.permutation(len(specs))
        captions = [caption_query(specs[i], rng) for i in pick[: mix.captions]]
        shorts = [short_query(spec, rng) for spec in specs]
        shorts += [attribute_query(rng) for _ in range(mix.attributes)]
        shorts += [off_atlas_query(rng) for _ in range(mix.off_atlas)]
        shorts += [sample_query(rng) for _ in range(mix.samples)]
        shifts = [shift_query(specs[i], rng) for i in pick[-mix.shifts :]]
        shorts += [shift.base for shift in shifts] + [shift.target for shift in shifts]
        claims: list[Claim] = [q.claim for q in captions + shorts] + [NOWHERE] * mix.random
        targets = [shift.target.claim for shift in shifts]
        truths = losses.truth_matrix([truth(claim, table) for claim in claims + targets])
        caption_ids = self.texts.ids([q.text for q in captions])
        short_ids = self.texts.join(
            [
                with_filler(self._ids(shorts), len(specs), rng),
                random_ids(self.texts, mix.random, rng),
                self.texts.ids([shift.minus for shift in shifts]),
                self.texts.ids([shift.plus for shift in shifts]),
            ]
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(total, decay)
        with torch.autocast("cpu", torch.bfloat16):
            image_raw, tokens = encode_images(self.model, pixels)
            caption_raw = encode_texts(self.model, caption_ids)
            short_raw = encode_texts(self.model, short_ids)
        images = functional.normalize(image_raw.float(), dim=-1)
        everything = functional.normalize(torch.cat([caption_raw, short_raw]).float(), dim=-1)
        texts, single = everything[: len(claims)], everything[len(claims) :]
        count = len(shifts)
        last = len(claims) - mix.random
        base, wanted = texts[last - 2 * count : last - count], texts[last - count : last]
        composed = functional.normalize(base - single[:count] + single[count:], dim=-1)
        scale = self.model.logit_scale.exp().clamp(max=100.0)
        rows = torch.cat([texts, composed])
        cosines = rows @ images.T
        image_targets = losses.image_targets(table)
        parts = {
            "text": losses.contrast_loss(cosines, truths, scale),
            "image": 0.5 * losses.contrast_loss(cosines[: len(claims)].T, truths[: len(claims)].T, scale),
            "sigmoid": 2.0 * losses.sigmoid_loss(cosines, truths, self.heads),
            "image_heads": 0.5 * losses.attribute_loss(self.heads, images, image_targets),
            "lesion_side": 3.0 * losses.lesion_side_loss(self.heads, images, table),
            "spot": 0.5 * losses.spot_loss(self.heads, tokens.float(), shares, image_targets),
            "text_heads": 0.3 * losses.attribute_loss(self.heads, texts, losses.text_targets(claims)),
            "patches": 4.0 * losses.patch_loss(self.heads, tokens.float(), shares),
            "arithmetic": 1.0 * (1.0 - (composed * wanted).sum(dim=-1)).mean(),
        }
        loss = torch.stack(list(parts.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self.optimiser.step()
        self.step += 1
        if self.step % AVERAGE_EVERY == 0:
            keep = min(0.98, self.step / (self.step + 40.0))
            with torch.no_grad():
                for name, value in self.model.state_dict().items():
                    self.average[name].lerp_(value, 1.0 - keep)
        return {name: float(value.detach()) for name, value in parts.items()} | {"scale": float(scale.detach())}

    def _ids(self, queries: list[Query]) -> Tensor:
        return self.texts.ids([query.text for query in queries])

    def save(self, folder: Path) -> None:
        """Write the resumable state, whole or not at all, and the averaged weights as an open_clip checkpoint."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(), "heads": self.heads.state_dict(), "optimiser": self.optimiser.state_dict(),
            "average": self.average, "step": self.step, "seconds": self.seconds, "seed": self.seed,
        }  # fmt: skip
        part = folder / "state.part"
        torch.save(state, part)
        part.replace(folder / "state.pt")
        save_checkpoint(self.average, folder / "checkpoint")

    def resume(self, folder: Path) -> None:
        """Continue from the state in a folder."""
        state = torch.load(folder / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]


def main() -> None:
    """Run or resume a training."""
    parser = argparse.ArgumentParser(description="Train the mini CLIP.")
    parser.add_argument("--work", type=Path, required=True, help="folder for state, log and checkpoint")
    parser.add_argument("--steps", type=int, required=True, help="last step")
    parser.add_argument("--decay", type=int, default=1000, help="steps at the end over which the rate falls")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=Path, help="folder of clinical samples as PNG, made where missing")
    parser.add_argument("--save-every-s", type=float, default=120.0)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.samples and not arguments.samples.exists():
        write_samples(arguments.samples)
    source = SectionSource(cached_template(arguments.work), read_samples(arguments.samples))
    trainer = Trainer(source, seed=arguments.seed, batch=arguments.batch, rate=arguments.rate)
    if arguments.resume and (arguments.work / "state.pt").exists():
        trainer.resume(arguments.work)
    saved = time.monotonic()
    window: list[dict[str, float]] = []
    began = time.monotonic()
    with (arguments.work / "log.jsonl").open("a", encoding="utf-8") as log:
        while trainer.step < arguments.steps:
            start = time.monotonic()
            window.append(trainer.run_step(arguments.steps, arguments.decay))
            trainer.seconds += time.monotonic() - start
            if trainer.step % 20 == 0:
                means = {name: round(float(np.mean([w[name] for w in window])), 4) for name in window[0]}
                pace = (time.monotonic() - began) / len(window)
                log.write(json.dumps({"step": trainer.step, "s_per_step": round(pace, 3), **means}) + "\n")
                log.flush()
                window, began = [], time.monotonic()
            if time.monotonic() - saved > arguments.save_every_s:
                trainer.save(arguments.work)
                saved = time.monotonic()
    trainer.save(arguments.work)


if __name__ == "__main__":
    main()
