"""The sampler that a checkpoint's images are made with, and its constants, from the scheduler's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers import KarrasDiffusionSchedulers
from pydantic import ValidationError

from mirage_inference.bundles import DiffusionSchedule, LcmSchedule, SamplerName
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Config = dict[str, Any]

LCM = "LCMScheduler"
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
_OWN: Mapping[str, SamplerName] = {"DPMSolverMultistepScheduler": "dpm-solver++", "DDIMScheduler": "ddim"}
# Those whose configuration diffusers gives to one another: all have betas, and predict noise or velocity.
_RELATED = frozenset(each.name for each in KarrasDiffusionSchedulers)

_NOISE = {"thresholding": False, "rescale_betas_zero_snr": False, "trained_betas": None}
_SOLVER = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "use_dynamic_shifting": False,
    "lambda_min_clipped": -float("inf"),
    "variance_type": None,
}


def choose_sampler(scheduler: Config, *, distilled: bool, wanted: SamplerName | None) -> SamplerName | None:
    """Returns the sampler of a plain Stable Diffusion: the wanted one, else its own. None for a distilled model.

    Raises UnknownArchitectureError for a scheduler that is not known, and CheckpointError for a choice that a distilled
    model does not have.
    """
    if distilled:
        if wanted is not None:
            raise CheckpointError(f"a latent consistency model has a sampler of its own: {wanted} is for others")
        return None
    name = scheduler.get("_class_name")
    if wanted is None and name not in _OWN:
        raise UnknownArchitectureError(
            f"scheduler: a {name} is not known; known are {', '.join(_OWN)} and {LCM}. Choose a sampler for a plain "
            f"Stable Diffusion (--sampler {' or '.join(SAMPLERS)}), or give an LCM-LoRA to fuse (--lora)"
        )
    if wanted is not None and name not in _RELATED:
        raise UnknownArchitectureError(f"scheduler: a {name} is not known, and {wanted} cannot take its place")
    return _OWN[str(name)] if wanted is None else wanted


def make_original(config: Config, sampler: SamplerName) -> Any:
    """diffusers' own scheduler; raises UnknownArchitectureError for a configuration that it refuses."""
    kind = DDIMScheduler if sampler == "ddim" else DPMSolverMultistepScheduler
    try:
        return kind.from_config(config)
    except Exception as error:  # the library raises whatever the configuration gave it
        raise UnknownArchitectureError(f"scheduler: the configuration is not one of a {kind.__name__}") from error


def diffusion_schedule(config: Config, sampler: SamplerName) -> DiffusionSchedule:
    """The constants of a sampler, as diffusers takes them from any related scheduler's configuration.

    Raises UnknownArchitectureError for a variant that the service's sampler does not know.
    """
    whole = dict(make_original(config, sampler).config)
    solver = sampler != "ddim"
    _check(whole, {**_NOISE, **(_SOLVER if solver else {})})
    ends_clean = whole["final_sigmas_type"] == "zero" if solver else whole["set_alpha_to_one"]
    if solver and whole["euler_at_final"] and not ends_clean:
        raise UnknownArchitectureError("scheduler: euler_at_final True is not known")
    clipped = not solver and whole["clip_sample"]
    try:
        return DiffusionSchedule(
            sampler=sampler,
            train_timesteps=whole["num_train_timesteps"],
            beta_start=whole["beta_start"],
            beta_end=whole["beta_end"],
            beta_schedule=whole["beta_schedule"],
            prediction=whole["prediction_type"],
            spacing=whole["timestep_spacing"],
            steps_offset=whole["steps_offset"],
            ends_clean=ends_clean,
            clip_range=whole["clip_sample_range"] if clipped else None,
            **({"solver": whole["solver_type"], "lower_order_final": whole["lower_order_final"]} if solver else {}),
        )
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        raise UnknownArchitectureError(f"scheduler: {field} {error.errors()[0]['input']!r} is not known") from error


def lcm_schedule(config: Config) -> LcmSchedule:
    """The sampler's constants, as `LCMScheduler.from_config` takes them from any scheduler's configuration.

    Raises UnknownArchitectureError for a noise schedule that the service's sampler does not know.
    """
    _check(config, _NOISE)
    if config.get("beta_schedule", "scaled_linear") not in ("linear", "scaled_linear"):
        raise UnknownArchitectureError(f"scheduler: beta_schedule {config['beta_schedule']} is not known")
    if config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction", "sample"):
        raise UnknownArchitectureError(f"scheduler: prediction_type {config['prediction_type']} is not known")
    return LcmSchedule(
        train_timesteps=config.get("num_train_timesteps", 1000),
        original_steps=config.get("original_inference_steps", 50),
        beta_start=config.get("beta_start", 0.00085),
        beta_end=config.get("beta_end", 0.012),
        beta_schedule=config.get("beta_schedule", "scaled_linear"),
        prediction=config.get("prediction_type", "epsilon"),
        timestep_scaling=config.get("timestep_scaling", 10.0),
        clip_range=config.get("clip_sample_range", 1.0) if config.get("clip_sample", False) else None,
    )


def _check(config: Config, known: Mapping[str, object]) -> None:
    for key, value in known.items():
        if config.get(key, value) != value:
            raise UnknownArchitectureError(f"scheduler: {key} {config[key]!r} is not known")
