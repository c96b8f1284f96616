"""Does everything that another service can ask of MIRAGE, through whatever stubs its caller has, and prints what came back.

Knows the names of the contract and nothing of this repository's code.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

RECORD_ID = "contract-disc"


class Caller(Protocol):
    """A client of one kind."""

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """A unary call; request and reply as protobuf's JSON."""

    def stream(self, method: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A call with a stream of replies."""

    def upload(self, method: str, requests: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """A call with a stream of requests."""

    def healthy(self) -> bool:
        """What grpc.health.v1 says of the service."""

    def refusal(self, method: str, request: dict[str, Any]) -> str:
        """The ErrorInfo.reason of a call that fails."""


def walk(caller: Caller, image: str) -> None:
    """Makes every call once. `image` is a PNG in base64, as protobuf's JSON writes bytes."""
    text = {"terms": [{"text": "axial T1 brain MRI"}], "vectors": "VECTOR_SPACE_IMAGE", "k": 3}
    head = {"record": {"id": RECORD_ID, "caption": "a disc", "licence": "CC0-1.0", "source": "drawn by a test"}}
    found: dict[str, Any] = {"healthy": caller.healthy()}
    found["search"] = caller.call("Search", {"query": text})
    shift = [{"text": "axial", "weight": -1}, {"text": "sagittal"}]
    found["compare"] = caller.call("Compare", {"base": text, "shift": shift})
    best = found["search"]["reply"]["results"][0]["record"]["id"]
    found["record"] = caller.call("GetRecord", {"id": best})
    found["similar"] = caller.call("FindSimilar", {"id": best, "k": 4})
    found["image"] = list(caller.stream("GetImage", {"id": best, "variant": "IMAGE_VARIANT_THUMBNAIL"}))
    where = {"plane": {"values": ["sagittal"]}}
    found["facets"] = caller.call("ListFacets", {"where": where})
    options = {"maxTokens": 64, "temperature": 0.5, "seed": "7"}
    found["describe"] = list(caller.stream("Describe", {"query": {**text, "k": 2}, "options": options}))
    spec = {"prompt": "axial T1 brain MRI", "steps": 2, "seed": "9223372036854775807", "images": 2}
    made = caller.call("CreateJob", {"spec": spec, "requestId": "contract"})
    job = {"id": made["job"]["id"]}
    found["job"] = {
        "made": made,
        "again": caller.call("CreateJob", {"spec": spec, "requestId": "contract"}),
        "watch": list(caller.stream("WatchJob", {**job, "previews": True})),
        "read": caller.call("GetJob", job),
        "list": caller.call("ListJobs", {"pageSize": 1}),
        "image": list(caller.stream("GetJobImage", {**job, "index": 1})),
        "cancel": caller.call("CancelJob", job),
    }
    found["models"] = caller.call("ListModels", {})
    found["before"] = caller.call("GetCollection", {})
    parts: list[dict[str, Any]] = [{"part": {"record": head}}, {"part": {"imageChunk": image}}]
    try:
        found["upsert"] = caller.upload("UpsertRecords", parts)
        found["after"] = caller.call("GetCollection", {})
        # Drawn for the test, so no gate of medical images may decide.
        by_image = {"terms": [{"image": image}], "k": 1, "acceptAnyImage": True}
        found["by_image"] = caller.call("Search", {"query": by_image})
        found["flag"] = caller.call(
            "FlagRecord", {"recordId": RECORD_ID, "reason": "FLAG_REASON_OTHER", "comment": "only a disc"}
        )
    finally:
        found["delete"] = caller.call(
            "DeleteRecords", {"ids": [RECORD_ID, "never-was"], "collection": found["before"]["collection"]["name"]}
        )
    found["refusals"] = {
        "unknown job": caller.refusal("GetJob", {"id": "none"}),
        "steps": caller.refusal("CreateJob", {"spec": {"prompt": "x", "steps": 51}}),
        "unknown record": caller.refusal("GetRecord", {"id": RECORD_ID}),
        "no terms": caller.refusal("Search", {"query": {"variety": True}}),
        "k": caller.refusal("Search", {"query": {**text, "k": -5}}),
        "cancels out": caller.refusal(
            "Compare", {"base": text, "shift": [{"text": "axial T1 brain MRI", "weight": -1}]}
        ),
    }
    print(json.dumps(found))
