"""Jobs of image generation over HTTP, with a script in place of the generator."""

import asyncio
import base64
import contextlib
import io
import json
import math
from typing import Any

import httpx
import pytest
from PIL import Image

from mirage_api.jobs import EVENTS, Job, JobsReply
from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import job_pb2
from tests.support import scripted_generator
from tests.support.waiting import PATIENCE_S
from tests.support.waiting import until_async as until

from .conftest import Gateway, Peer, check
from .test_describe_routes import events

ASKED = {"prompt": "axial T1 brain"}
KEYS = "ann:" + "a" * 24 + ",bob:" + "b" * 24 + ",head:" + "h" * 24 + ":admin"


def bearer(letter: str) -> dict[str, str]:
    return {"authorization": f"Bearer {letter * 24}"}


async def create(http: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    response = await http.post("/v1/jobs", json={**ASKED, **fields}, headers=headers)
    assert response.status_code == 202, response.text
    document: dict[str, Any] = response.json()
    check(Job, response.json())
    assert response.headers["location"] == f"/v1/jobs/{document['id']}"
    return document


async def watch(http: httpx.AsyncClient, job_id: str, query: str = "") -> list[tuple[str, Any]]:
    response = await http.get(f"/v1/jobs/{job_id}/events{query}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events(response.text)


async def followed(http: httpx.AsyncClient, peer: Peer, job_id: str, query: str = "") -> list[tuple[str, Any]]:
    """The events of a job that was made while the gate was shut: it starts when it is watched."""
    watching = asyncio.create_task(watch(http, job_id, query))
    await until(lambda: peer.generator.watching == 1)
    peer.generator.gate.set()
    return await watching


async def finished(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    job = await create(http, **fields)
    found: dict[str, Any] = (await watch(http, job["id"]))[-1][1]
    return found


async def test_a_job_is_accepted_followed_and_fetched(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.generator.gate.clear()
    peer.generator.step_s = 0.02
    job = await create(http, steps=3, seed=7, width=64, height=64, guidance_scale=1.25, images=2)
    assert (job["state"], job["steps"], job["eta_s"], job["images"]) == ("PENDING", 6, 0.12, [])
    assert job["request"] == {
        "prompt": "axial T1 brain",
        "negative_prompt": "",
        "steps": 3,
        "guidance_scale": 1.25,
        "seed": 7,
        "width": 64,
        "height": 64,
        "images": 2,
        "priority": "interactive",
    }
    found = await followed(http, peer, job["id"])
    for name, document in found:
        check(EVENTS[name], document)
    names = [name for name, _ in found]
    assert names[0] == "progress"
    assert names[-1] == "done"
    assert "preview" in names
    done = found[-1][1]
    assert (done["state"], done["step"]) == ("SUCCEEDED", 6)
    assert [(each["url"], each["seed"]) for each in done["images"]] == [
        (f"/v1/jobs/{job['id']}/images/0", 7),
        (f"/v1/jobs/{job['id']}/images/1", 8),
    ]
    assert done["create_time"] <= done["start_time"] <= done["end_time"] < done["expire_time"]
    assert (await http.get(f"/v1/jobs/{job['id']}")).json() == done


async def test_a_job_made_of_a_jobs_request_is_the_same(http: httpx.AsyncClient, peer: Peer) -> None:
    first = await finished(http, seed=2**63 - 1)
    again = await create(http, **first["request"])
    assert again["request"] == first["request"]
    assert again["request"]["seed"] == 2**63 - 1


async def test_a_preview_is_a_small_png(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.generator.step_s = 0.02
    peer.generator.gate.clear()
    job = await create(http)
    previews = [document for name, document in await followed(http, peer, job["id"]) if name == "preview"]
    image = Image.open(io.BytesIO(base64.b64decode(previews[0]["image"])))
    assert (image.format, image.size) == ("PNG", (16, 16))
    peer.generator.gate.clear()
    job = await create(http)
    assert "preview" not in dict(await followed(http, peer, job["id"], "?previews=false"))


async def test_an_image_says_that_it_is_synthetic_and_is_kept_by_no_cache(http: httpx.AsyncClient, peer: Peer) -> None:
    job = await finished(http)
    path = job["images"][0]["url"]
    response = await http.get(path)
    assert response.content == peer.generator.files[job["id"], 0]
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-length"] == str(job["images"][0]["bytes"])
    assert response.headers["x-mirage-synthetic"] == "true"
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["content-disposition"] == f'inline; filename="mirage-synthetic-{job["id"]}-0.png"'
    assert (await http.get(f"/v1/jobs/{job['id']}/image")).content == response.content
    known = await http.get(path, headers={"if-none-match": response.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = await http.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", response.headers["etag"])


async def test_jobs_are_listed_newest_first_page_by_page_and_by_state(http: httpx.AsyncClient) -> None:
    ids = [(await finished(http))["id"] for _ in range(3)]
    waiting = await create(http, prompt="waiting")
    whole = await http.get("/v1/jobs")
    check(JobsReply, whole.json())
    assert [job["id"] for job in whole.json()["jobs"]] == [waiting["id"], *reversed(ids)]
    page = (await http.get("/v1/jobs?limit=3")).json()
    rest = (await http.get(f"/v1/jobs?limit=3&page_token={page['next_page_token']}")).json()
    assert [job["id"] for job in rest["jobs"]] == [ids[0]]
    assert "next_page_token" not in rest
    unfinished = (await http.get("/v1/jobs?state=PENDING,RUNNING")).json()["jobs"]
    assert [job["id"] for job in unfinished] == [waiting["id"]]


async def test_a_waiting_job_is_cancelled_and_stays_so(http: httpx.AsyncClient) -> None:
    job = await create(http, prompt="waiting")
    for _ in range(2):
        cancelled = await http.post(f"/v1/jobs/{job['id']}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "CANCELLED")
    assert await watch(http, job["id"]) == [("done", cancelled.json())]


async def test_a_failed_job_names_its_problem(http: httpx.AsyncClient) -> None:
    done = await finished(http, prompt="failing")
    assert done["state"] == "FAILED"
    assert (done["problem"]["code"], done["problem"]["title"]) == ("MODEL_FAILED", "Model failed")


async def test_a_request_id_makes_one_job(http: httpx.AsyncClient) -> None:
    first = await create(http, request_id="lesson-3")
    assert (await create(http, request_id="lesson-3"))["id"] == first["id"]
    other = await http.post("/v1/jobs", json={"prompt": "other", "request_id": "lesson-3"})
    assert (other.status_code, other.json()["code"]) == (409, "REQUEST_ID_REUSED")


async def test_a_client_sees_its_own_jobs_and_an_admin_all(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(api_keys=KEYS)
    assert (await http.post("/v1/jobs", json=ASKED)).status_code == 401
    job = await create(http, bearer("a"), prompt="waiting")
    path = f"/v1/jobs/{job['id']}"
    for method, end in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("GET", "/image"), ("GET", "/images/0")):
        other = await http.request(method, path + end, headers=bearer("b"))
        missing = await http.request(method, f"/v1/jobs/none{end}", headers=bearer("b"))
        assert (other.status_code, other.json()["code"]) == (404, "JOB_NOT_FOUND")
        assert {**other.json(), "request_id": "", "detail": "", "metadata": {}} == {
            **missing.json(),
            "request_id": "",
            "detail": "",
            "metadata": {},
        }
    assert (await http.get("/v1/jobs", headers=bearer("b"))).json()["jobs"] == []
    assert "client" not in (await http.get(path, headers=bearer("a"))).json()
    seen = (await http.get(path, headers=bearer("h"))).json()
    assert (seen["id"], seen["client"]) == (job["id"], "ann")
    await create(http, bearer("h"), prompt="waiting too")
    assert [each["client"] for each in (await http.get("/v1/jobs", headers=bearer("h"))).json()["jobs"]] == [
        "head",
        "ann",
    ]
    assert peer.generator.jobs[job["id"]].state == job_pb2.JOB_STATE_PENDING


async def test_without_keys_a_client_is_its_address_whatever_the_port(gateway: Gateway, peer: Peer) -> None:
    http = await gateway()
    await create(http)
    assert peer.generator.clients == ["127.0.0.1"]


async def test_nobody_says_of_himself_who_he_is(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(api_keys=KEYS)
    job = await create(http, bearer("a"))
    claimed = {**bearer("b"), "x-mirage-client": "ann", "x-mirage-admin": "true"}
    assert (await http.get(f"/v1/jobs/{job['id']}", headers=claimed)).status_code == 404
    assert peer.generator.clients == ["ann", "bob"]


async def test_a_keys_name_may_hold_any_character(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(api_keys="Zoë 1%:" + "z" * 24)
    await create(http, bearer("z"))
    assert peer.generator.clients == ["Zo%C3%AB 1%25"]


BAD: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "steps of 0": ({"steps": 0}, 422, "OPTION_OUT_OF_RANGE", "steps"),
    "steps of 51": ({"steps": 51}, 422, "OPTION_OUT_OF_RANGE", "steps"),
    "steps of 10^6": ({"steps": 10**6}, 422, "OPTION_OUT_OF_RANGE", "steps"),
    "steps of 10^30": ({"steps": 10**30}, 422, "OPTION_OUT_OF_RANGE", "steps"),
    "steps of 2.5": ({"steps": 2.5}, 400, "REQUEST_MALFORMED", "steps"),
    "a NaN guidance": ({"guidance_scale": math.nan}, 422, "OPTION_OUT_OF_RANGE", "guidance_scale"),
    "an infinite guidance": ({"guidance_scale": math.inf}, 422, "OPTION_OUT_OF_RANGE", "guidance_scale"),
    "a guidance in words": ({"guidance_scale": "nan"}, 400, "REQUEST_MALFORMED", "guidance_scale"),
    "a side of 511": ({"width": 511}, 422, "OPTION_OUT_OF_RANGE", "width"),
    "a side of 10^5": ({"height": 10**5}, 422, "OPTION_OUT_OF_RANGE", "height"),
    "a seed of -1": ({"seed": -1}, 422, "OPTION_OUT_OF_RANGE", "seed"),
    "a seed of 2^63": ({"seed": 2**63}, 422, "OPTION_OUT_OF_RANGE", "seed"),
    "a seed of 2^70": ({"seed": 2**70}, 422, "OPTION_OUT_OF_RANGE", "seed"),
    "five images": ({"images": 5}, 422, "OPTION_OUT_OF_RANGE", "images"),
    "a deadline of 10^9 s": ({"deadline_s": 10**9}, 422, "OPTION_OUT_OF_RANGE", "deadline_s"),
    "an empty prompt": ({"prompt": ""}, 422, "PROMPT_EMPTY", "prompt"),
    "a blank prompt": ({"prompt": " \n"}, 422, "PROMPT_EMPTY", "prompt"),
    "no prompt": ({"prompt": None}, 400, "REQUEST_MALFORMED", "prompt"),
    "10,000 characters": ({"prompt": "x" * 10_000}, 422, "TEXT_TOO_LONG", "prompt"),
    "10,000 characters against": ({"negative_prompt": "x" * 10_000}, 422, "TEXT_TOO_LONG", "negative_prompt"),
    "an unknown priority": ({"priority": "now"}, 400, "REQUEST_MALFORMED", "priority"),
    "an unknown field": ({"sampler": "ddim"}, 400, "REQUEST_MALFORMED", "sampler"),
    "a request id with a space": ({"request_id": "a b"}, 422, "OPTION_OUT_OF_RANGE", "request_id"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_input_is_refused_by_name_and_asks_nobody(http: httpx.AsyncClient, peer: Peer, name: str) -> None:
    fields, status, code, field = BAD[name]
    body = json.dumps({**ASKED, **fields}).encode()
    response = await http.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["metadata"]["field"] == field
    assert response.headers["content-type"] == "application/problem+json"
    assert not peer.generator.asked


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "REQUEST_MALFORMED"),
        (b"[]", {}, 400, "REQUEST_MALFORMED"),
        (b'{"prompt": "\\ud800"}', {}, 400, "REQUEST_MALFORMED"),
        (b'{"prompt": "' + b"x" * 300_000 + b'"}', {}, 413, "REQUEST_TOO_LARGE"),
        (b'{"prompt": "x"}', {"content-type": "text/plain"}, 415, "MEDIA_TYPE_UNSUPPORTED"),
    ],
)
async def test_a_body_that_is_none_is_refused(
    http: httpx.AsyncClient, peer: Peer, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = await http.post("/v1/jobs", content=body, headers={"content-type": "application/json", **headers})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert not peer.generator.asked


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/jobs/none", 404, "JOB_NOT_FOUND"),
        ("/v1/jobs/none/events", 404, "JOB_NOT_FOUND"),
        ("/v1/jobs/none/images/0", 404, "JOB_NOT_FOUND"),
        ("/v1/jobs/job0001/images/1", 404, "JOB_IMAGE_NOT_FOUND"),
        ("/v1/jobs/job0001/images/-1", 404, "JOB_IMAGE_NOT_FOUND"),
        ("/v1/jobs/job0001/images/9999999999999999999999", 404, "JOB_IMAGE_NOT_FOUND"),
        ("/v1/jobs/job0001/images/x", 404, "JOB_IMAGE_NOT_FOUND"),
        ("/v1/jobs/..%2f..%2fetc/image", 404, "ROUTE_NOT_FOUND"),
        ("/v1/jobs/job0001/events?previews=maybe", 400, "REQUEST_MALFORMED"),
        ("/v1/jobs/job0001?x=1", 400, "REQUEST_MALFORMED"),
        ("/v1/jobs?limit=0", 422, "OPTION_OUT_OF_RANGE"),
        ("/v1/jobs?limit=101", 422, "OPTION_OUT_OF_RANGE"),
        ("/v1/jobs?limit=1e3", 400, "REQUEST_MALFORMED"),
        ("/v1/jobs?state=DONE", 400, "REQUEST_MALFORMED"),
    ],
)
async def test_what_is_not_there_is_a_problem(http: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    await finished(http)
    response = await http.get(path)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_full_queue_says_when_to_come_again(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/jobs", json={"prompt": "crowded"})
    assert (response.status_code, response.json()["code"]) == (429, "QUEUE_FULL")
    assert response.headers["retry-after"] == "3"


async def test_without_a_generator_all_of_it_says_so(gateway: Gateway) -> None:
    http = await gateway(generator="")
    for method, path in (
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/a"),
        ("GET", "/v1/jobs/a/events"),
        ("POST", "/v1/jobs/a/cancel"),
        ("GET", "/v1/jobs/a/image"),
    ):
        response = await http.request(method, path, json=ASKED if path == "/v1/jobs" and method == "POST" else None)
        assert (response.status_code, response.json()["code"]) == (501, "GENERATOR_ABSENT")


async def test_a_generator_that_is_down_gives_503_and_searches_go_on(gateway: Gateway) -> None:
    http = await gateway(generator="127.0.0.1:9")
    for path in ("/v1/jobs", "/v1/jobs/a", "/v1/jobs/a/events", "/v1/jobs/a/image"):
        response = await http.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
        assert response.json()["metadata"]["service"] == "generator"
    assert (await http.post("/v1/search", json={"text": "x"})).status_code == 200


async def test_a_generator_that_hangs_is_noticed_long_before_the_deadline(gateway: Gateway) -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        silent.append(task)
        await gone.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    gone = asyncio.Event()
    silent: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    http = await gateway(generator=f"{host}:{port}", patience_s=0.1, read_timeout_s=60)
    async with asyncio.timeout(PATIENCE_S):
        response = await http.get("/v1/jobs")
    assert (response.status_code, response.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    gone.set()
    server.close()
    await asyncio.gather(*silent)


async def test_a_watch_goes_on_over_a_restart_of_the_generator(gateway: Gateway, peer: Peer) -> None:
    http = await gateway()
    job = await create(http, prompt="waiting")
    watching = asyncio.create_task(watch(http, job["id"]))
    await until(lambda: peer.generator.watching == 1)
    await peer.generator_server.stop(0)
    port = int(peer.generator_address.rpartition(":")[2])
    peer.generator_server, _, _, working = await scripted_generator.serve(peer.generator, port)
    await until(lambda: peer.generator.watching == 1)
    peer.generator.jobs[job["id"]].request.prompt = "no longer"
    async with peer.generator.changed:
        peer.generator.changed.notify_all()
    async with asyncio.timeout(PATIENCE_S):
        found = await watching
    assert [name for name, _ in found].count("done") == 1
    revisions = [document["revision"] for name, document in found if name != "preview"]
    assert revisions == sorted(set(revisions))
    assert found[-1][1]["state"] == "SUCCEEDED"
    working.cancel()


async def test_a_generator_that_stays_away_ends_the_watch_with_an_error(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(watch_retry_s=0.5)
    job = await create(http, prompt="waiting")
    watching = asyncio.create_task(watch(http, job["id"]))
    await until(lambda: peer.generator.watching == 1)
    await peer.generator_server.stop(0)
    async with asyncio.timeout(PATIENCE_S):
        name, document = (await watching)[-1]
    assert (name, document["problem"]["code"]) == ("error", "DEPENDENCY_UNAVAILABLE")


async def test_a_generator_that_says_what_is_known_and_breaks_off_is_not_asked_for_ever(
    gateway: Gateway, peer: Peer
) -> None:
    http = await gateway(watch_retry_s=1.0)
    job = await create(http, prompt="waiting")
    watching = asyncio.create_task(watch(http, job["id"]))
    await until(lambda: peer.generator.watching == 1)
    peer.generator.breaks = True
    async with peer.generator.changed:
        peer.generator.changed.notify_all()
    async with asyncio.timeout(PATIENCE_S):
        found = await watching
    assert (found[-1][0], found[-1][1]["problem"]["code"]) == ("error", "DEPENDENCY_UNAVAILABLE")
    assert 3 <= peer.generator.watches <= 8


async def test_a_watch_that_is_refused_on_its_way_is_not_begun_again(gateway: Gateway, peer: Peer) -> None:
    http = await gateway()
    job = await create(http, prompt="waiting")
    watching = asyncio.create_task(watch(http, job["id"]))
    await until(lambda: peer.generator.watching == 1)
    peer.generator.error = MirageError(Code.JOB_NOT_FOUND, id=job["id"])
    await peer.generator_server.stop(0)
    port = int(peer.generator_address.rpartition(":")[2])
    peer.generator_server, _, _, working = await scripted_generator.serve(peer.generator, port)
    async with asyncio.timeout(PATIENCE_S):
        name, document = (await watching)[-1]
    assert (name, document["problem"]["code"]) == ("error", "JOB_NOT_FOUND")
    working.cancel()


async def test_watches_have_bounds_of_their_own(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(max_requests=1, max_watchers=2)
    job = await create(http, prompt="waiting")
    watching = [asyncio.create_task(watch(http, job["id"])) for _ in range(2)]
    await until(lambda: peer.generator.watching == 2)
    third = await http.get(f"/v1/jobs/{job['id']}/events")
    assert (third.status_code, third.json()["code"]) == (429, "QUEUE_FULL")
    assert (await http.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 200
    for each in watching:
        assert (await each)[-1][1]["state"] == "CANCELLED"
    assert (await watch(http, job["id"]))[-1][0] == "done"
    for _ in range(3):
        assert (await http.get("/v1/jobs/none/events")).status_code == 404
    assert (await watch(http, job["id"]))[-1][0] == "done"


async def test_a_browser_that_comes_again_after_the_end_is_sent_home(http: httpx.AsyncClient) -> None:
    job = await finished(http)
    response = await http.get(f"/v1/jobs/{job['id']}/events")
    assert response.text.splitlines()[0] == "id: end"
    again = await http.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": "end"})
    assert (again.status_code, again.content) == (204, b"")
