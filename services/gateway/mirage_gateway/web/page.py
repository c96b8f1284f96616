"""The page: files of this package, read once. A path is looked up among them and never opened."""

import gzip
import hashlib
import html
from collections.abc import Awaitable, Callable
from importlib import resources
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import record_pb2

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No script or style but the page's own files, nothing from another host, no inline code; images also from memory (blob:).
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# The script reads from the address what to show. All are one level below the root, or two as /i/ID and /rate/TOKEN.
VIEWS = ("/", "/compare", "/read", "/generated", "/quality", "/about", "/docs")
_PREVIEW_CHARS = 200


class _File:
    """A file of the page, compressed once, with its ETag. Names with a digest never change their content."""

    def __init__(self, name: str, content: bytes) -> None:
        self.content = content
        self._compressed = gzip.compress(content, 9, mtime=0)
        hashed = name.startswith(("app-", "first-"))
        self._headers = {
            "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            "cache-control": "public, max-age=31536000, immutable" if hashed else "no-cache",
            "content-type": _TYPES["." + name.rpartition(".")[2]],
            "content-security-policy": CONTENT_SECURITY_POLICY,
            "vary": "accept-encoding",
        }

    def response(self, request: Request, status: int = 200) -> Response:
        if request.headers.get("if-none-match") == self._headers["etag"] and status == 200:
            return Response(status_code=304, headers=self._headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self._compressed, status, {**self._headers, "content-encoding": "gzip"})
        return Response(self.content, status, self._headers)


class Page:
    """The files of the page. `read` gives the record that a link is previewed with; None if previews would say too much."""

    def __init__(self, read: Callable[[str], Awaitable[record_pb2.Record]] | None) -> None:
        self._read = read
        folder = resources.files("mirage_gateway").joinpath("page")
        self._files = {entry.name: _File(entry.name, entry.read_bytes()) for entry in folder.iterdir()}
        self._index = self._files["index.html"]
        self._below = self._index_at(1)

    def routes(self) -> list[Route]:
        """Returns the routes of the views, of one image, of a rater's sheet, and of `/page/<file>`."""
        views = [Route(path, self._view) for path in VIEWS]
        return [
            *views,
            Route("/i/{id}", self._image),
            Route("/rate/{token}", self._rate),
            Route("/page/{name}", self._file),
        ]

    async def lost(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an address that does not exist: a browser with the page, which leads back, others with ROUTE_NOT_FOUND."""
        if not asks_for_page(scope):
            raise MirageError(Code.ROUTE_NOT_FOUND)
        request = Request(scope, receive)
        # As it was sent: an escaped slash is not a level.
        level = scope.get("raw_path", scope["path"].encode()).count(b"/") - 1
        await self._index_at(level).response(request, 404)(scope, receive, send)

    def _index_at(self, level: int) -> _File:
        # As the views, some levels further down.
        return _File("index.html", self._index.content.replace(b'="page/', b'="' + b"../" * level + b"page/"))

    async def _view(self, request: Request) -> Response:
        return self._index.response(request)

    async def _rate(self, request: Request) -> Response:
        return self._below.response(request)

    async def _image(self, request: Request) -> Response:
        if self._read is None:
            return self._below.response(request)
        try:
            record = await self._read(request.path_params["id"])
        except MirageError as error:
            # The page says what is wrong.
            return self._below.response(request, error.entry.http if error.entry.http in (400, 404) else 200)
        head = b"<title>MIRAGE</title>"
        content = self._below.content.replace(head, head + _preview(request, record))
        return _File("index.html", content).response(request)

    async def _file(self, request: Request) -> Response:
        if request.path_params["name"] not in self._files:
            raise MirageError(Code.ROUTE_NOT_FOUND)
        return self._files[request.path_params["name"]].response(request)


def asks_for_page(scope: Scope) -> bool:
    """True for a browser that opens an address of the site; the API's are answered alike to everybody."""
    wants_html = "text/html" in Headers(scope=scope).get("accept", "")
    return wants_html and scope["method"] in ("GET", "HEAD") and not scope["path"].startswith(("/v1/", "/page/"))


def _preview(request: Request, record: record_pb2.Record) -> bytes:
    """Returns the Open Graph tags that other sites show a link with."""
    thumbnail = request.url.replace(path=f"/v1/images/{quote(record.id)}/thumbnail", query="")
    properties = {
        "og:site_name": "MIRAGE",
        "og:type": "website",
        "og:title": record.title or record.caption[:_PREVIEW_CHARS],
        "og:description": record.caption[:_PREVIEW_CHARS],
        "og:image": str(thumbnail),
    }
    tags = [
        f'\n  <meta property="{name}" content="{html.escape(value)}">' for name, value in properties.items() if value
    ]
    return "".join(tags).encode()
