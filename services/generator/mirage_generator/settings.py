"""Generator settings, from MIRAGE_GENERATOR_* variables: the API and the workers read the same ones."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from mirage_core.job_options import DEADLINE_MAX_S
from mirage_core.settings import Secret, ServiceSettings, service_config
from mirage_inference.engines import EngineChoice


class GeneratorSettings(ServiceSettings):
    """Settings of the generator service and of its workers."""

    model_config = service_config("MIRAGE_GENERATOR_")

    port: int = Field(50054, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    redis: Annotated[str, Secret()] = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis with the jobs and the queue: `redis://`, `rediss://` or `unix:///path`. A database of its own.",
    )
    redis_password: Annotated[SecretStr, Secret()] = Field(
        SecretStr(""), description="Password of that Redis, for `redis://` and `rediss://` without one in the address."
    )
    data: Path = Field(description="Folder of the generated images; the API and all workers share it.")
    bundle: Path = Field(description="Folder of the model bundle.")
    variant: str = Field("", description="Precision to load, such as `int8`; if omitted, the bundle's default.")
    engine: EngineChoice = Field(
        "auto",
        description="`onnxruntime`, `openvino`, or `auto`: OpenVINO for the networks that it runs faster, if it is installed.",
    )
    threads: int = Field(0, ge=0, le=512, description="Threads of a worker's inference; 0: the processors it may use.")
    tiny_decoder: bool = Field(
        False, description="Decode with the bundle's tiny decoder if it has one: faster, less exact."
    )
    encoder: str = Field(
        "",
        description="gRPC address of the encoder that compares images with their prompts; if omitted, they are not checked.",
    )
    any_topic: bool = Field(
        False,
        description="Also accept prompts that are not about medicine. A model that lists what it draws declines others anyway.",
    )
    visible_mark: bool = Field(
        True, description="Draw the visible mark `AI GENERATED` into each image. The mark in the file is always there."
    )
    queue: int = Field(200, ge=1, le=10_000, description="Jobs that may wait; more are refused.")
    per_client: int = Field(50, ge=1, le=10_000, description="Unfinished jobs that one client may have.")
    kept_per_client: int = Field(
        1000, ge=1, le=100_000, description="Jobs of one client that are kept; the oldest ended ones are removed."
    )
    deadline_s: float = Field(
        1800.0,
        ge=1,
        le=DEADLINE_MAX_S,
        description="Seconds after which an unfinished job expires, if its request does not say.",
    )
    ttl_s: float = Field(
        86_400.0, gt=0, le=31_536_000, description="Seconds that a job and its images are kept once it ended."
    )
    lease_s: float = Field(
        10.0, ge=1, le=600, description="Seconds without a heartbeat after which a worker loses its job."
    )
    attempts: int = Field(3, ge=1, le=20, description="Attempts at a job whose workers were lost, before it fails.")

    @field_validator("redis")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected redis://, rediss:// or unix://")
        return value

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        parts = urlsplit(self.redis)
        if self.redis_password.get_secret_value() and (parts.scheme == "unix" or "@" in parts.netloc):
            raise ValueError("a password of Redis needs a redis:// or rediss:// address without one")
        return self

    @property
    def redis_url(self) -> str:
        """The address with its password."""
        password = self.redis_password.get_secret_value()
        if not password:
            return self.redis
        parts = urlsplit(self.redis)
        return urlunsplit(parts._replace(netloc=f":{quote(password, safe='')}@{parts.netloc}"))
