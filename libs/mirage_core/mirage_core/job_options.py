"""The widest bounds of an image generation job for any model, the same at the gateway and at the generator.

A model's own range is narrower and is in its bundle; the generator checks it.
"""

from __future__ import annotations

import re

from mirage_api.limits import DEADLINE_MAX_S as DEADLINE_MAX_S
from mirage_api.limits import IMAGES_MAX as IMAGES_MAX
from mirage_api.limits import SEED_MAX as SEED_MAX
from mirage_api.limits import SIDE_MAX as SIDE_MAX
from mirage_api.limits import SIDE_MIN as SIDE_MIN
from mirage_api.limits import SIDE_MULTIPLE as SIDE_MULTIPLE
from mirage_api.limits import STEPS_MAX as STEPS_MAX
from mirage_core import limits
from mirage_core.errors import Code, MirageError

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_job_options(
    *,
    prompt: str,
    negative_prompt: str = "",
    steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    images: int | None = None,
    deadline_s: float | None = None,
) -> None:
    """Raises PROMPT_EMPTY, TEXT_TOO_LONG or OPTION_OUT_OF_RANGE unless each has what `JobSpec` states.

    None is the default.
    """
    if not prompt.strip():
        raise MirageError(Code.PROMPT_EMPTY, field="prompt")
    for field, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if len(text) > limits.TEXT_CHARS:
            raise MirageError(Code.TEXT_TOO_LONG, field=field, max=limits.TEXT_CHARS, given=len(text))
    if steps is not None and not 1 <= steps <= STEPS_MAX:
        raise _out_of_range("steps", f"between 1 and {STEPS_MAX}", steps)
    # Written so that NaN, which compares with nothing, is refused. No model takes more than this.
    if guidance_scale is not None and not 0 <= guidance_scale <= 100:
        raise _out_of_range("guidance_scale", "within the model's range", guidance_scale)
    if seed is not None and not 0 <= seed <= SEED_MAX:
        raise _out_of_range("seed", "between 0 and 2^63-1", seed)
    for field, side in (("width", width), ("height", height)):
        if side is not None and (not SIDE_MIN <= side <= SIDE_MAX or side % SIDE_MULTIPLE):
            raise _out_of_range(field, f"a multiple of {SIDE_MULTIPLE} between {SIDE_MIN} and {SIDE_MAX}", side)
    if images is not None and not 1 <= images <= IMAGES_MAX:
        raise _out_of_range("images", f"between 1 and {IMAGES_MAX}", images)
    if deadline_s is not None and not 1 <= deadline_s <= DEADLINE_MAX_S:
        raise _out_of_range("deadline_s", f"between 1 and {DEADLINE_MAX_S:,.0f} seconds", deadline_s)


def check_job_request_id(request_id: str) -> None:
    """Raises OPTION_OUT_OF_RANGE unless it is empty or has the form that `CreateJobRequest.request_id` states."""
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        raise _out_of_range("request_id", "1 to 64 of A-Z a-z 0-9 . _ -", request_id)


def _out_of_range(field: str, allowed: str, given: object) -> MirageError:
    return MirageError(Code.OPTION_OUT_OF_RANGE, field=field, range=allowed, given=str(given)[:40])
