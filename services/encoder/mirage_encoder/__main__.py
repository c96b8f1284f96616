"""`python -m mirage_encoder`: the encoder service."""

from functools import partial

from mirage_core.server import run_service
from mirage_encoder.app import set_up
from mirage_encoder.settings import EncoderSettings


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = EncoderSettings()
    run_service(settings, "encoder", partial(set_up, settings))


if __name__ == "__main__":
    main()
