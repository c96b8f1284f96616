import re
from pathlib import Path

import grpc
import pytest

from mirage_core.errors import CATALOGUE, Code, MirageError, catalogue_table
from mirage_core.rpc_errors import grpc_status, problem_from_proto, problem_to_proto, to_trailers

ROOT = Path(__file__).parents[3]


def test_every_code_has_a_catalogue_line() -> None:
    assert set(CATALOGUE) == set(Code)


def test_the_public_text_names_the_limit() -> None:
    error = MirageError(Code.K_OUT_OF_RANGE, field="k", min=1, max=100, given=-5)
    assert error.message == "k must be between 1 and 100; -5 was asked for."


def test_a_missing_detail_does_not_break_the_text() -> None:
    assert "…" in MirageError(Code.K_OUT_OF_RANGE).message


@pytest.mark.parametrize("code", list(Code))
def test_every_code_maps_to_a_grpc_and_an_http_error(code: Code) -> None:
    error = MirageError(code)
    assert grpc_status(error) is not grpc.StatusCode.OK
    assert 400 <= error.entry.http <= 599
    assert to_trailers(error)


def test_a_problem_message_survives_the_wire() -> None:
    error = MirageError(Code.IMAGE_TOO_SMALL, min=16, width=1, height=1)
    back = problem_from_proto(problem_to_proto(error))
    assert (back.code, back.metadata) == (error.code, error.metadata)


def test_a_problem_with_an_unknown_code_is_internal() -> None:
    problem = problem_to_proto(MirageError(Code.INTERNAL))
    problem.code = "__class__"
    assert problem_from_proto(problem).code is Code.INTERNAL


def test_the_documented_catalogue_is_the_catalogue() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    table = re.search(r"<!-- catalogue -->\n(.*?)<!-- /catalogue -->", text, re.S)
    assert table is not None
    assert table[1] == catalogue_table(), "run `make docs`"
