"""The API's models: what they refuse, what they keep, and what the package needs."""

import base64
import json
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from mirage_api import descriptions, jobs, records, search, system
from mirage_api.base import Omitted, Reply, Request
from mirage_api.jobs import JobPreview
from mirage_api.records import Pixels, RecordUpload, StoredRecord
from mirage_api.search import SearchReply, SearchRequest, Term

MODELS = [
    each
    for module in (descriptions, jobs, records, search, system)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == module.__name__
]
REPLIES = [each for each in MODELS if issubclass(each, Reply)]


@pytest.mark.parametrize("model", REPLIES)
def test_a_schema_names_all_fields_that_are_always_there(model: type[Reply]) -> None:
    schema = model.model_json_schema(mode="serialization")
    always = {name for name, field in model.model_fields.items() if Omitted() not in field.metadata}
    assert set(schema.get("required", ())) == always


@pytest.mark.parametrize("model", [each for each in MODELS if issubclass(each, Request)])
def test_a_request_refuses_an_unknown_field(model: type[Request]) -> None:
    with pytest.raises(ValidationError, match="colour"):
        model.model_validate({"colour": 1})
    assert model.model_json_schema()["additionalProperties"] is False


def test_models_have_names_of_their_own() -> None:
    names = [each.__name__ for each in MODELS]
    assert len(names) == len(set(names))


def test_a_reply_keeps_what_a_newer_server_says() -> None:
    said = {
        "results": [{"id": "a", "score": 0.5, "colour": "red"}],
        "query": {"tokens": 4, "terms": [], "more": {"x": [1, None]}},
        "match": None,
    }
    reply = SearchReply.model_validate_json(json.dumps(said))
    assert reply.raw == said
    assert reply.results[0].caption == ""


def test_a_file_is_bytes_or_base64() -> None:
    packed = base64.b64encode(b"png").decode()
    assert Term(image=b"png") == Term.model_validate_json(json.dumps({"image": packed}), strict=True)
    with pytest.raises(ValidationError):
        SearchRequest.model_validate_json('{"image": "%%%"}')


def test_pixels_of_an_upload_are_checked_more_than_those_of_a_record() -> None:
    pixels = {"bits": 12, "colour": 1}
    assert Pixels.model_validate(pixels).bits == 12
    with pytest.raises(ValidationError, match="colour"):
        RecordUpload.model_validate({"id": "a", "caption": "c", "pixels": pixels})


@pytest.mark.parametrize("image", ["no base64!", None, 7])
def test_a_preview_that_is_not_base64_is_refused(image: object) -> None:
    with pytest.raises(ValidationError):
        JobPreview.model_validate({"image": image})


def test_vectors_are_bytes_or_nothing() -> None:
    stored = StoredRecord(id="a", image_vector=base64.b64encode(b"1234").decode())
    assert stored.vectors() == (b"1234", None)


def test_the_package_needs_pydantic_and_nothing_else() -> None:
    names = "descriptions", "jobs", "limits", "records", "search", "system"
    code = f"import sys; from mirage_api import {', '.join(names)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"click", "httpx", "rich", "grpc", "google.protobuf", "mirage_core", "numpy"} & set(loaded)
