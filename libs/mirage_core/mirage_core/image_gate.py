"""A bundle's calibration of guesses: prompts for the values of a facet, and the least cosine of a sure guess."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

_Text = Annotated[str, Field(min_length=1, max_length=500)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GateValue(_Frozen):
    """One value of a facet: texts whose mean embedding represents it, and the least cosine of a sure guess.

    `sure_from` was set so that such guesses are right in at least 95 of 100 calibration images; None: never sure.
    """

    prompts: tuple[_Text, ...] = Field(min_length=1, max_length=32)
    sure_from: float | None = Field(None, ge=-1, le=1)


class GateFacet(_Frozen):
    """The values of one facet; probabilities are the softmax of `temperature` times the cosines."""

    temperature: float = Field(gt=0, le=1000)
    values: Mapping[_Text, GateValue] = Field(min_length=2, max_length=64)


class ImageGate(_Frozen):
    """Guesses about an image by facet, zero-shot (Radford et al. 2021), and what was measured when they were
    calibrated.
    """

    facets: Mapping[_Text, GateFacet] = Field(max_length=8)
    measured: Mapping[str, Any] = Field(default_factory=dict)
