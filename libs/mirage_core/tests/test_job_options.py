import math
from typing import Any

import pytest

from mirage_core.errors import Code, MirageError
from mirage_core.job_options import check_job_options, check_job_request_id

GOOD: list[dict[str, Any]] = [
    {},
    {"steps": 1, "images": 1, "seed": 0, "width": 64, "height": 768, "deadline_s": 1.0},
    {"width": 160, "height": 96},
    {"steps": 50, "images": 4, "seed": 2**63 - 1, "guidance_scale": 8.0, "deadline_s": 86_400.0},
    {"prompt": "x" * 2000, "negative_prompt": "y" * 2000},
]
BAD: list[tuple[dict[str, Any], Code, str]] = [
    ({"prompt": ""}, Code.PROMPT_EMPTY, "prompt"),
    ({"prompt": " \n\t"}, Code.PROMPT_EMPTY, "prompt"),
    ({"prompt": "x" * 2001}, Code.TEXT_TOO_LONG, "prompt"),
    ({"negative_prompt": "x" * 10_000}, Code.TEXT_TOO_LONG, "negative_prompt"),
    *[({"steps": value}, Code.OPTION_OUT_OF_RANGE, "steps") for value in (0, -1, 51, 10**6, 10**30)],
    *[
        ({"guidance_scale": value}, Code.OPTION_OUT_OF_RANGE, "guidance_scale")
        for value in (math.nan, math.inf, -math.inf, -0.1, 1e9)
    ],
    *[({"seed": value}, Code.OPTION_OUT_OF_RANGE, "seed") for value in (-1, 2**63, 2**70)],
    *[({"width": value}, Code.OPTION_OUT_OF_RANGE, "width") for value in (0, 63, 80, 511, 832, 100_000)],
    *[({"height": value}, Code.OPTION_OUT_OF_RANGE, "height") for value in (-64, 511, 100_000)],
    *[({"images": value}, Code.OPTION_OUT_OF_RANGE, "images") for value in (0, 5)],
    *[({"deadline_s": value}, Code.OPTION_OUT_OF_RANGE, "deadline_s") for value in (0.0, math.nan, 86_401.0)],
]


@pytest.mark.parametrize("options", GOOD)
def test_what_the_contract_allows_passes(options: dict[str, Any]) -> None:
    check_job_options(**{"prompt": "axial T1", **options})


@pytest.mark.parametrize(("options", "code", "field"), BAD)
def test_what_no_model_takes_is_refused_by_name(options: dict[str, Any], code: Code, field: str) -> None:
    with pytest.raises(MirageError) as caught:
        check_job_options(**{"prompt": "axial T1", **options})
    assert (caught.value.code, caught.value.metadata["field"]) == (code, field)


def test_a_request_id_has_a_form() -> None:
    for good in ("", "a", "lesson-3_b.2", "x" * 64):
        check_job_request_id(good)
    for bad in (" ", "ä", "a b", "x" * 65, "a\n"):
        with pytest.raises(MirageError) as caught:
            check_job_request_id(bad)
        assert caught.value.metadata["field"] == "request_id"
