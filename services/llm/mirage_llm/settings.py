"""Settings of the llm service, from MIRAGE_LLM_* variables."""

from pathlib import Path

from pydantic import Field

from mirage_core.settings import ServiceSettings, service_config


class LlmSettings(ServiceSettings):
    """Settings of the language model service."""

    model_config = service_config("MIRAGE_LLM_")

    port: int = Field(50053, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    bundle: Path = Field(description="Folder of the model bundle.")
    variant: str = Field("", description="Precision to load, such as `int4`; if omitted, the bundle's default.")
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
