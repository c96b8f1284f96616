"""Files of another host over HTTPS: whole and resumable, or read here and there by ranges."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

_BLOCK_BYTES = 2**20
_BLOCKS = 16
_REDIRECTS = 5
_TRIES = 4
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a file, the bytes that are there and the bytes in all (None if not known)."""


class FetchError(RuntimeError):
    """A dataset that cannot be fetched: the message names the file and the reason."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch. `digest` is `md5:...` or `sha256:...` as its host publishes it, empty if the host publishes none."""

    name: str
    url: str
    digest: str = ""


class Host:
    """Requests to the hosts of one dataset and to no other: a redirect elsewhere is refused, and so is plain HTTP."""

    def __init__(self, allowed: frozenset[str], *, insecure: bool = False) -> None:
        """`insecure` allows plain HTTP, for a server on this machine in tests."""
        self._allowed = allowed
        self._schemes = ("https", "http") if insecure else ("https",)
        self._client = httpx.Client(timeout=_TIMEOUT, follow_redirects=False)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def get(self, url: str, *, start: int = 0, end: int | None = None) -> httpx.Response:
        """Returns an open response whose body begins at `start`; raises FetchError. The caller closes it."""
        ranged = {"range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        for _ in range(_REDIRECTS):
            self._check(url)
            request = self._client.build_request("GET", url, headers={"accept-encoding": "identity", **ranged})
            try:
                response = self._client.send(request, stream=True)
            except httpx.HTTPError as error:
                raise FetchError(f"{_named(url)} cannot be reached ({type(error).__name__})") from None
            if not response.is_redirect:
                return self._checked(response, url, ranged=bool(ranged))
            response.close()
            url = urljoin(url, response.headers["location"])
        raise FetchError(f"{_named(url)}: too many redirects")

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in self._schemes or parts.hostname not in self._allowed:
            raise FetchError(f"{_named(url)} is not a host of this dataset")

    @staticmethod
    def _checked(response: httpx.Response, url: str, *, ranged: bool) -> httpx.Response:
        expected = 206 if ranged else 200
        if response.status_code == expected:
            return response
        response.close()
        raise FetchError(f"{_named(url)} answered {response.status_code}")


def download(host: Host, file: RemoteFile, folder: Path, progress: Progress) -> Path:
    """Fetches a file whole, or what is missing of it, and returns its path; raises FetchError.

    It is `NAME.part` until its digest was compared. A connection that ends early is opened again where it ended.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.exists():
        return target
    for _ in range(_TRIES):
        with suppress(httpx.HTTPError):
            if _append(host, file, part, progress):
                break
    else:
        raise FetchError(f"{file.name}: the connection ended {_TRIES} times; run the command again to go on")
    _check_digest(part, file)
    os.replace(part, target)
    return target


def _append(host: Host, file: RemoteFile, part: Path, progress: Progress) -> bool:
    """Adds what is missing to a part; True if it is whole."""
    have = part.stat().st_size if part.exists() else 0
    try:
        response = host.get(file.url, start=have)
    except FetchError:
        if not have:
            raise
        # A host that does not resume, or a part that is longer than the file: from the start.
        part.unlink()
        have, response = 0, host.get(file.url)
    try:
        length = response.headers.get("content-length", "")
        total = have + int(length) if length.isdigit() else None
        with part.open("ab") as out:
            for chunk in response.iter_raw():
                out.write(chunk)
                have += len(chunk)
                progress(file.name, have, total)
    finally:
        response.close()
    return total is None or have == total


def _check_digest(part: Path, file: RemoteFile) -> None:
    kind, _, expected = file.digest.partition(":")
    if not expected:
        return
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found != expected:
        part.unlink()
        raise FetchError(f"{file.name} differs from the {kind} that its host publishes: it was removed")


class RangeFile(io.RawIOBase):
    """A remote file that is read by ranges, such as a ZIP of which a few members are wanted; raises FetchError."""

    def __init__(self, host: Host, url: str) -> None:
        self._host = host
        self._url = url
        self._place = 0
        self._blocks: dict[int, bytes] = {}
        response = host.get(url, start=0, end=1)
        response.close()
        total = response.headers.get("content-range", "").rpartition("/")[2]
        if not total.isdigit():
            raise FetchError(f"{_named(url)} does not say how long it is")
        self._length = int(total)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a place and returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        self._place = min(max(0, base + offset), self._length)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes, all to the end if it is negative."""
        end = self._length if size is None or size < 0 else min(self._length, self._place + size)
        pieces = []
        while self._place < end:
            number, inside = divmod(self._place, _BLOCK_BYTES)
            piece = self._block(number)[inside : inside + end - self._place]
            if not piece:
                raise FetchError(f"{_named(self._url)} ended early")
            pieces.append(piece)
            self._place += len(piece)
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * _BLOCK_BYTES
            end = min(self._length, start + _BLOCK_BYTES)
            while len(self._blocks) >= _BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            response = self._host.get(self._url, start=start, end=end)
            try:
                self._blocks[number] = b"".join(_bounded(response.iter_bytes(), end - start))
            except httpx.HTTPError as error:
                raise FetchError(f"{_named(self._url)} cannot be read ({type(error).__name__})") from None
            finally:
                response.close()
        return self._blocks[number]


def _bounded(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:most]
        most -= len(chunk)
        if most <= 0:
            return


def _named(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}{parts.path}"
