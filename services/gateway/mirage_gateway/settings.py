"""Gateway settings."""

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from mirage_core.settings import ServiceSettings, is_loopback, service_config
from mirage_gateway.connections import Pace


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple):
        return tuple(str(part) for part in value)
    raise ValueError("expected names, separated by commas")


def _networks(value: object) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    if isinstance(value, str):
        value = _names(value)
    if not isinstance(value, list | tuple):
        raise ValueError("expected addresses or networks, separated by commas")
    try:
        return tuple(ipaddress.ip_network(str(each)) for each in value)
    except ValueError:
        raise ValueError("expected addresses such as 192.0.2.7 and networks such as 192.0.2.0/24") from None


def _is_foreign(name: str) -> bool:
    """True for a host name that could lead here from outside: `*`, and a name or address beyond this machine."""
    host = name.partition("]")[0].lstrip("[") if name.startswith("[") else name.partition(":")[0]
    if "." not in host and ":" not in host:
        return host == "*"
    return not (host.lower().endswith(".localhost") or is_loopback(host))


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Networks = Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode, BeforeValidator(_networks)]


class GatewaySettings(ServiceSettings):
    """The gateway's settings, from MIRAGE_GATEWAY_* variables."""

    model_config = service_config("MIRAGE_GATEWAY_")
    shares_fairly: ClassVar[bool] = True

    port: int = Field(8081, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    http_port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 picks a free one.")
    retriever: str = Field(
        "127.0.0.1:50052", description="The retriever: `host:port`, `unix:path` or `dns:///name:port`."
    )
    encoder: str = Field(
        "127.0.0.1:50051", description="The encoder, asked for its model, its health, and what an image seems to be."
    )
    llm: str = Field(
        "127.0.0.1:50053",
        description="The language model; empty for none. Without it explanations are made of sentences of the captions.",
    )
    generator: str = Field(
        "127.0.0.1:50054", description="The image generator; empty for none. Without it no image is made."
    )
    reader: str = Field("127.0.0.1:50055", description="The reader; empty for none. Without it no image is read.")
    progress_file: Path | None = Field(
        None, description="File with the progress of the demonstration atlas, which is reported with the collection."
    )
    search_timeout_s: float = Field(10.0, gt=0, le=300, description="Deadline of a search, comparison or similar.")
    read_timeout_s: float = Field(5.0, gt=0, le=300, description="Deadline of every other read.")
    describe_timeout_s: float = Field(
        120.0, gt=0, le=3600, description="Deadline of the language model, waiting for its turn included."
    )
    reading_timeout_s: float = Field(300.0, gt=0, le=3600, description="Deadline of a reading, step by step.")
    collection_timeout_s: float = Field(
        60.0, gt=0, le=600, description="Deadline of making, activating or removing a collection."
    )
    upsert_timeout_s: float = Field(
        300.0, gt=0, le=3600, description="Deadline of an upsert, from the end of its upload."
    )
    watch_retry_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long to keep restarting a broken watch of a job before returning an error, in seconds.",
    )
    max_calls: int = Field(
        256,
        ge=1,
        le=100_000,
        description="gRPC calls served at once, half of them of one client at most; one more gets QUEUE_FULL.",
    )
    max_watchers: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Watches of jobs over HTTP at once, in addition to `max_requests`; and as many watches and descriptions over "
        "gRPC, half of them of one client at most. One more gets QUEUE_FULL.",
    )
    message_memory_mb: int = Field(
        200,
        ge=128,
        le=1_000_000,
        description="MiB that gRPC messages may take while they arrive and are worked on, half of it for one client at most; one "
        "more gets QUEUE_FULL.",
    )
    max_watchers_per_client: int = Field(64, ge=1, le=100_000, description="The same of one address.")
    upload_gate: Literal["decline", "report", "off"] = Field(
        "decline",
        description="Image queries that seem to be no medical image: declined unless the caller insists, reported only, or "
        "not looked at.",
    )
    patience_s: float = Field(
        1.2, gt=0, le=60, description="After so long without an answer the parts are asked whether they live."
    )
    max_requests: int = Field(
        128, ge=1, le=10_000, description="HTTP requests served at once; one more waits a second, then gets QUEUE_FULL."
    )
    max_requests_per_client: int = Field(96, ge=1, le=10_000, description="The same of one address.")
    memory_mb: int = Field(
        192,
        ge=32,
        le=1_000_000,
        description="MiB that HTTP requests and answers may hold in memory together, two thirds of it for one address at most; "
        "one more waits 2 s for room, then gets QUEUE_FULL. An image in a search takes about four times its size in base64.",
    )
    max_connections: int = Field(
        1024,
        ge=16,
        le=60_000,
        description="Open HTTP connections. For one more, the one that has waited longest for its client is closed.",
    )
    max_connections_per_client: int = Field(
        256,
        ge=1,
        le=60_000,
        description="The same of one address (one /64 of IPv6); connections of trusted proxies are not counted by address.",
    )
    head_timeout_s: float = Field(
        10.0, gt=0, le=300, description="Time in which a request's head, and a TLS handshake, must be complete."
    )
    keep_alive_s: float = Field(30.0, gt=0, le=3600, description="How long a connection may wait for its next request.")
    least_bytes_per_s: float = Field(
        1024,
        ge=0,
        description="A client that sends a body, or takes an answer, more slowly than this is cut off.",
    )
    pace_window_s: float = Field(10.0, gt=0, le=300, description="Time over which that rate is measured.")
    body_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="Time in which a whole body must have arrived, however fast."
    )
    allowed_hosts: Names = Field(
        default_factory=tuple,
        description="The server's names other than localhost, as they are in the browser's address bar (`atlas.example`, "
        "`atlas.example:8443`), or `*`. Without keys, requests for other names are refused.",
    )
    trusted_proxies: Networks = Field(
        default_factory=tuple,
        description="Addresses and networks (CIDR) of the reverse proxies whose X-Forwarded-For, -Proto and -Host are believed.",
    )
    cors_origins: Names = Field(
        default_factory=tuple, description="Origins whose pages may call this server; none if empty."
    )

    public_read: bool = Field(
        False,
        validation_alias=AliasChoices("MIRAGE_PUBLIC_READ", "MIRAGE_GATEWAY_PUBLIC_READ", "public_read"),
        description="Serve reading, descriptions and images made by the generator over HTTP to callers without a key, within "
        "limits for each address. Needs TLS or a trusted proxy, except on loopback.",
    )
    public_requests_per_minute: int = Field(
        1200,
        ge=0,
        le=1_000_000,
        description="Requests of one address without a key. A page with results takes about 20. For this and the next three: "
        "half of it may come at once, all addresses together have ten times as much, and one more gets RATE_LIMITED.",
    )
    public_searches_per_minute: int = Field(
        120, ge=0, le=1_000_000, description="Searches, comparisons and classifications of one address without a key."
    )
    public_descriptions_per_minute: int = Field(
        12, ge=0, le=1_000_000, description="Descriptions and readings of one address without a key."
    )
    public_jobs_per_hour: int = Field(
        20, ge=0, le=1_000_000, description="Jobs of one address without a key, of one image each."
    )

    @property
    def asks_for_keys(self) -> bool:
        """True if a caller without a key may not do everything."""
        return bool(self.api_keys) or self.public_read

    @model_validator(mode="after")
    def _public_behind_tls(self) -> Self:
        if self.public_read and not (self.near or self.tls_files() or self.trusted_proxies):
            raise ValueError(
                "refusing to serve the public without TLS: set the certificate, or name the reverse proxy that ends TLS in "
                "MIRAGE_GATEWAY_TRUSTED_PROXIES"
            )
        return self

    @model_validator(mode="after")
    def _no_strangers_without_keys(self) -> Self:
        """Refuses foreign names and origins on a server without keys, which everybody who reaches it may change."""
        if self.asks_for_keys:
            return self
        foreign = [name for name in self.allowed_hosts if _is_foreign(name)]
        if foreign:
            raise ValueError(
                f"refusing to answer to {foreign[0]} without API keys: set MIRAGE_API_KEYS, or MIRAGE_PUBLIC_READ=true for a "
                "public atlas"
            )
        if "*" in self.cors_origins:
            raise ValueError(
                "refusing to let pages of all sites (CORS *) call a server without API keys: set MIRAGE_API_KEYS"
            )
        return self

    @property
    def pace(self) -> Pace:
        """The slowest rates that a client may have."""
        return Pace(self.head_timeout_s, self.keep_alive_s, self.least_bytes_per_s, self.pace_window_s)

    @model_validator(mode="after")
    def _an_internet_address(self) -> Self:
        if self.host.startswith("unix:"):
            raise ValueError("the gateway listens on an internet address, not on a unix socket")
        return self
