"""The bounds of how a description is written, the same at the gateway and at the language model."""

from __future__ import annotations

from collections.abc import Sequence

from mirage_api.limits import MAX_TOKENS_MAX as MAX_TOKENS_MAX
from mirage_api.limits import SEED_MAX as SEED_MAX
from mirage_api.limits import STOP_CHARS_MAX as STOP_CHARS_MAX
from mirage_api.limits import STOP_MAX as STOP_MAX
from mirage_api.limits import TEMPERATURE_MAX as TEMPERATURE_MAX
from mirage_core.errors import Code, MirageError

MAX_TOKENS_DEFAULT = 128


def check_describe_options(
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] = (),
) -> None:
    """Raises OPTION_OUT_OF_RANGE or TOO_MANY_ITEMS unless each option has what `DescribeOptions` states; None is the default."""
    if max_tokens is not None and not 1 <= max_tokens <= MAX_TOKENS_MAX:
        raise _out_of_range("max_tokens", f"between 1 and {MAX_TOKENS_MAX}", max_tokens)
    # Written so that NaN, which compares with nothing, is refused.
    if temperature is not None and not 0 <= temperature <= TEMPERATURE_MAX:
        raise _out_of_range("temperature", f"between 0 and {TEMPERATURE_MAX:g}", temperature)
    if top_p is not None and not 0 < top_p <= 1:
        raise _out_of_range("top_p", "above 0 and at most 1", top_p)
    if seed is not None and not 0 <= seed <= SEED_MAX:
        raise _out_of_range("seed", "between 0 and 2^63-1", seed)
    if len(stop) > STOP_MAX:
        raise MirageError(Code.TOO_MANY_ITEMS, field="stop", min=0, max=STOP_MAX, given=len(stop))
    for sequence in stop:
        if not 1 <= len(sequence) <= STOP_CHARS_MAX:
            raise _out_of_range("stop", f"1 to {STOP_CHARS_MAX} characters long", f"{len(sequence)}")


def _out_of_range(field: str, allowed: str, given: object) -> MirageError:
    return MirageError(Code.OPTION_OUT_OF_RANGE, field=field, range=allowed, given=str(given)[:40])
