import json

import pytest

from mirage_api.system import Problem
from mirage_core.errors import CATALOGUE, Code, MirageError
from mirage_gateway.web.problems import problem_response

from .conftest import check


@pytest.mark.parametrize("code", Code)
def test_every_code_of_the_catalogue_is_a_problem_with_its_status(code: Code) -> None:
    response = problem_response(MirageError(code))
    document = json.loads(bytes(response.body))
    check(Problem, document)
    assert response.media_type == "application/problem+json"
    assert document["status"] == response.status_code == CATALOGUE[code].http
    assert document["code"] == code


def test_retry_after_is_whole_seconds_and_never_zero() -> None:
    response = problem_response(MirageError(Code.QUEUE_FULL, retry_after_s=0.2))
    assert response.headers["retry-after"] == "1"
    assert json.loads(bytes(response.body))["retry_after_s"] == 0.2


@pytest.mark.parametrize("code", [Code.EMPTY_QUERY, Code.RECORD_NOT_FOUND, Code.REQUEST_TOO_LARGE])
def test_what_trying_again_does_not_mend_says_nothing_of_it(code: Code) -> None:
    assert "retry-after" not in problem_response(MirageError(code)).headers
