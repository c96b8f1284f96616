"""Images of context providers: from where they are fetched, and what reaches a reader of them."""

import asyncio
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from mirage_protos.reader.v1 import reader_pb2
from mirage_protos.v1 import reading_pb2
from mirage_reader.context import ContextSource, Note
from mirage_reader.decoding import small_jpeg
from mirage_reader.http import IMAGE_BYTES
from mirage_reader.providers import KEYED, WebProvider
from tests.support import image_bombs

from .conftest import Script
from .scripted_http import HttpScript, http_server, response
from .test_service import reader

NAME = "PLANTED^NAME"
KEY = "secret-key-of-a-provider"
FILE = "Pneumothorax_CT.jpg"


def photo() -> bytes:
    """A JPEG of 800 x 600 pixels with a name in its EXIF data and in a comment."""
    exif = Image.Exif()
    exif[0x013B] = NAME  # artist
    file = io.BytesIO()
    Image.radial_gradient("L").resize((800, 600)).save(file, "JPEG", exif=exif, comment=NAME.encode())
    return file.getvalue()


PHOTO = response(photo(), "image/jpeg")


def answer(provider: str, image: object) -> Any:
    """What a provider answers whose note has an image at this address."""
    page = {
        "title": "T",
        "content": "Air.",
        "snippet": "Air.",
        "url": "https://a.example/T",
        "link": "https://a.example/T",
    }
    shown = {"extract": "Air.", "fullurl": "https://a.example/T", "thumbnail": {"source": image}, "pageimage": FILE}
    return {
        "wikipedia": {"query": {"rightsinfo": {"text": "CC0"}, "pages": [{"title": "T", "index": 1, **shown}]}},
        "searxng": {"results": [{**page, "thumbnail": image}]},
        "serpapi": {"organic_results": [{**page, "thumbnail": image}]},
        "openi": {"list": [{"title": "T", "image": {"caption": "Air."}, "licenseType": "by", "imgLarge": image}]},
    }[provider]


PATHS = {"wikipedia": "/w/api.php", "searxng": "/search", "serpapi": "/search.json", "openi": "/api/search"}
CREDIT = {"Artist": {"value": "<a href=x>A. Author</a>"}, "LicenseShortName": {"value": "CC BY 4.0"}}


def script_of(provider: str, image: object, file: bytes = PHOTO, **more: Any) -> HttpScript:
    """A provider whose note has an image; what is not its search is answered with `file`."""
    return HttpScript(file, {PATHS[provider]: response(json.dumps(answer(provider, image)).encode())}, **more)


async def note_of(name: str, url: str, *, image_origins: Sequence[str] = (), timeout_s: float = 30) -> Note:
    """The provider's only note, as a reader of it gets it."""

    async def thumbnail(file: bytes) -> bytes:
        return small_jpeg(file, 320)

    web = WebProvider(
        *(name, url),
        key=KEY if name in KEYED else "",
        timeout_s=30,
        thumbnail=thumbnail,
        image_origins=image_origins,
    )
    source = ContextSource([web], timeout_s=timeout_s)
    context = await source.about("pneumothorax", ["x-ray"])
    await source.close()
    assert context.notice == ""
    (note,) = (each for each in context.notes if each.provider == name)
    return note


def paths(script: HttpScript) -> list[str]:
    return [each.line.split()[1].partition("?")[0] for each in script.asked]


@pytest.mark.parametrize("name", ["searxng", "serpapi", "openi"])
async def test_an_image_is_fetched_without_a_key_and_written_again(name: str) -> None:
    async with http_server(script_of(name, "/images/1.jpg")) as script:
        note = await note_of(name, script.url)
    assert paths(script) == [PATHS[name], "/images/1.jpg"]
    asked = script.asked[1]
    assert KEY not in asked.line + str(asked.headers)
    assert "authorization" not in asked.headers
    # Nothing but the finding is sent, and the address that the provider named.
    assert "x-ray" not in "".join(each.line + each.body.decode() for each in script.asked)
    with Image.open(io.BytesIO(note.image)) as image:
        assert (image.format, image.size, dict(image.getexif())) == ("JPEG", (320, 240), {})
    assert NAME.encode() in photo()
    assert NAME.encode() not in note.image
    assert note.image_credit == ("by" if name == "openi" else "")


async def test_an_image_of_a_wiki_has_its_own_author_and_licence() -> None:
    async with http_server(HttpScript(PHOTO)) as images:
        pages = answer("wikipedia", f"{images.url}/thumb/330px.jpg")
        # One answer for both questions, of which each looks at its own part.
        pages["query"]["pages"][0]["imageinfo"] = [{"extmetadata": CREDIT}]
        async with http_server(HttpScript(response(json.dumps(pages).encode()))) as wiki:
            note = await note_of("wikipedia", wiki.url, image_origins=[images.url])
    assert (note.licence, note.image_credit) == ("CC0", "A. Author, CC BY 4.0")
    assert note.image
    assert paths(images) == ["/thumb/330px.jpg"]
    assert paths(wiki) == ["/w/api.php", "/w/api.php"]
    assert FILE in wiki.asked[1].line


async def test_without_what_a_wiki_says_of_its_author_an_image_is_left_out() -> None:
    async with http_server(script_of("wikipedia", "/thumb/330px.jpg")) as script:
        note = await note_of("wikipedia", script.url)
    assert (note.text, note.image, note.image_credit) == ("Air.", b"", "")


def png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


FILES = {
    "HTML": response(b"<html>no</html>", "text/html"),
    "HTML called an image": response(b"<html>no</html>", "image/png"),
    "an SVG with a script": response(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "image/svg+xml"),
    "an error": response(photo(), "image/jpeg", status="404 Not Found"),
    "half a file": response(photo()[:2000], "image/jpeg"),
    "nothing": b"",
    "more bytes than it may": response(photo() + bytes(IMAGE_BYTES), "image/jpeg"),
    "a pixel that counts visits": response(png(1, 1), "image/png"),
}


@pytest.mark.parametrize("name", FILES)
async def test_what_is_not_a_small_image_is_left_out_and_the_note_stays(name: str) -> None:
    async with http_server(script_of("searxng", "/1.jpg", FILES[name])) as script:
        note = await note_of("searxng", script.url)
    assert paths(script) == ["/search", "/1.jpg"]
    assert (note.text, note.title, note.image) == ("Air.", "T", b"")


async def test_an_endless_image_is_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\nconnection: close\r\n\r\n"
    async with http_server(HttpScript(head + photo(), forever=lambda: bytes(2**16))) as images:
        async with http_server(script_of("searxng", f"{images.url}/1.jpg")) as script:
            note = await note_of("searxng", script.url, image_origins=[images.url])
        await asyncio.wait_for(images.left.wait(), 30)
    assert (note.text, note.image) == ("Air.", b"")


async def test_a_slow_image_costs_only_itself() -> None:
    async with http_server(script_of("searxng", "/1.jpg", b"", hold=asyncio.Event())) as script:
        note = await note_of("searxng", script.url, timeout_s=3)
    assert (note.text, note.image) == ("Air.", b"")


async def test_redirects_of_images_are_not_followed() -> None:
    async with http_server(HttpScript(PHOTO)) as loopback:
        away = response(b"", "image/jpeg", status="302 Found", location=f"{loopback.url}/admin")
        async with http_server(script_of("searxng", "/1.jpg", away)) as script:
            note = await note_of("searxng", script.url, image_origins=[loopback.url])
    assert (note.text, note.image, loopback.asked) == ("Air.", b"", [])
    assert paths(script) == ["/search", "/1.jpg"]


async def test_an_image_of_another_origin_is_not_asked_for() -> None:
    async with http_server(HttpScript(PHOTO)) as other:
        port = other.url.rpartition(":")[2]
        for address in (
            f"{other.url}/1.jpg",
            f"//127.0.0.1:{port}/1.jpg",
            f"http://localhost:{port}/1.jpg",
            f"http://[::ffff:127.0.0.1]:{port}/1.jpg",
        ):
            async with http_server(script_of("searxng", address)) as script:
                note = await note_of("searxng", script.url)
            assert (note.text, note.image, paths(script)) == ("Air.", b"", ["/search"])
    assert other.asked == []


STRANGE = [
    "",
    7,
    None,
    ["/1.jpg"],
    "data:image/png;base64,AA",
    "file:///etc/passwd",
    "http://[::1/",
    "/\n1.jpg",
    "/" * 9000,
]


@pytest.mark.parametrize("address", STRANGE)
async def test_what_is_not_an_address_is_not_asked_for(address: object) -> None:
    async with http_server(script_of("searxng", address)) as script:
        note = await note_of("searxng", script.url)
    assert (note.text, note.image, paths(script)) == ("Air.", b"", ["/search"])


async def test_a_name_and_password_in_an_address_are_not_sent() -> None:
    script = HttpScript(PHOTO)
    async with http_server(script):
        address = script.url.replace("http://", "http://me:secret@") + "/1.jpg"
        script.routes = {"/search": response(json.dumps(answer("searxng", address)).encode())}
        note = await note_of("searxng", script.url)
    assert (note.image, paths(script)) == (b"", ["/search"])


async def test_the_service_decodes_images_in_a_child_and_leaves_bombs_out(peers: str, script: Script) -> None:
    files = {
        "/imgs/good.jpg": PHOTO,
        "/imgs/pixels.png": response(png(10_000, 10_000), "image/png"),
        "/imgs/scans.jpg": response(image_bombs.jpeg_repeated_scans(), "image/jpeg"),
    }
    found = {"list": [answer("openi", path)["list"][0] for path in files]}
    provider = HttpScript(routes={"/api/search": response(json.dumps(found).encode()), **files})
    async with http_server(provider):
        settings = {"CONTEXT": f"openi={provider.url}", "CONTEXT_TIMEOUT_S": "30"}
        async with reader(peers, **settings) as stub:
            query = reader_pb2.ReadRequest(query=reading_pb2.ReadQuery(text="What is a pneumothorax?"))
            events = [event async for event in stub.Read(query, timeout=60)]
    assert sorted(paths(provider)) == ["/api/search", *files]
    context = next(event.context for event in events if event.HasField("context"))
    notes = [each for each in context.notes if each.provider == "openi"]
    assert [(each.text, bool(each.image)) for each in notes] == [("Air.", True), ("Air.", False), ("Air.", False)]
    with Image.open(io.BytesIO(notes[0].image)) as image:
        assert (image.format, max(image.size)) == ("JPEG", 320)
    assert (notes[0].image_credit, context.sent) == ("by", "pneumothorax")
