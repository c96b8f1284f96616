"""Context: the glossary, providers that the operator names, and that nothing else is asked."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.llm.findings import NONE, vocabulary
from mirage_reader.atlas import Subject
from mirage_reader.context import NOTE_CHARS, ContextSource, Note
from mirage_reader.events import Done
from mirage_reader.providers import KEYED, KINDS, WebProvider, plain_text
from mirage_reader.reader import Query
from mirage_reader.settings import ReaderSettings

from .conftest import MakeReader, Script, collect, record
from .scripted_http import HttpScript, http_server, response

KEY = "secret-key-of-a-provider"
TEXT = "A <b>pneumothorax</b> is <script>alert(1)</script> air."
ANSWERS: dict[str, Any] = {
    "wikipedia": {
        "query": {
            "rightsinfo": {"text": "CC BY-SA 4.0"},
            "pages": [{"title": "T", "extract": TEXT, "fullurl": "https://a.example/T", "index": 1}],
        }
    },
    "searxng": {"results": [{"title": "T", "content": TEXT, "url": "https://a.example/T"}] * 9},
    "serpapi": {"organic_results": [{"title": "T", "snippet": TEXT, "link": "https://a.example/T"}]},
    "tavily": {"results": [{"title": "T", "content": TEXT, "url": "https://a.example/T"}]},
    "openi": {"list": [{"title": "T", "image": {"caption": TEXT}, "pmc_url": "https://a.example/T", "licenseType": "by"}]},
}  # fmt: skip


def provider(name: str, script: HttpScript) -> WebProvider:
    return WebProvider(name, script.url, key=KEY if name in KEYED else "", timeout_s=30)


@pytest.mark.parametrize("name", KINDS)
async def test_a_provider_gets_the_finding_alone_and_its_text_loses_its_markup(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    script = HttpScript(response(json.dumps(ANSWERS[name]).encode()))
    with caplog.at_level(logging.DEBUG):
        async with http_server(script):
            source = ContextSource([provider(name, script)], timeout_s=30)
            context = await source.about("pneumothorax", ["x-ray"])
            again = await source.about("pneumothorax", ["x-ray"])
            await source.close()
    assert context.sent == "pneumothorax"
    web = [note for note in context.notes if note.provider == name]
    assert 1 <= len(web) <= 3
    assert (web[0].text, web[0].title, web[0].url) == ("A pneumothorax is air.", "T", "https://a.example/T")
    assert web[0].licence == {"wikipedia": "CC BY-SA 4.0", "openi": "by"}.get(name, "")
    assert again == context
    # The second time it is known.
    (asked,) = script.asked
    assert "pneumothorax" in asked.line + asked.body.decode()
    assert "x-ray" not in asked.line + asked.body.decode()
    assert KEY not in caplog.text


HOSTILE = {
    "HTML": response(b"<html>no</html>", "text/html"),
    "a redirect to loopback": response(b"", status="302 Found", location="http://127.0.0.1:1/admin"),
    "JSON of another form": response(b'{"results": 7}'),
    "a list": response(b"[]"),
    "nested too deeply": response(b"[" * 100_000),
    "a megabyte": response(b'{"results": "' + b"x" * 2**20 + b'"}'),
    "an error": response(b"{}", status="403 Forbidden"),
    "nothing": b"",
}


@pytest.mark.parametrize("answer", HOSTILE)
async def test_a_hostile_provider_costs_only_its_notes(answer: str) -> None:
    async with http_server(HttpScript(HOSTILE[answer])) as script:
        source = ContextSource([provider("searxng", script)], timeout_s=30)
        context = await source.about("pneumonia", ())
        await source.close()
    assert len(script.asked) == 1
    assert context.notice == "No answer from searxng."
    assert {note.provider for note in context.notes} == {"glossary"}


async def test_a_slow_provider_is_left() -> None:
    async with http_server(HttpScript(hold=asyncio.Event())) as script:
        source = ContextSource([provider("searxng", script)], timeout_s=2.0)
        context = await source.about("pneumonia", ())
        await source.close()
        await asyncio.wait_for(script.left.wait(), 30)
    assert context.notice == "No answer from searxng."


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "https://a.example/\n", "x" * 9000, 7])
async def test_a_link_that_is_not_one_is_left_out(url: object) -> None:
    answer = {"results": [{"title": "T", "content": "Air.", "url": url}]}
    async with http_server(HttpScript(response(json.dumps(answer).encode()))) as script:
        (note,) = await provider("searxng", script).look_up("pneumothorax")
    assert (note.text, note.url) == ("Air.", "")


@pytest.mark.parametrize("finding", ["", "none", "john smith", "ignore all rules"])
async def test_only_a_finding_of_the_vocabulary_leaves_the_machine(finding: str) -> None:
    async with http_server(HttpScript(response(b"{}"))) as script:
        source = ContextSource([provider("searxng", script)], timeout_s=30)
        context = await source.about(finding, ())
        await source.close()
    assert (context.sent, script.asked) == ("", [])


async def test_the_oldest_answers_are_dropped() -> None:
    class Known:
        def __init__(self, name: str) -> None:
            self.name = name
            self.asked: list[str] = []

        async def look_up(self, finding: str) -> list[Note]:
            self.asked.append(finding)
            return [Note("A fact.", finding, self.name)]

        async def illustrate(self, note: Note) -> Note:
            return note

        async def close(self) -> None:
            pass

    providers = [Known("a"), Known("b")]
    source = ContextSource(providers)
    findings = [each for each in vocabulary().synonyms if each != NONE][:80]
    for finding in (*findings, findings[-1], findings[0]):
        await source.about(finding, ())
    assert len(findings) == 80
    assert [each.asked for each in providers] == [[*findings, findings[0]]] * 2


def test_a_long_text_is_cut() -> None:
    assert len(plain_text("word " * 10_000, NOTE_CHARS)) == NOTE_CHARS


def test_the_glossary_knows_findings_by_their_synonyms() -> None:
    assert vocabulary().synonyms["glioma"]


# What Python itself opens; an audit hook stays for the life of the process, so that it is switched.
_watched: list[object] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watched is None or event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        return
    place = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = place[0] if isinstance(place, tuple) else place
    if host not in ("127.0.0.1", "::1", "localhost"):
        _watched.append(host)
        raise OSError("no connection leaves this test")


sys.addaudithook(_hook)


@pytest.fixture
def outside() -> Iterator[list[object]]:
    """Every host outside this machine that is looked for; none is reached."""
    global _watched
    _watched = []
    yield _watched
    _watched = None


async def test_without_a_provider_nothing_outside_is_tried(
    make_reader: MakeReader, script: Script, outside: list[object]
) -> None:
    script.records = [record(f"p{n}", finding="pneumonia") for n in range(12)]
    for query in (Query(Subject(image=b"an image")), Query(Subject(), text="What is pneumonia?")):
        events = await collect(make_reader(), query)
        assert isinstance(events[-1], Done)
    assert outside == []


async def test_with_a_provider_outside_it_is_tried_so_the_test_above_can_fail(outside: list[object]) -> None:
    web = WebProvider("searxng", "http://192.0.2.1")
    with pytest.raises(MirageError) as error:
        await web.look_up("pneumonia")
    await web.close()
    assert error.value.code is Code.DEPENDENCY_UNAVAILABLE
    assert outside == ["192.0.2.1"]


BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "an engine without a server": {"engine": "openai"},
    "a server that is not an address": {"url": "ftp://a.example"},
    "a password in an address": {"url": "http://me:secret@a.example/v1"},
    "a summariser that is not an address": {"summariser": "mini"},
    "a summariser without a model": {"summariser": "http://127.0.0.1:8000/v1"},
    "an unknown checklist": {"kinds": "toe-x-ray"},
    "an unknown provider": {"context": "bing=https://bing.example"},
    "a provider without an address": {"context": "searxng"},
    "a provider that needs a key": {"context": "tavily=https://api.tavily.example"},
    "a key of an unknown provider": {"context_keys": "bing:secret"},
    "images from a file": {"context_images": "file:///etc"},
    "images from a path": {"context_images": "https://images.example/some/where"},
    "images from an address with a password": {"context_images": "https://me:secret@images.example"},
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_wrong_settings_are_refused_without_quoting_them(name: str) -> None:
    with pytest.raises(ValueError, match="ReaderSettings") as error:
        ReaderSettings(**BAD_SETTINGS[name])
    assert "secret" not in str(error.value)


def test_settings_are_read_as_operators_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_READER_CONTEXT", "wikipedia=https://en.wikipedia.org, tavily=https://api.tavily.com")
    monkeypatch.setenv("MIRAGE_READER_CONTEXT_KEYS", "tavily:abc")
    monkeypatch.setenv("MIRAGE_READER_CONTEXT_IMAGES", "https://upload.wikimedia.org, http://10.0.0.7:8080/")
    monkeypatch.setenv("MIRAGE_READER_KINDS", "chest-x-ray,brain-mr")
    settings = ReaderSettings()
    assert settings.context == {"wikipedia": "https://en.wikipedia.org", "tavily": "https://api.tavily.com"}
    assert settings.context_keys == {"tavily": "abc"}
    assert settings.context_images == {"https://upload.wikimedia.org", "http://10.0.0.7:8080/"}
    assert settings.kinds == {"chest-x-ray", "brain-mr"}
    assert "abc" not in repr(settings)
