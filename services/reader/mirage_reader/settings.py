"""Settings of the reader, from MIRAGE_READER_* variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from mirage_core.settings import Secret, ServiceSettings, service_config
from mirage_reader.checklists import checklists
from mirage_reader.providers import KEYED, KINDS

LLM = "llm"


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.username)
    except ValueError:
        return False


def _server(value: object) -> str:
    if not isinstance(value, str) or (value and not _is_server(value)):
        raise ValueError("expected an address such as http://127.0.0.1:8000/v1")
    return value


def _summariser(value: object) -> str:
    return LLM if value == LLM else _server(value)


def _kinds(value: object) -> frozenset[str]:
    names = _parts(value)
    known = {each.name for each in checklists()}
    if not set(names) <= known:
        raise ValueError(f"expected names of checklists, separated by commas: {', '.join(sorted(known))}")
    return frozenset(names)


def _providers(value: object) -> dict[str, str]:
    pairs = dict(value) if isinstance(value, Mapping) else dict(each.partition("=")[::2] for each in _parts(value))
    for name, url in pairs.items():
        if name not in KINDS or not _is_server(url):
            raise ValueError(f"expected name=address with one of {', '.join(KINDS)}, separated by commas")
    return pairs


def _origins(value: object) -> frozenset[str]:
    origins = _parts(value)
    for each in origins:
        if not _is_server(each) or urlsplit(each).path not in ("", "/"):
            raise ValueError("expected addresses without a path, such as https://images.example, separated by commas")
    return frozenset(origins)


def _keys(value: object) -> dict[str, str]:
    pairs = dict(value) if isinstance(value, Mapping) else dict(each.partition(":")[::2] for each in _parts(value))
    if not set(pairs) <= KEYED or not all(pairs.values()):
        raise ValueError(f"expected name:key with one of {', '.join(sorted(KEYED))}, separated by commas")
    return pairs


def _parts(value: object) -> list[str]:
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    if isinstance(value, list | tuple | set | frozenset):
        return [str(each) for each in value]
    raise ValueError("expected a list, separated by commas")


class ReaderSettings(ServiceSettings):
    """Settings of the reader."""

    model_config = service_config("MIRAGE_READER_")

    port: int = Field(50055, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    encoder: str = Field("127.0.0.1:50051", description="Address of the encoder, which says what an image is.")
    retriever: str = Field("127.0.0.1:50052", description="Address of the retriever, which finds similar cases.")
    call_timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds that one call of these two may take.")
    calls: int = Field(
        0,
        ge=0,
        le=256,
        description="Calls of these two that all readings together make at once; 0: half of the reader's processors, at "
        "least one. The rest is left to searches.",
    )
    neighbours: int = Field(
        20, ge=3, le=50, description="Nearest cases whose labels are counted, one record of each case."
    )
    engine: Literal["composed", "openai", "openvino-genai"] = Field(
        "composed",
        description="Who reads: rules alone (`composed`); in addition a model behind an OpenAI-compatible server with vision "
        "(`openai`); or in addition a model in the reader itself (`openvino-genai`).",
    )
    url: Annotated[str, BeforeValidator(_server)] = Field(
        "", description="Address of the model's server up to and with `/v1`, such as `http://127.0.0.1:8000/v1`."
    )
    model: str = Field(
        "",
        max_length=200,
        description="Name of the model at this server; with `openvino-genai` the name that users see, by default the folder's.",
    )
    folder: Path | None = Field(
        None, description="Folder of the model as optimum-intel exports it, with the engine `openvino-genai`."
    )
    threads: int = Field(
        0,
        ge=0,
        le=512,
        description="Threads of a model in the reader itself; 0: half of the reader's processors, at least one. The rest is "
        "left to searches.",
    )
    key: Annotated[str, Secret()] = Field("", repr=False, description="API key of this server; may be empty.")
    model_source: str = Field("", max_length=500, description="Origin of the model's weights, shown to users.")
    model_licence: str = Field("", max_length=200, description="Licence of the model's weights, shown to users.")
    kinds: Annotated[frozenset[str], NoDecode, BeforeValidator(_kinds)] = Field(
        default_factory=frozenset,
        description="Kinds that the model may read: names of checklists, separated by commas; all if empty.",
    )
    max_tokens: int = Field(512, ge=16, le=4096, description="Most tokens that the model may write for one reading.")
    total_s: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Seconds that the model's reading may take, waiting included, and its summary as many again.",
    )
    silence_s: float = Field(60.0, gt=0, le=3600, description="Seconds that the model's server may be silent.")
    slots: int = Field(
        1, ge=1, le=64, description="Readings that the model's server makes at once; a model in the reader makes one."
    )
    queue: int = Field(4, ge=0, le=1000, description="Readings that may wait for the model; others are made by rules.")
    side: int = Field(896, ge=64, le=2048, description="Longest side of the image that the model gets, in pixels.")
    summariser: Annotated[str, BeforeValidator(_summariser)] = Field(
        "",
        description="What sums a reading up: `llm` for the llm service, or the address up to and with `/v1` of an "
        "OpenAI-compatible server. No summary if empty.",
    )
    summariser_model: str = Field("", max_length=200, description="Name of the model at this server.")
    summariser_key: Annotated[str, Secret()] = Field(
        "", repr=False, description="API key of this server; may be empty."
    )
    llm: str = Field(
        "127.0.0.1:50053", description="Address of the llm service, if it is the summariser; empty for none."
    )
    context: Annotated[dict[str, str], NoDecode, BeforeValidator(_providers)] = Field(
        default_factory=dict,
        description="Context providers outside: name=address, separated by commas, such as "
        "`wikipedia=https://en.wikipedia.org`. Names: wikipedia (any MediaWiki), searxng, serpapi, tavily, openi. They get the "
        "name of a finding and nothing else. None if empty.",
    )
    context_keys: Annotated[dict[str, str], NoDecode, BeforeValidator(_keys), Secret()] = Field(
        default_factory=dict, repr=False, description="Their API keys: name:key, separated by commas."
    )
    context_images: Annotated[frozenset[str], NoDecode, BeforeValidator(_origins)] = Field(
        default_factory=frozenset,
        description="Further addresses that images of context providers may come from, separated by commas, such as "
        "`https://upload.wikimedia.org` for Wikipedia. A provider's own address is always allowed.",
    )
    context_timeout_s: float = Field(
        3.0, gt=0, le=30, description="Seconds that a context provider may take, and its images as many again."
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.engine == "openai" and not (self.url and self.model):
            raise ValueError("the engine openai needs MIRAGE_READER_URL and MIRAGE_READER_MODEL")
        if self.engine == "openvino-genai" and not self.folder:
            raise ValueError("the engine openvino-genai needs MIRAGE_READER_FOLDER")
        if self.summariser not in ("", LLM) and not self.summariser_model:
            raise ValueError("a summariser at an address needs MIRAGE_READER_SUMMARISER_MODEL")
        missing = KEYED & self.context.keys() - self.context_keys.keys()
        if missing:
            raise ValueError(f"{min(missing)} needs a key in MIRAGE_READER_CONTEXT_KEYS")
        return self
