"""Addresses of Qdrant servers, as the retriever's settings and `mirage up` take them."""

from collections.abc import Sequence
from urllib.parse import urlsplit

HTTP_PORT = 6333


def read_urls(text: str) -> list[str]:
    """The addresses in a list separated by commas, each `http(s)://host:port`; raises ValueError for anything else."""
    urls = []
    for given in filter(None, (part.strip() for part in text.split(","))):
        try:
            urls.append(_read_url(given if "://" in given else f"http://{given}"))
        except ValueError:
            # The part before an @ may contain a password.
            shown = given if "@" not in given else "one with @"
            raise ValueError(f"not the address of a Qdrant server, such as http://localhost:6333: {shown}") from None
    if not urls:
        raise ValueError("no address of a Qdrant server")
    return list(dict.fromkeys(urls))


def _read_url(url: str) -> str:
    parts = urlsplit(url)
    more = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(more):
        raise ValueError
    return f"{parts.scheme}://{in_url(parts.hostname)}:{parts.port or HTTP_PORT}"


def read_ports(text: str, urls: Sequence[str]) -> list[int]:
    """The gRPC port of each address: one for all, one for each, or if none is given the HTTP port plus one."""
    ports = [int(port) for port in filter(None, (part.strip() for part in text.split(",")))]
    if not ports:
        ports = [(urlsplit(url).port or HTTP_PORT) + 1 for url in urls]
    if len(ports) == 1:
        ports *= len(urls)
    if len(ports) != len(urls) or not all(1 <= port <= 65535 for port in ports):
        raise ValueError("expected one gRPC port from 1 to 65535 for all addresses, or one for each")
    return ports


def in_url(host: str) -> str:
    """The host as an address holds it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
