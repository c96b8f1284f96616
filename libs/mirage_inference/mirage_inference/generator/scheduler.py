"""The latent consistency sampler in numpy: the timesteps, and from one step's latents to the next.

Equal to diffusers' `LCMScheduler` (0.39). Source: Luo et al., "Latent Consistency Models", 2023, algorithms 2 and 3.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_inference.bundles import LcmSchedule, Schedule

FloatArray: TypeAlias = npt.NDArray[np.float32]

SIGMA_DATA = 0.5  # standard deviation of the data, as the paper assumes it


@dataclass(frozen=True)
class Stepped:
    """The result of a step: `latents` for the next one, and `denoised`, the current estimate of the finished
    latents.
    """

    latents: FloatArray
    denoised: FloatArray


def signal_of(schedule: Schedule) -> npt.NDArray[np.float32]:
    """float32[train_timesteps]: how much of the variance of noisy latents is signal, by timestep."""
    first, last, count = schedule.beta_start, schedule.beta_end, schedule.train_timesteps
    if schedule.beta_schedule == "linear":
        betas = np.linspace(first, last, count)
    else:
        betas = np.linspace(first**0.5, last**0.5, count) ** 2
    return np.cumprod(1.0 - betas).astype(np.float32)


@dataclass(frozen=True)
class LcmScheduler:
    """The sampler of a bundle."""

    schedule: LcmSchedule

    @cached_property
    def signal(self) -> npt.NDArray[np.float32]:
        """float32[train_timesteps]: how much of the variance of noisy latents is signal, by timestep."""
        return signal_of(self.schedule)

    def timesteps(self, steps: int) -> npt.NDArray[np.int64]:
        """int64[steps], falling: evenly spaced among the timesteps that the model was distilled on.

        Raises ValueError where `steps` is below 1 or above `original_steps`.
        """
        schedule = self.schedule
        if not 1 <= steps <= schedule.original_steps:
            raise ValueError(f"{steps} steps asked for; 1 to {schedule.original_steps} are possible")
        stride = schedule.train_timesteps // schedule.original_steps
        distilled = np.arange(1, schedule.original_steps + 1, dtype=np.int64)[::-1] * stride - 1
        chosen = np.floor(np.linspace(0, len(distilled), num=steps, endpoint=False)).astype(np.int64)
        return np.ascontiguousarray(distilled[chosen])

    def step(
        self,
        prediction: FloatArray,
        latents: FloatArray,
        *,
        timestep: int,
        following: int | None,
        noise: FloatArray | None,
    ) -> Stepped:
        """Steps from the latents at `timestep`, with the UNet's prediction for them, to those at the `following` one.

        All arrays have the latents' shape. In the last step `following` and `noise` are None, and both results the
        same.
        """
        signal = self.signal
        root_signal, root_noise = np.sqrt(signal[timestep]), np.sqrt(np.float32(1) - signal[timestep])
        match self.schedule.prediction:
            case "epsilon":
                clean = (latents - root_noise * prediction) / root_signal
            case "v_prediction":
                clean = root_signal * latents - root_noise * prediction
            case "sample":
                clean = prediction
        if self.schedule.clip_range is not None:
            clean = np.clip(clean, -self.schedule.clip_range, self.schedule.clip_range)
        # The boundary condition: at timestep 0 the model has to return what it is given.
        scaled = timestep * self.schedule.timestep_scaling
        skip = np.float32(SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2))
        out = np.float32(scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5)
        denoised = np.asarray(out * clean + skip * latents, dtype=np.float32)
        if following is None or noise is None:
            return Stepped(denoised, denoised)
        noisy = np.sqrt(signal[following]) * denoised + np.sqrt(np.float32(1) - signal[following]) * noise
        return Stepped(np.asarray(noisy, dtype=np.float32), denoised)
