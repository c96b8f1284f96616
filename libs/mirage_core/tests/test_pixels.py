import json
import math

import pytest

from mirage_core.errors import Code, MirageError
from mirage_core.pixels import PixelInfo, Window

CT = PixelInfo(12, 1.0, -1024.0, "HU", (Window("lung", -600.0, 1500.0), Window("soft tissue", 40.0, 400.0)))


def test_it_survives_json() -> None:
    assert PixelInfo.from_json(json.loads(json.dumps(CT.to_json()))) == CT


def test_slope_intercept_unit_and_windows_may_be_omitted() -> None:
    assert PixelInfo.from_json({"bits": 12}) == PixelInfo(12, 1.0, 0.0, "", ())


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "value"),
        ([], "value"),
        ({}, "bits"),
        ({"bits": 0}, "bits"),
        ({"bits": 17}, "bits"),
        ({"bits": True}, "bits"),
        ({"bits": "12"}, "bits"),
        ({"bits": 12.0}, "bits"),
        ({"bits": 12, "slope": 0}, "slope"),
        ({"bits": 12, "slope": "1"}, "slope"),
        ({"bits": 12, "slope": math.nan}, "slope"),
        ({"bits": 12, "slope": 10**400}, "slope"),
        ({"bits": 12, "intercept": math.inf}, "intercept"),
        ({"bits": 12, "unit": 3}, "unit"),
        ({"bits": 12, "unit": "x" * 17}, "unit"),
        ({"bits": 12, "unit": "a\nb"}, "unit"),
        ({"bits": 12, "patient": "Doe"}, "fields"),
        ({"bits": 12, "windows": {}}, "windows"),
        ({"bits": 12, "windows": [3]}, "windows"),
        ({"bits": 12, "windows": [{"name": "a", "center": 1}]}, "windows"),
        ({"bits": 12, "windows": [{"name": "a", "center": 1, "width": 0}]}, "windows"),
        ({"bits": 12, "windows": [{"name": "a", "center": math.nan, "width": 1}]}, "windows"),
        ({"bits": 12, "windows": [{"name": "a" * 65, "center": 1, "width": 1}]}, "windows"),
        ({"bits": 12, "windows": [{"name": "a", "center": 1, "width": 1}] * 17}, "windows"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_field(value: object, field: str) -> None:
    with pytest.raises(MirageError) as caught:
        PixelInfo.from_json(value)
    assert caught.value.code is Code.PIXELS_INVALID
    assert caught.value.metadata["field"] == field
