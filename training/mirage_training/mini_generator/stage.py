"""A network's training: steps that depend on their number alone, a state that a stopped run resumes from, averaged
weights.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mirage_training.mini_generator.recipe import StageRecipe

Losses = Mapping[str, Tensor]
LOG_EVERY = 20


@dataclass(frozen=True)
class Pace:
    """Seconds between two saved states, and the step of each stage to stop at (None: its last)."""

    save_every_s: float = 120.0
    stop_at: int | None = None


def learning_rate(recipe: StageRecipe, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = min(1.0, (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup))
    return recipe.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


class Stage:
    """The training of one network in a folder; what it has learnt so far is read from there."""

    def __init__(self, folder: Path, name: str, model: nn.Module, recipe: StageRecipe) -> None:
        self.name, self.model, self.recipe = name, model, recipe
        self._path = folder / f"{name}.pt"
        self.step = 0
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if self._path.exists():
            state = torch.load(self._path, weights_only=True)
            model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._average, self.step = state["average"], int(state["step"])

    @property
    def done(self) -> bool:
        """Returns True after its last step."""
        return self.step >= self.recipe.steps

    def run(self, losses: Callable[[int], Losses], pace: Pace) -> bool:
        """Train on, where `losses` gives a step's by its number and their sum is what is made small.

        True at the end.
        """
        last = min(self.recipe.steps, self.recipe.steps if pace.stop_at is None else pace.stop_at)
        saved = began = time.monotonic()
        window: list[dict[str, float]] = []
        self.model.train()
        while self.step < last:
            for group in self._optimiser.param_groups:
                group["lr"] = learning_rate(self.recipe, self.step)
            parts = losses(self.step)
            self._optimiser.zero_grad(set_to_none=True)
            torch.stack(list(parts.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimiser.step()
            self.step += 1
            self._follow()
            window.append({name: float(value.detach()) for name, value in parts.items()})
            if self.step % LOG_EVERY == 0 or self.step == last:
                pace_s = (time.monotonic() - began) / len(window)
                means = {name: round(float(np.mean([each[name] for each in window])), 5) for name in window[0]}
                line = {"stage": self.name, "step": self.step, "s_per_step": round(pace_s, 2), **means}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
                window, began = [], time.monotonic()
            if time.monotonic() - saved > pace.save_every_s:
                self._save()
                saved = time.monotonic()
        self._save()
        return self.done

    def averaged(self) -> nn.Module:
        """The network with the averaged weights, which are what is used later."""
        self.model.load_state_dict(self._average)
        return self.model.eval().requires_grad_(False)

    def _follow(self) -> None:
        keep = min(self.recipe.average, self.step / (self.step + 10.0))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self._average[name].lerp_(value, 1.0 - keep)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": self._average,
            "step": self.step,
        }
        part = self._path.with_suffix(".writing")
        torch.save(state, part)
        part.replace(self._path)
