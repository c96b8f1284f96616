"""Context providers outside, by an address that the operator sets. Each gets the name of a finding and nothing else.

Their answers are data from strangers: bounded, without markup, on one line, with links of http and https alone. Images
come only from the address of the provider itself and from origins that the operator names.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, NamedTuple

import httpx

from mirage_core.errors import Code, MirageError
from mirage_reader.context import NOTE_CHARS, ImageLink, Note
from mirage_reader.http import Server, origin

NOTES = 3
_TITLE_CHARS = 200
_URL_CHARS = 500
_CREDIT_CHARS = 100
_IMAGE_URL_CHARS = 2000
# A size that Wikimedia has ready, and a little more than what is shown.
_WIKI_PIXELS = 330


class WebProvider:
    """A provider of one of `KINDS` at an address. `key` is needed by SerpAPI and Tavily.

    `thumbnail` makes a small JPEG of a file; without it no image is fetched. Images may be at the provider's own origin and
    at `image_origins`.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        key: str = "",
        timeout_s: float = 3.0,
        thumbnail: Callable[[bytes], Awaitable[bytes]] | None = None,
        image_origins: Collection[str] = (),
    ) -> None:
        self.name = name
        self._look_up = KINDS[name]
        self._key = key
        self._thumbnail = thumbnail
        self._url = httpx.URL(url)
        self._origins = {origin(httpx.URL(each)) for each in (url, *image_origins)}
        # Without the key.
        self._images = Server(f"images of {name}", "", timeout_s=timeout_s)
        self._server = Server(name, url, timeout_s=timeout_s)
        if key and name == "tavily":
            self._server = Server(name, url, timeout_s=timeout_s, headers={"authorization": f"Bearer {key}"})

    async def look_up(self, finding: str) -> Sequence[Note]:
        """See `ContextProvider`."""
        try:
            found = await self._look_up(self._server, finding, self._key)
            notes = [_note(self.name, each) for each in found[:NOTES]]
        except (KeyError, TypeError, AttributeError, IndexError):
            # Not an answer of this kind of server.
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service=self.name) from None
        return [note for note in notes if note.text]

    async def illustrate(self, note: Note) -> Note:
        """See `ContextProvider`."""
        url = self._allowed(note.link.url) if note.link else None
        if note.link is None or url is None or self._thumbnail is None:
            return note
        # A wiki's image is shown only if the wiki says who made it, or that it does not know.
        credit = _file_credit(self._server, note.link.file) if note.link.file else _given(note.image_credit)
        stated, file = await asyncio.gather(credit, self._images.get_image(url))
        return replace(note, image=await self._thumbnail(file), image_credit=stated)

    async def close(self) -> None:
        """Closes the connections."""
        await self._images.close()
        await self._server.close()

    def _allowed(self, link: str) -> httpx.URL | None:
        try:
            url = self._url.join(link)
        except httpx.InvalidURL:
            return None
        # A name and password in an address would be sent.
        return url if origin(url) in self._origins and not url.userinfo else None


class _Found(NamedTuple):
    """The content of a provider's answer, unchecked. `file` is the name of the image's file at a wiki."""

    title: Any
    text: Any
    url: Any
    licence: Any = ""
    image: Any = ""
    image_credit: Any = ""
    file: Any = ""


async def _wikipedia(server: Server, finding: str, _key: str) -> list[_Found]:
    # https://www.mediawiki.org/wiki/API:Main_page
    answer = await server.get_json(
        "/w/api.php",
        {
            **{"action": "query", "format": "json", "formatversion": "2", "redirects": "1"},
            **{"generator": "search", "gsrsearch": finding, "gsrlimit": str(NOTES)},
            **{"prop": "extracts|info|pageimages", "inprop": "url"},
            **{"exintro": "1", "explaintext": "1", "exlimit": str(NOTES)},
            **{"piprop": "thumbnail|name", "pithumbsize": str(_WIKI_PIXELS), "pilimit": str(NOTES)},
            **{"meta": "siteinfo", "siprop": "rightsinfo"},
        },
    )
    query = answer.get("query", {})
    licence = query.get("rightsinfo", {}).get("text", "")
    pages = sorted(query.get("pages", []), key=lambda page: int(page.get("index", 0)))
    return [
        _Found(
            *(page["title"], page.get("extract", ""), page.get("fullurl", ""), licence),
            image=page.get("thumbnail", {}).get("source", "") if page.get("pageimage") else "",
            file=page.get("pageimage", ""),
        )
        for page in pages
    ]


async def _file_credit(server: Server, file: str) -> str:
    """Returns author and licence of a wiki's file, empty if the wiki does not state them; raises MirageError."""
    answer = await server.get_json(
        "/w/api.php",
        {
            **{"action": "query", "format": "json", "formatversion": "2", "titles": f"File:{file}"},
            **{"prop": "imageinfo", "iiprop": "extmetadata", "iiextmetadatafilter": "Artist|LicenseShortName"},
        },
    )
    try:
        stated = answer["query"]["pages"][0]["imageinfo"][0].get("extmetadata") or {}
        parts = [
            plain_text(stated.get(each, {}).get("value"), _CREDIT_CHARS) for each in ("Artist", "LicenseShortName")
        ]
    except (KeyError, TypeError, AttributeError, IndexError):
        raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="wikipedia") from None
    return ", ".join(filter(None, parts))


async def _given(text: str) -> str:
    return text


async def _searxng(server: Server, finding: str, _key: str) -> list[_Found]:
    # https://docs.searxng.org/dev/search_api.html
    answer = await server.get_json("/search", {"q": finding, "format": "json"})
    return [
        _Found(each["title"], each.get("content", ""), each["url"], image=each.get("thumbnail"))
        for each in answer["results"]
    ]


async def _serpapi(server: Server, finding: str, key: str) -> list[_Found]:
    # https://serpapi.com/search-api
    answer = await server.get_json("/search.json", {"engine": "google", "q": finding, "api_key": key})
    return [
        _Found(each["title"], each.get("snippet", ""), each["link"], image=each.get("thumbnail"))
        for each in answer["organic_results"]
    ]


async def _tavily(server: Server, finding: str, _key: str) -> list[_Found]:
    # https://docs.tavily.com/documentation/api-reference/endpoint/search
    answer = await server.post_json("/search", {"query": finding, "max_results": NOTES})
    return [_Found(each["title"], each.get("content", ""), each["url"]) for each in answer["results"]]


async def _openi(server: Server, finding: str, _key: str) -> list[_Found]:
    # https://openi.nlm.nih.gov/services
    answer = await server.get_json("/api/search", {"query": finding, "m": "1", "n": str(NOTES)})
    return [
        _Found(
            *(each["title"], each["image"].get("caption", ""), each.get("pmc_url", ""), each.get("licenseType", "")),
            image=each.get("imgLarge") or each.get("imgThumb"),
            image_credit=each.get("licenseType", ""),
        )
        for each in answer["list"]
    ]


KINDS: Mapping[str, Callable[[Server, str, str], Any]] = {
    "wikipedia": _wikipedia,
    "searxng": _searxng,
    "serpapi": _serpapi,
    "tavily": _tavily,
    "openi": _openi,
}
KEYED = frozenset({"serpapi", "tavily"})


class _Text(HTMLParser):
    """The text of a piece of HTML, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def plain_text(text: object, most: int) -> str:
    """Returns a text without markup, on one line, with at most `most` characters; empty for what is not a text."""
    if not isinstance(text, str):
        return ""
    parser = _Text()
    parser.feed(text[: 20 * most])
    parser.close()
    shown = "".join(char if char.isprintable() else " " for char in " ".join(parser.parts))
    line = " ".join(shown.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def _note(provider: str, found: _Found) -> Note:
    page, image, file = (
        _line(found.url, _URL_CHARS),
        _line(found.image, _IMAGE_URL_CHARS),
        _line(found.file, _URL_CHARS),
    )
    return Note(
        plain_text(found.text, NOTE_CHARS),
        plain_text(found.title, _TITLE_CHARS),
        provider,
        page if page.startswith(("https://", "http://")) else "",
        plain_text(found.licence, _TITLE_CHARS),
        image_credit=plain_text(found.image_credit, _TITLE_CHARS),
        link=ImageLink(image, file) if image else None,
    )


def _line(text: object, most: int) -> str:
    return text if isinstance(text, str) and len(text) <= most and text.isprintable() else ""
