"""Other teams' clients, each in a process of its own: one that has only the protos, one that has only an address."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc_tools import protoc
from PIL import Image

CALLERS = Path(__file__).parent / "callers"
PROTOS = Path(__file__).parents[2] / "protos"


def picture() -> str:
    """A PNG in base64 that no record of the atlas looks like."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").rotate(30).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def generate_stubs(folder: Path) -> None:
    """Stubs as a team would make them that has the protos and nothing else."""
    include = Path(protoc.__file__).parent / "_proto"
    files = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    options = [
        f"--proto_path={PROTOS}",
        f"--proto_path={include}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
    ]
    assert protoc.main(["protoc", *options, *files]) == 0
    for package in (path for path in (folder / "mirage").rglob("*") if path.is_dir()):
        (package / "__init__.py").touch()
    (folder / "mirage" / "__init__.py").touch()


def run_caller(name: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(CALLERS / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module", params=["protos_only", "reflection_only"])
def found(
    request: pytest.FixtureRequest, explaining_system: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a client of each kind got for every call."""
    explaining_system.start_llm()
    explaining_system.start_generator()
    arguments = [explaining_system.grpc_address, picture()]
    if request.param == "protos_only":
        stubs = tmp_path_factory.mktemp("stubs")
        generate_stubs(stubs)
        arguments.append(str(stubs))
    return run_caller(request.param, *arguments)


def ids(reply: dict[str, Any]) -> list[str]:
    return [result["record"]["id"] for result in reply["results"]]


def test_the_service_is_healthy(found: dict[str, Any]) -> None:
    assert found["healthy"] is True


def test_search_gives_records_with_source_and_licence(found: dict[str, Any]) -> None:
    reply = found["search"]["reply"]
    scores = [result["score"] for result in reply["results"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(result["record"]["licence"] and result["record"]["source"] for result in reply["results"])
    assert reply["fingerprint"] == found["before"]["collection"]["fingerprint"]


def test_compare_gives_both_sides_and_their_distance(found: dict[str, Any]) -> None:
    both = found["compare"]
    assert ids(both["base"]) == ids(found["search"]["reply"])
    assert len(ids(both["shifted"])) == 3
    assert -1 <= both["shift"] < 1
    assert sum(term["share"] for term in both["shifted"]["query"]["terms"]) == pytest.approx(1, abs=1e-4)


def test_a_record_is_read_by_its_id(found: dict[str, Any]) -> None:
    assert found["record"]["record"] == found["search"]["reply"]["results"][0]["record"]


def test_similar_leaves_the_record_out(found: dict[str, Any]) -> None:
    neighbours = ids(found["similar"]["reply"])
    assert len(neighbours) == 4
    assert found["record"]["record"]["id"] not in neighbours


def test_an_image_comes_in_parts(found: dict[str, Any]) -> None:
    parts = [part["part"] for part in found["image"]]
    data = b"".join(base64.b64decode(part["chunk"]) for part in parts)
    assert parts[0]["mediaType"] == "image/webp"
    assert int(parts[0]["length"]) == len(data)
    with Image.open(io.BytesIO(data)) as image:
        assert max(image.size) <= 256


def test_facets_are_counted_under_the_filter(found: dict[str, Any]) -> None:
    values = {
        facet["name"]: {value["value"]: int(value["count"]) for value in facet["values"]}
        for facet in found["facets"]["facets"]
    }
    # The filter names a plane: the other planes are counted too, since they could be chosen instead.
    assert {"axial", "coronal", "sagittal"} <= set(values["plane"])
    assert sum(values["modality"].values()) == values["plane"]["sagittal"]


def test_the_model_is_the_collections(found: dict[str, Any]) -> None:
    model, language, pictures = found["models"]["models"]
    assert [each["kind"] for each in (model, language, pictures)] == [
        "MODEL_KIND_ENCODER",
        "MODEL_KIND_LLM",
        "MODEL_KIND_GENERATOR",
    ]
    assert (model["fingerprint"], model["dimension"]) == (
        found["before"]["collection"]["fingerprint"],
        found["before"]["collection"]["dimension"],
    )


def test_an_explanation_comes_event_by_event(found: dict[str, Any]) -> None:
    events = [next(iter(event.items())) for event in found["describe"]]
    names = list(dict.fromkeys(name for name, _ in events))
    assert names == ["retrieval", "start", "sentence", "ranking", "done"]
    by_name = dict(events)
    assert ids(by_name["retrieval"]) == ids(found["search"]["reply"])[:2]
    end = by_name["done"]
    assert [value for name, value in events if name == "sentence"] == end["sentences"]
    assert {id_ for sentence in end["sentences"] for id_ in sentence.get("ids", ())} == set(by_name["start"]["usedIds"])
    assert end["source"] == "DESCRIPTION_SOURCE_MODEL"
    assert by_name["ranking"]["first"][:2] == ids(by_name["retrieval"])


def test_a_job_is_made_followed_and_fetched(found: dict[str, Any]) -> None:
    job = found["job"]
    made = job["made"]["job"]
    assert (made["state"], made["request"]["seed"], made["steps"]) == ("JOB_STATE_PENDING", str(2**63 - 1), 4)
    assert job["again"]["job"]["id"] == made["id"]
    done = job["watch"][-1]["event"]["done"]
    assert (done["state"], [image.get("seed", "0") for image in done["images"]]) == (
        "JOB_STATE_SUCCEEDED",
        [str(2**63 - 1), "0"],
    )
    assert job["read"]["job"] == done == job["list"]["jobs"][0] == job["cancel"]["job"]
    parts = [part["part"] for part in job["image"]]
    assert (parts[0]["mediaType"], parts[0]["length"]) == ("image/png", done["images"][1]["bytes"])
    assert sum(len(base64.b64decode(part["chunk"])) for part in parts) == int(parts[0]["length"])


def test_a_record_is_stored_found_flagged_and_removed(found: dict[str, Any]) -> None:
    assert [outcome["state"] for outcome in found["upsert"]["outcomes"]] == ["UPSERT_STATE_CREATED"]
    before, after = found["before"]["collection"], found["after"]["collection"]
    assert int(after["records"]) == int(before["records"]) + 1
    assert after["revision"] != before["revision"]
    assert ids(found["by_image"]["reply"]) == ["contract-disc"]
    assert found["flag"]["flag"]["recordId"] == "contract-disc"
    assert found["delete"]["deleted"] == 1


def test_refusals_carry_the_catalogues_code(found: dict[str, Any]) -> None:
    assert found["refusals"] == {
        "unknown job": "JOB_NOT_FOUND",
        "steps": "OPTION_OUT_OF_RANGE",
        "unknown record": "RECORD_NOT_FOUND",
        "no terms": "EMPTY_QUERY",
        "k": "K_OUT_OF_RANGE",
        "cancels out": "QUERY_CANCELS_OUT",
    }
