"""Rating by experts over a real system: a sheet is drawn, rated by its links, and summed up."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from mirage.client import Client
from mirage.errors import ApiError
from mirage.uploads import Upload
from mirage_api.ratings import ItemUpload

QUERIES = ("axial T1 brain", "sagittal T1 brain", "liver", "coronal brain", "thalami", "lungs")


@pytest.fixture
def client(system: Any) -> Iterator[Client]:
    with Client(system.http_url, timeout_s=120) as client:
        yield client
        for sheet in client.rating_sheets():
            client.delete_rating_sheet(sheet.id)


def run(system: Any, *arguments: str) -> Any:
    done = subprocess.run(
        [*system.command_line, "eval", "rate", *arguments, "--url", system.http_url, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The results of another search."""
    for number in range(len(QUERIES)):
        Image.new("RGB", (64, 48), (20 * number, 90, 40)).save(tmp_path / f"{number}.png")
    path = tmp_path / "other.csv"
    rows = [f"{query},{number}.png,found elsewhere {number},1,other" for number, query in enumerate(QUERIES)]
    path.write_text("\n".join(["query,image,caption,rank,system", *rows]))
    return path


def test_what_raters_answer_to_two_systems_is_told_apart(
    client: Client, system: Any, other: Path, tmp_path: Path
) -> None:
    made = run(system, "prepare", "--raters", "2", "--items", "12", "--kind", "result", "--with", str(other))
    sheet = client.rating_sheet(made["sheet"])
    assert (len(sheet.items), made["items"], sheet.raters) == (12, 12, 2)
    of = {each.number: each.system for each in sheet.items}
    assert sorted(of.values()) == ["mirage"] * 6 + ["other"] * 6
    # Mixed, and asked the same.
    assert [*of.values()] != sorted(of.values())
    asked = {name: {each.query for each in sheet.items if each.system == name} for name in ("mirage", "other")}
    assert asked["mirage"] == asked["other"] == set(QUERIES)
    for link in made["links"]:
        address = link.replace("/rate/", "/v1/rate/")
        seen = httpx.get(address)
        assert "other" not in seen.text.replace("found elsewhere", "")
        assert "mirage" not in seen.text
        version = seen.json()["version"]
        for question in seen.json()["questions"]:
            image = httpx.get(f"{address}/images/{question['number']}")
            assert Image.open(io.BytesIO(image.content)).width > 16
            ours = of[question["number"]] == "mirage"
            answer = {
                "number": question["number"],
                "relevance": 3 if ours else 0,
                "verdict": "correct" if ours else "misleading",
            }
            version = httpx.post(address, json={"answer": answer, "version": version}).json()["version"]
        assert len(httpx.get(address).json()["answers"]) == version == 12
    table = tmp_path / "ratings.csv"
    report = run(system, "report", made["sheet"], "--csv", str(table))
    scores = {each["system"]: each for each in report["scores"]}
    assert (scores["mirage"]["relevance"]["low"], scores["other"]["relevance"]["high"]) == (3, 0)
    assert (scores["mirage"]["relevant"], scores["other"]["misleading"]) == (12, 12)
    assert report["agreement"]["relevance"] == report["agreement"]["verdict"] == 1
    assert len(list(csv.DictReader(io.StringIO(table.read_text())))) == 24
    assert [each["answered"] for each in run(system, "list")["sheets"]] == [24]
    assert run(system, "delete", made["sheet"]) == {"answers": 24}
    assert httpx.get(address).json()["code"] == "RATING_NOT_FOUND"


def test_the_same_seed_draws_the_same_sheet(client: Client, system: Any, tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("\n".join(QUERIES))
    options = ("prepare", "--items", "6", "--kind", "result", "--queries", str(queries))
    first, again, other = (
        [(each.query, each.record_id) for each in client.rating_sheet(run(system, *given)["sheet"]).items]
        for given in (options, options, (*options, "--seed", "9"))
    )
    assert first == again != other
    assert {query for query, _ in first} == set(QUERIES)


def test_a_record_that_is_deleted_leaves_the_sheet(client: Client) -> None:
    out = io.BytesIO()
    Image.radial_gradient("L").save(out, "PNG")
    upload = Upload(id="rated", caption="A disc", image=out.getvalue(), licence="CC0-1.0", source="a test")
    client.upsert([upload])
    made = client.create_rating_sheet()
    item = ItemUpload(kind="result", query="disc", record_id="rated", system="mirage")
    client.add_rating_item(made.sheet.id, item)
    address = f"{client.url}/v1/rate/{made.tokens[0]}"
    assert httpx.get(address).json()["questions"][0]["text"] == "A disc"
    client.delete("rated")
    (question,) = httpx.get(address).json()["questions"]
    assert (question["gone"], question["text"]) == (True, "")
    answer = {"number": 1, "relevance": 1, "verdict": "correct"}
    refused = httpx.post(address, json={"answer": answer, "version": 0})
    assert (refused.status_code, refused.json()["code"]) == (404, "RATING_ITEM_NOT_FOUND")
    assert "rated" not in refused.json()["detail"]
    assert httpx.get(f"{address}/images/1").status_code == 404
    with pytest.raises(ApiError, match="no record with the id rated"):
        client.add_rating_item(made.sheet.id, item)


def test_two_raters_on_one_link_are_told(client: Client) -> None:
    made = client.create_rating_sheet()
    client.add_rating_item(made.sheet.id, ItemUpload(kind="description", query="q", text="It is so.", system="mirage"))
    address = f"{client.url}/v1/rate/{made.tokens[0]}"
    sent = [
        httpx.post(address, json={"answer": {"number": 1, "relevance": relevance, "verdict": "correct"}, "version": 0})
        for relevance in (1, 2)
    ]
    assert [each.status_code for each in sent] == [200, 409]
    assert sent[1].json()["code"] == "RATING_CHANGED"
    assert [each.relevance for each in client.rating_sheet(made.sheet.id).answers] == [1]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"answer": {"number": 1, "relevance": 4}, "version": 0}, "REQUEST_MALFORMED"),
        ({"answer": {"number": 1, "verdict": "great"}, "version": 0}, "REQUEST_MALFORMED"),
        ({"answer": {"number": 1, "relevance": 2}, "version": 0}, "REQUEST_MALFORMED"),
        ({"answer": {"number": 2}, "version": 0}, "RATING_ITEM_NOT_FOUND"),
        ({"answer": {"number": 1}}, "REQUEST_MALFORMED"),
        ({"answer": {"number": 1, "name": "me"}, "version": 0}, "REQUEST_MALFORMED"),
        ({"answer": {"number": 1, "rater": 2}, "version": 0}, "REQUEST_MALFORMED"),
    ],
)
def test_bad_answers_are_refused(client: Client, body: Any, code: str) -> None:
    made = client.create_rating_sheet()
    client.add_rating_item(made.sheet.id, ItemUpload(kind="description", query="q", text="It is so.", system="mirage"))
    assert httpx.post(f"{client.url}/v1/rate/{made.tokens[0]}", json=body).json()["code"] == code
    assert not client.rating_sheet(made.sheet.id).answers
