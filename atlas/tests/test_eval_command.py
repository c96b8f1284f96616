"""The client of `mirage eval`."""

import httpx
import pytest

from mirage.errors import ApiError
from mirage_atlas.quality.gallery import PatientClient


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_busy_server_is_asked_again(status: int) -> None:
    busy = {"code": "QUEUE_FULL", "title": "Busy", "status": status}
    answers = [*(httpx.Response(status, json=busy) for _ in range(2)), httpx.Response(200, json={"models": []})]
    inner = httpx.MockTransport(lambda _request: answers.pop(0))
    with PatientClient("http://atlas", transport=inner, pause_s=0) as client:
        assert client.models() == ()
    assert not answers


def test_a_server_that_stays_away_and_a_bad_request_are_errors() -> None:
    for status, calls in ((503, 10), (422, 1)):
        asked: list[httpx.Request] = []

        def answer(request: httpx.Request, status: int = status, asked: list[httpx.Request] = asked) -> httpx.Response:
            asked.append(request)
            return httpx.Response(status, json={"code": "X", "title": "x", "status": status})

        with (
            PatientClient("http://atlas", transport=httpx.MockTransport(answer), pause_s=0) as client,
            pytest.raises(ApiError),
        ):
            client.models()
        assert len(asked) == calls
