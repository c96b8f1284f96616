import math
from typing import Any

import pytest

from mirage_core.describe_options import check_describe_options
from mirage_core.errors import MirageError


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": []},
        {"max_tokens": 512, "temperature": 2, "top_p": 0.01, "seed": 2**63 - 1, "stop": ["a", "b" * 40, "\n", "."]},
    ],
)
def test_what_the_contract_allows_passes(given: dict[str, Any]) -> None:
    check_describe_options(**given)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("max_tokens", 0, "OPTION_OUT_OF_RANGE"),
        ("max_tokens", 10**9, "OPTION_OUT_OF_RANGE"),
        ("max_tokens", -(10**400), "OPTION_OUT_OF_RANGE"),
        ("temperature", -0.1, "OPTION_OUT_OF_RANGE"),
        ("temperature", math.nan, "OPTION_OUT_OF_RANGE"),
        ("temperature", math.inf, "OPTION_OUT_OF_RANGE"),
        ("top_p", 0.0, "OPTION_OUT_OF_RANGE"),
        ("top_p", math.nan, "OPTION_OUT_OF_RANGE"),
        ("seed", -1, "OPTION_OUT_OF_RANGE"),
        ("seed", 2**63, "OPTION_OUT_OF_RANGE"),
        ("stop", ["a"] * 5, "TOO_MANY_ITEMS"),
        ("stop", [""], "OPTION_OUT_OF_RANGE"),
        ("stop", ["a" * 41], "OPTION_OUT_OF_RANGE"),
    ],
)
def test_what_lies_outside_is_refused_and_named(field: str, value: object, code: str) -> None:
    given: dict[str, Any] = {field: value}
    with pytest.raises(MirageError) as caught:
        check_describe_options(**given)
    assert (caught.value.code, caught.value.metadata["field"]) == (code, field)
