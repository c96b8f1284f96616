"""Encoder settings, from MIRAGE_ENCODER_* variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from mirage_core.settings import ServiceSettings, service_config


class EncoderSettings(ServiceSettings):
    """Settings of the encoder service."""

    model_config = service_config("MIRAGE_ENCODER_")

    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    bundle: Path = Field(description="Folder of the model bundle.")
    variant: str = Field("", description="Precision to load, such as `int8`; if omitted, the bundle's default.")
    engine: Literal["auto", "onnxruntime", "openvino"] = Field(
        "auto", description="Engine that runs the model; `auto` uses OpenVINO for large models if it is installed."
    )
    precision: Literal["native", "float32"] = Field(
        "native", description="`native` lets OpenVINO compute in bfloat16 on processors that have it."
    )
    threads: int = Field(0, ge=0, le=512, description="Threads for one inference; 0: the processors it may use.")
    text_batch: int = Field(32, ge=1, le=256, description="Texts that share an inference at the most.")
    image_batch: int = Field(8, ge=1, le=64, description="Images that share an inference at the most.")
    batch_wait_ms: float = Field(
        1.0, ge=0, le=50, description="How long a batch waits for company, and only while requests overlap."
    )
    text_queue: int = Field(256, ge=1, le=100_000, description="Texts that may wait; more are refused.")
    image_queue: int = Field(32, ge=1, le=10_000, description="Images that may wait; more are refused.")
    image_budget_mb: int = Field(
        96,
        ge=24,
        le=65_536,
        description="Image files in hand together, in MiB; more wait, then are refused.",
    )
    cache_entries: int = Field(2048, ge=0, le=1_000_000, description="Text vectors kept for repeated texts.")
    image_cache_entries: int = Field(64, ge=0, le=100_000, description="Image vectors kept for repeated images.")
    decoders: int = Field(2, ge=1, le=64, description="Child processes that decode images.")
    decoder_memory_mb: int = Field(
        608, ge=64, le=65_536, description="Memory that the decoding of one image may take, in MiB; more is refused."
    )
    decoder_budget_mb: int = Field(
        672, ge=64, le=65_536, description="Memory that all images being decoded may take together, in MiB."
    )
    decoder_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Seconds that the decoding of one image may take; longer is refused."
    )
