"""Settings of the llm service, from MIRAGE_LLM_* variables."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mirage_core.settings import Secret, ServiceSettings, service_config


class LlmSettings(ServiceSettings):
    """Settings of the language model service."""

    model_config = service_config("MIRAGE_LLM_")

    port: int = Field(50053, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    engine: Literal["onnxruntime", "openai"] = Field(
        "onnxruntime", description="What writes: a bundle in this process, or a server that speaks OpenAI's protocol."
    )
    bundle: Path | None = Field(None, description="Folder of the model bundle, with the engine `onnxruntime`.")
    openai_url: str = Field(
        "", description="The server's address, such as `http://127.0.0.1:8081/v1`, with the engine `openai`."
    )
    openai_model: str = Field("", max_length=200, description="The server's name of the model.")
    openai_key: Annotated[str, Secret()] = Field("", repr=False, description="The key that the server asks for.")
    openai_caption_chars: int = Field(
        6_000,
        ge=500,
        le=200_000,
        description="Characters of captions in a prompt; choose what the model's context holds.",
    )
    variant: str = Field("", description="Precision to load, such as `int4`; if omitted, the bundle's default.")
    prompt_graph: bool = Field(
        True,
        description="Load the bundle's graph that reads prompts faster, if it has one; it takes memory, see docs/models.md.",
    )
    threads: int = Field(0, ge=0, le=512, description="Threads for one token; 0: the processors it may use.")
    slots: int = Field(
        1, ge=1, le=64, description="Descriptions written at once. More share the processors, and each is slower."
    )
    queue: int = Field(8, ge=0, le=1000, description="Descriptions that may wait; more are refused.")
    first_token_s: float = Field(
        20.0,
        gt=0,
        le=600,
        description="Seconds until the model's first word, waiting included; after that the captions answer.",
    )
    total_s: float = Field(
        90.0,
        gt=0,
        le=3600,
        description="Seconds until the model's last word, waiting included; after that the captions answer.",
    )
    facts: Path | None = Field(
        None,
        description="File of your own facts, which descriptions may state as general knowledge; see docs/describe.md.",
    )
    decline_other_topics: bool = Field(
        True, description="Decline questions that are surely not about medicine; see docs/describe.md."
    )

    @model_validator(mode="after")
    def _names_what_writes(self) -> Self:
        if self.engine == "onnxruntime":
            if self.bundle is None:
                raise ValueError("MIRAGE_LLM_BUNDLE is not set")
            return self
        url = urlsplit(self.openai_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
            raise ValueError("MIRAGE_LLM_OPENAI_URL is not an address such as http://127.0.0.1:8081/v1")
        if not self.openai_model.strip() or not self.openai_model.isprintable():
            raise ValueError("MIRAGE_LLM_OPENAI_MODEL is not set")
        if not self.openai_key.isascii() or not self.openai_key.isprintable():
            raise ValueError("MIRAGE_LLM_OPENAI_KEY has characters that no key has")
        return self
