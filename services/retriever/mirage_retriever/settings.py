"""Settings of the retriever, from MIRAGE_RETRIEVER_* variables."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator

from mirage_core.addresses import read_ports, read_urls
from mirage_core.settings import Secret, ServiceSettings, service_config
from mirage_retriever.match import Thresholds
from mirage_retriever.words.synonyms import LANGUAGES


class RetrieverSettings(ServiceSettings):
    """Retriever settings."""

    model_config = service_config("MIRAGE_RETRIEVER_")

    port: int = Field(50052, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    data: Path = Field(
        Path("data/retriever"), description="Directory of images, flags and, with the edge engine, of the vectors."
    )
    encoder: str = Field("127.0.0.1:50051", description="Address of the encoder.")
    encoder_timeout_s: float = Field(30.0, gt=0, description="Seconds that one text or image may take to encode.")
    collection: str = Field("atlas", pattern=r"[A-Za-z0-9_-]{1,64}", description="Name of the collection.")
    engine: Literal["edge", "qdrant"] = Field("edge", description="edge: embedded; qdrant: a server.")
    qdrant_url: str = Field(
        "http://127.0.0.1:6333",
        description="HTTP address of the Qdrant server, with https for TLS; those of several nodes of one cluster are "
        "separated by commas.",
    )
    qdrant_grpc_port: str = Field(
        "",
        pattern=r"(\d{1,5}(,\d{1,5})*)?",
        description="gRPC port of the Qdrant server: one for all addresses, or one for each, separated by commas. If "
        "omitted, the HTTP port plus one.",
    )
    qdrant_key: Annotated[SecretStr, Secret()] = Field(SecretStr(""), description="API key of the Qdrant server.")
    qdrant_ca_file: FilePath | None = Field(
        None, description="PEM file of the certificates to trust for the Qdrant server; if omitted, the system's."
    )
    qdrant_timeout_s: float = Field(
        5.0, gt=0, description="Longest time in seconds that one read of the Qdrant server may take."
    )
    qdrant_replicas: int = Field(1, ge=1, description="Replicas of each shard on a Qdrant cluster.")
    shards: int = Field(
        1, ge=1, le=64, description="Shards of a new collection; with the edge engine a searcher process each."
    )
    hnsw_m: int = Field(16, ge=4, le=128, description="Edges a node of the HNSW graph.")
    hnsw_ef_construct: int = Field(100, ge=8, le=1024, description="Candidates looked at when the graph is built.")
    hnsw_ef: int = Field(64, ge=8, le=2048, description="Candidates looked at in a search.")
    indexing_threshold_kb: int = Field(
        10_000, ge=100, description="Size of one space's vectors from which a graph is built; below, search is exact."
    )
    build_threads: int = Field(
        0, ge=0, description="Threads that build the graph; 0: all processors but one, both of two."
    )
    build_quiet_s: float = Field(2.0, ge=0, description="Seconds without a write before a graph is built.")
    build_share: float = Field(
        0.1, gt=0, le=1, description="Share of records outside the graph that makes building it again worth while."
    )
    build_points: int = Field(50_000, ge=1_000, description="Writes after which a build starts, quiet or not.")
    search_queue: int = Field(256, ge=1, description="Calls that may wait for a searcher before QUEUE_FULL.")
    searcher_wait_s: float = Field(5.0, gt=0, description="Seconds that a call waits for a searcher that restarts.")
    searcher_hang_s: float = Field(
        2.0,
        ge=0.5,
        description="Seconds after which a searcher that owes an answer and does nothing is killed and started again; "
        "a builder after five times that.",
    )
    common_queries: Path | None = Field(
        None,
        description="File of queries, one a line, that are offered, and answered from a cache; if omitted, 50 that are "
        "typical of the collection: its commonest kinds of image, structures, findings and titles.",
    )
    common_queries_ttl_s: float = Field(
        60.0,
        gt=0,
        description="Seconds that such an answer is kept where the engine is a server, which others write to.",
    )
    languages: str = Field(
        "en",
        pattern=r"[a-z]{2}(,[a-z]{2})*",
        description=f"Languages of queries, separated by commas: whose synonyms are searched too ({', '.join(LANGUAGES)}).",
    )
    synonyms: Path | None = Field(
        None, description="File of more synonyms, a group a line with | between the terms; if omitted, only ours."
    )
    decoders: int = Field(0, ge=0, le=64, description="Child processes that clean images; 0: one for each processor.")
    decoder_memory_mb: int = Field(448, ge=64, description="MiB that cleaning one image may take.")
    decoder_budget_mb: int = Field(
        448, ge=64, description="MiB that cleaning all images that are in work may take; others wait."
    )
    decoder_timeout_s: float = Field(30.0, gt=0, description="Seconds that cleaning one image may take.")
    upload_memory_mb: int = Field(
        128,
        ge=32,
        description="MiB that all images which are being uploaded may take in memory; more of them wait, at most 30 s.",
    )
    match_text: str = Field(
        "", pattern=r"(-?[\d.]+,-?[\d.]+)?", description="good,weak cosines instead of those measured."
    )
    match_image: str = Field("", pattern=r"(-?[\d.]+,-?[\d.]+)?", description="The same for image queries.")
    match_arithmetic: str = Field("", pattern=r"(-?[\d.]+,-?[\d.]+)?", description="The same for sums of terms.")

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        self.qdrant_addresses()
        return self

    def qdrant_addresses(self) -> tuple[list[str], list[int]]:
        """Address and gRPC port of each node; raises ValueError."""
        urls = read_urls(self.qdrant_url)
        return urls, read_ports(self.qdrant_grpc_port, urls)

    def match_overrides(self) -> dict[str, Thresholds]:
        """The thresholds that were set; raises ValueError where `weak` is above `good`."""
        found: dict[str, Thresholds] = {}
        for kind, text in (
            ("text", self.match_text),
            ("image", self.match_image),
            ("arithmetic", self.match_arithmetic),
        ):
            if text:
                good, weak = map(float, text.split(","))
                if not -1 <= weak <= good <= 1:
                    raise ValueError(f"match_{kind}: expected good,weak with 1 >= good >= weak >= -1")
                found[kind] = Thresholds(good, weak)
        return found
