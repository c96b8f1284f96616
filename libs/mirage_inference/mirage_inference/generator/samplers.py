"""Samplers in numpy: the way of one image from noise to finished latents.

Three of them: that of latent consistency models, and for a plain Stable Diffusion DPM-Solver++ of order 2 and DDIM
without added noise, equal to diffusers' `DPMSolverMultistepScheduler` and `DDIMScheduler` (0.39). Sources: Lu et al.,
"DPM-Solver++", 2022, algorithm 2; Song et al., "Denoising Diffusion Implicit Models", 2020, equation 12.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_inference.bundles import DiffusionSchedule, LcmSchedule, Schedule
from mirage_inference.generator.scheduler import FloatArray, LcmScheduler, Stepped, signal_of

Draw: TypeAlias = Callable[[], FloatArray]

# With fewer steps than this, a last step of order 1 is more stable (diffusers' `lower_order_final`).
_FEW = 15


class Sampler(Protocol):
    """The steps of one image: a second image needs another sampler."""

    @property
    def timesteps(self) -> Sequence[int]:
        """The timestep of each step, falling."""
        ...

    def step(self, prediction: FloatArray, latents: FloatArray, *, draw: Draw) -> Stepped:
        """Steps on from `latents`, with the UNet's prediction for them at the next of `timesteps`.

        All arrays have the latents' shape. `draw` gives noise of that shape.
        """
        ...


def make_sampler(schedule: Schedule, steps: int) -> Sampler:
    """Returns the sampler of a schedule; raises ValueError for more or fewer steps than it has timesteps for."""
    if isinstance(schedule, LcmSchedule):
        return LcmSampler(schedule, steps)
    if schedule.sampler == "ddim":
        return DdimSampler(schedule, steps)
    return DpmSolverSampler(schedule, steps)


class LcmSampler:
    """See Sampler: each step but the last adds noise again."""

    def __init__(self, schedule: LcmSchedule, steps: int) -> None:
        """Raises ValueError as LcmScheduler.timesteps."""
        self._scheduler = LcmScheduler(schedule)
        self.timesteps = [int(each) for each in self._scheduler.timesteps(steps)]
        self._done = 0

    def step(self, prediction: FloatArray, latents: FloatArray, *, draw: Draw) -> Stepped:
        """See Sampler.step."""
        timestep, following = self.timesteps[self._done], self.timesteps[self._done + 1 : self._done + 2]
        self._done += 1
        return self._scheduler.step(
            prediction,
            latents,
            timestep=timestep,
            following=following[0] if following else None,
            noise=draw() if following else None,
        )


class DdimSampler:
    """See Sampler. It draws no noise."""

    def __init__(self, schedule: DiffusionSchedule, steps: int) -> None:
        """Raises ValueError for too many steps, or for fewer than 1."""
        self._schedule = schedule
        self._signal = signal_of(schedule)
        self.timesteps = _timesteps(schedule, steps, spare=0)
        self._stride = schedule.train_timesteps // steps
        self._done = 0

    def step(self, prediction: FloatArray, latents: FloatArray, *, draw: Draw) -> Stepped:
        """See Sampler.step."""
        schedule = self._schedule
        timestep = self.timesteps[self._done]
        self._done += 1
        clean, noise = _parted(schedule.prediction, prediction, latents, self._signal[timestep])
        if schedule.clip_range is not None:
            clean = np.clip(clean, -schedule.clip_range, schedule.clip_range)
        following = timestep - self._stride
        left = np.float32(1) if schedule.ends_clean else self._signal[0]
        signal = self._signal[following] if following >= 0 else left
        stepped = np.sqrt(signal) * clean + np.sqrt(np.float32(1) - signal) * noise
        return Stepped(np.asarray(stepped, dtype=np.float32), np.asarray(clean, dtype=np.float32))


class DpmSolverSampler:
    """See Sampler. It draws no noise, and remembers the estimate of the step before."""

    def __init__(self, schedule: DiffusionSchedule, steps: int) -> None:
        """Raises ValueError for too many steps, or for fewer than 1."""
        self._schedule = schedule
        self.timesteps = _timesteps(schedule, steps, spare=1)
        signal = signal_of(schedule).astype(np.float64)
        last = 1.0 if schedule.ends_clean else signal[0]
        # Signal and the ratio of noise to signal before each step, and after the last one.
        self._signal = np.append(signal[self.timesteps], last)
        self._noise = np.sqrt((1.0 - self._signal) / self._signal)
        self._before: FloatArray | None = None
        self._done = 0

    def step(self, prediction: FloatArray, latents: FloatArray, *, draw: Draw) -> Stepped:
        """See Sampler.step."""
        at, noise = self._done, self._noise
        clean, _ = _parted(self._schedule.prediction, prediction, latents, np.float32(self._signal[at]))
        alpha, ratio = np.sqrt(self._signal[at + 1]), noise[at + 1] / noise[at]
        kept = np.float32(ratio * alpha / np.sqrt(self._signal[at]))
        stepped = kept * latents + np.float32(alpha * (1.0 - ratio)) * clean
        if self._before is not None and not self._last_is_first_order(at):
            length = -np.log(ratio)
            slope = (clean - self._before) * np.float32(length / np.log(noise[at - 1] / noise[at]))
            stepped = stepped + np.float32(alpha * self._second(ratio, length)) * slope
        self._before, self._done = clean, at + 1
        return Stepped(np.asarray(stepped, dtype=np.float32), clean)

    def _second(self, ratio: float, length: float) -> float:
        return (1.0 - ratio) / 2 if self._schedule.solver == "midpoint" else 1.0 - (1.0 - ratio) / length

    def _last_is_first_order(self, at: int) -> bool:
        few = self._schedule.lower_order_final and len(self.timesteps) < _FEW
        return at == len(self.timesteps) - 1 and (self._schedule.ends_clean or few)


def _parted(
    kind: str, prediction: FloatArray, latents: FloatArray, signal: np.float32
) -> tuple[FloatArray, FloatArray]:
    """Returns the clean latents and the noise that a prediction means for latents with so much signal."""
    root, rest = np.sqrt(signal), np.sqrt(np.float32(1) - signal)
    match kind:
        case "epsilon":
            clean, noise = (latents - rest * prediction) / root, prediction
        case "v_prediction":
            clean, noise = root * latents - rest * prediction, root * prediction + rest * latents
        case _:
            clean, noise = prediction, (latents - root * prediction) / rest
    return np.asarray(clean, dtype=np.float32), np.asarray(noise, dtype=np.float32)


def _timesteps(schedule: DiffusionSchedule, steps: int, *, spare: int) -> list[int]:
    """The timesteps as diffusers spaces them; `spare`: DPM-Solver++ counts the end as one more."""
    count = schedule.train_timesteps
    if not 1 <= steps <= count // 2:
        raise ValueError(f"{steps} steps asked for; 1 to {count // 2} are possible")
    chosen: npt.NDArray[Any]
    match schedule.spacing:
        case "linspace":
            chosen = np.linspace(0, count - 1, steps + spare).round()[::-1][:steps]
        case "leading":
            chosen = (np.arange(steps + spare) * (count // (steps + spare)))[::-1][:steps] + schedule.steps_offset
        case "trailing":
            chosen = np.arange(count, 0, -count / steps).round()[:steps] - 1
    return [int(each) for each in chosen]
