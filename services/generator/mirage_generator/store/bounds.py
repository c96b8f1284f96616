"""Limits of the store: numbers and times."""

from dataclasses import dataclass

from mirage_generator.settings import GeneratorSettings


@dataclass(frozen=True)
class Bounds:
    """See the settings of the same names."""

    queue: int
    per_client: int
    kept_per_client: int
    ttl_s: float
    attempts: int
    lease_s: float


def bounds_of(settings: GeneratorSettings) -> Bounds:
    """The bounds that the settings give."""
    return Bounds(
        settings.queue,
        settings.per_client,
        settings.kept_per_client,
        settings.ttl_s,
        settings.attempts,
        settings.lease_s,
    )
