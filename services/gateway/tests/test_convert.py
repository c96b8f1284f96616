"""Messages to models and back: by the names and types of fields alone."""

import base64
import json
import struct
from typing import Any

import pytest

from mirage_api import descriptions, records, search, system
from mirage_api.base import Reply
from mirage_api.jobs import Job, JobRequest, JobsReply
from mirage_api.records import Flag, LookupRequest, Record, RecordUpload, StoredRecord, UpsertReply
from mirage_api.search import ImageGuess, SearchReply, SearchRequest
from mirage_api.system import ModelsReply
from mirage_core.errors import Code, MirageError
from mirage_gateway.convert import to_message, to_model
from mirage_gateway.web.operations import json_of
from mirage_gateway.web.uploads import record_head
from mirage_protos.generator.v1 import generator_pb2
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import (
    description_pb2,
    flag_pb2,
    image_pb2,
    job_pb2,
    mirage_service_pb2,
    problem_pb2,
    query_pb2,
    record_pb2,
)

from .conftest import check, record, reply


def document(model: type[Reply], message: Any) -> Any:
    """What a caller gets, which is checked against the model."""
    made = json.loads(json_of(to_model(model, message)))
    check(model, made)
    return made


def test_a_result_has_its_records_fields_and_rounded_scores() -> None:
    found = document(SearchReply, reply("r1"))
    result = found["results"][0]
    assert (result["id"], result["score"], result["caption"]) == ("r1", 0.3, "Axial T1 <b>brain</b>")
    assert list(result["labels"]) == ["modality", "plane"]
    assert result["thumbnail_url"] == "/v1/images/r1/thumbnail?v=abababababababab"
    assert found["timings"]["total_ms"] == 2.0


def test_what_is_empty_is_null_or_left_out_as_the_model_says() -> None:
    found = document(SearchReply, query_pb2.SearchReply())
    assert found["match"] is None
    assert not {"next_page_token", "images"} & {*found, *found["query"]}
    assert document(Record, record())["pixels"] is None
    assert "image_vector" not in document(StoredRecord, record_pb2.StoredRecord(record=record()))


@pytest.mark.parametrize("kind", image_pb2.ImageKind.keys())
def test_an_enum_is_a_lower_case_word(kind: str) -> None:
    word = kind.removeprefix("IMAGE_KIND_").lower()
    expected = word if word in ("medical", "unsure", "not_medical") else "unknown"
    assert document(ImageGuess, image_pb2.ImageGuess(kind=image_pb2.ImageKind.Value(kind)))["kind"] == expected


@pytest.mark.parametrize("state", job_pb2.JobState.keys()[1:])
def test_a_jobs_state_keeps_its_capitals(state: str) -> None:
    assert document(Job, job_pb2.Job(id="a", state=job_pb2.JobState.Value(state)))["state"] == state.removeprefix(
        "JOB_STATE_"
    )


def test_times_are_rfc_3339_and_durations_seconds() -> None:
    job = job_pb2.Job(id="a", state=job_pb2.JOB_STATE_FAILED, images=[job_pb2.JobImage(index=2, seed=2**63 - 1)])
    job.create_time.FromNanoseconds(1_767_225_600_123_456_789)
    job.eta.FromNanoseconds(12_345_678_900)
    job.problem.CopyFrom(problem_pb2.Problem(code="MODEL_FAILED", metadata={"field": "x"}))
    found = document(Job, job)
    assert (found["create_time"], found["start_time"]) == ("2026-01-01T00:00:00.123Z", None)
    assert found["eta_s"] == 12.346
    assert (found["images"][0]["url"], found["images"][0]["seed"]) == ("/v1/jobs/a/images/2", 2**63 - 1)
    assert (found["problem"]["code"], found["problem"]["metadata"]) == ("MODEL_FAILED", {"field": "x"})
    assert found["problem"]["detail"] == found["problem"]["title"]


def test_a_code_that_the_catalogue_does_not_have_is_an_internal_error() -> None:
    outcome = record_pb2.UpsertOutcome(id="a", state=record_pb2.UPSERT_STATE_REJECTED)
    outcome.error.code = "SOMETHING_NEW"
    found = document(UpsertReply, retriever_pb2.UpsertRecordsResponse(outcomes=[outcome]))
    assert found["outcomes"][0]["error"]["code"] == "INTERNAL"


def test_a_vector_is_packed_both_ways() -> None:
    packed = struct.pack("<2f", 1.0, -0.5)
    upload = RecordUpload(
        id="a", caption="c", image_vector=(1.0, -0.5), caption_vector=base64.b64encode(packed).decode()
    )
    head = record_head(upload)
    assert (head.image_vector.float32, head.caption_vector.float32) == (packed, packed)
    stored = record_pb2.StoredRecord(record=record(), image_vector=head.image_vector)
    assert base64.b64decode(document(StoredRecord, stored)["image_vector"]) == packed
    with pytest.raises(MirageError) as caught:
        record_head(RecordUpload(id="a", caption="c", image_vector="YWJj"))
    assert (caught.value.code, caught.value.metadata) == (Code.REQUEST_MALFORMED, {"field": "image_vector"})


def test_a_request_sets_what_it_has_and_nothing_else() -> None:
    spec = to_message(job_pb2.JobSpec, JobRequest(prompt="p", seed=2**63 - 1, deadline_s=1.5, priority="batch"))
    assert (spec.prompt, spec.seed, spec.priority) == ("p", 2**63 - 1, job_pb2.JOB_PRIORITY_BATCH)
    assert spec.deadline.ToNanoseconds() == 1_500_000_000
    assert not any(spec.HasField(name) for name in ("steps", "guidance_scale", "width", "images"))
    keys = LookupRequest.model_validate({"keys": [{"id": "a"}, {"id": "b", "image_sha256": "c"}]})
    asked = to_message(retriever_pb2.LookupRecordsRequest, keys)
    assert [(key.id, key.image_sha256) for key in asked.keys] == [("a", ""), ("b", "c")]
    query = to_message(query_pb2.Query, SearchRequest(where={"plane": "axial", "side": ("left", "right")}))
    assert {name: list(each.values) for name, each in query.where.items()} == {
        "plane": ["axial"],
        "side": ["left", "right"],
    }


@pytest.mark.parametrize("reason", flag_pb2.FlagReason.keys()[1:])
def test_a_reason_is_written_with_hyphens(reason: str) -> None:
    word = reason.removeprefix("FLAG_REASON_").lower().replace("_", "-")
    assert (
        document(Flag, flag_pb2.Flag(id="f", record_id="a", reason=flag_pb2.FlagReason.Value(reason)))["reason"] == word
    )


def test_a_field_that_no_message_has_is_found_before_it_is_served() -> None:
    class Colour(Reply):
        colour: str = ""

    with pytest.raises(TypeError, match="colour"):
        to_model(Colour, record())


MESSAGES: dict[type[Reply], Any] = {
    search.SearchReply: query_pb2.SearchReply,
    search.CompareReply: retriever_pb2.CompareResponse,
    search.FacetsReply: retriever_pb2.ListFacetsResponse,
    records.RecordsReply: retriever_pb2.ListRecordsResponse,
    records.FlagsReply: retriever_pb2.ListFlagsResponse,
    JobsReply: generator_pb2.ListJobsResponse,
    ModelsReply: mirage_service_pb2.ListModelsResponse,
    system.CollectionsReply: retriever_pb2.ListCollectionsResponse,
    descriptions.DescribeRanking: description_pb2.DescribeRanking,
}


@pytest.mark.parametrize("model", MESSAGES)
def test_a_model_that_was_not_validated_is_as_one_that_was(model: type[Reply]) -> None:
    made = to_model(model, MESSAGES[model]())
    assert model.model_validate_json(json_of(made)) == made
    assert made.raw == json.loads(json_of(made))
