"""Settings of the reader, from MIRAGE_READER_* variables."""

from pydantic import Field

from mirage_core.settings import ServiceSettings, service_config


class ReaderSettings(ServiceSettings):
    """Settings of the reader."""

    model_config = service_config("MIRAGE_READER_")

    port: int = Field(50055, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    encoder: str = Field("127.0.0.1:50051", description="Address of the encoder, which says what an image is.")
    retriever: str = Field("127.0.0.1:50052", description="Address of the retriever, which finds similar cases.")
    call_timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds that one call of these two may take.")
    neighbours: int = Field(
        20, ge=3, le=50, description="Nearest cases whose labels are counted, one record of each case."
    )
