"""Context providers outside, by an address that the operator sets. Each gets the name of a finding and nothing else.

Their answers are data from strangers: bounded, without markup, on one line, with links of http and https alone.
"""

from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from mirage_core.errors import Code, MirageError
from mirage_reader.context import NOTE_CHARS, Note
from mirage_reader.http import Server

NOTES = 3
_TITLE_CHARS = 200
_URL_CHARS = 500


class WebProvider:
    """A provider of one of `KINDS` at an address. `key` is needed by SerpAPI and Tavily."""

    def __init__(self, name: str, url: str, *, key: str = "", timeout_s: float = 3.0) -> None:
        self.name = name
        self._look_up = KINDS[name]
        self._key = key
        self._server = Server(name, url, timeout_s=timeout_s)
        if key and name == "tavily":
            self._server = Server(name, url, timeout_s=timeout_s, headers={"authorization": f"Bearer {key}"})

    async def look_up(self, finding: str) -> Sequence[Note]:
        """See `ContextProvider`."""
        try:
            found = await self._look_up(self._server, finding, self._key)
            notes = [_note(self.name, *each) for each in found[:NOTES]]
        except (KeyError, TypeError, AttributeError, IndexError):
            # Not an answer of this kind of server.
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service=self.name) from None
        return [note for note in notes if note.text]

    async def close(self) -> None:
        """Closes the connections."""
        await self._server.close()


_Found = list[tuple[Any, Any, Any, Any]]


async def _wikipedia(server: Server, finding: str, _key: str) -> _Found:
    # https://www.mediawiki.org/wiki/API:Main_page
    answer = await server.get_json(
        "/w/api.php",
        {
            **{"action": "query", "format": "json", "formatversion": "2", "redirects": "1"},
            **{"generator": "search", "gsrsearch": finding, "gsrlimit": str(NOTES)},
            **{"prop": "extracts|info", "exintro": "1", "explaintext": "1", "exlimit": str(NOTES), "inprop": "url"},
            **{"meta": "siteinfo", "siprop": "rightsinfo"},
        },
    )
    query = answer.get("query", {})
    licence = query.get("rightsinfo", {}).get("text", "")
    pages = sorted(query.get("pages", []), key=lambda page: int(page.get("index", 0)))
    return [(page["title"], page.get("extract", ""), page.get("fullurl", ""), licence) for page in pages]


async def _searxng(server: Server, finding: str, _key: str) -> _Found:
    # https://docs.searxng.org/dev/search_api.html
    answer = await server.get_json("/search", {"q": finding, "format": "json"})
    return [(each["title"], each.get("content", ""), each["url"], "") for each in answer["results"]]


async def _serpapi(server: Server, finding: str, key: str) -> _Found:
    # https://serpapi.com/search-api
    answer = await server.get_json("/search.json", {"engine": "google", "q": finding, "api_key": key})
    return [(each["title"], each.get("snippet", ""), each["link"], "") for each in answer["organic_results"]]


async def _tavily(server: Server, finding: str, _key: str) -> _Found:
    # https://docs.tavily.com/documentation/api-reference/endpoint/search
    answer = await server.post_json("/search", {"query": finding, "max_results": NOTES})
    return [(each["title"], each.get("content", ""), each["url"], "") for each in answer["results"]]


async def _openi(server: Server, finding: str, _key: str) -> _Found:
    # https://openi.nlm.nih.gov/services
    answer = await server.get_json("/api/search", {"query": finding, "m": "1", "n": str(NOTES)})
    return [
        (each["title"], each["image"].get("caption", ""), each.get("pmc_url", ""), each.get("licenseType", ""))
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


def _note(provider: str, title: object, text: object, url: object, licence: object) -> Note:
    link = url if isinstance(url, str) and len(url) <= _URL_CHARS and url.isprintable() else ""
    return Note(
        plain_text(text, NOTE_CHARS),
        plain_text(title, _TITLE_CHARS),
        provider,
        link if link.startswith(("https://", "http://")) else "",
        plain_text(licence, _TITLE_CHARS),
    )
