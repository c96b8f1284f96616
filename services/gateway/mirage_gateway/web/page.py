"""The page: files of this package, read once. A path is looked up among them and never opened."""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mirage_core.errors import Code, MirageError

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


class Page:
    """The files of the page, each with its ETag."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, dict[str, str]]] = {}
        for entry in resources.files("mirage_gateway").joinpath("page").iterdir():
            suffix = "." + entry.name.rpartition(".")[2]
            if suffix in _TYPES:
                content = entry.read_bytes()
                headers = {
                    "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
                    "cache-control": "no-cache",
                    "content-type": _TYPES[suffix],
                    "content-security-policy": CONTENT_SECURITY_POLICY,
                }
                self._files[entry.name] = (content, headers)

    def routes(self) -> list[Route]:
        """`/`, `/docs` and `/page/<file>`."""
        return [Route("/", self._index), Route("/docs", self._docs), Route("/page/{name}", self._file)]

    async def _index(self, request: Request) -> Response:
        return self._answer(request, "index.html")

    async def _docs(self, request: Request) -> Response:
        return self._answer(request, "docs.html")

    async def _file(self, request: Request) -> Response:
        return self._answer(request, request.path_params["name"])

    def _answer(self, request: Request, name: str) -> Response:
        if name not in self._files:
            raise MirageError(Code.ROUTE_NOT_FOUND)
        content, headers = self._files[name]
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)
