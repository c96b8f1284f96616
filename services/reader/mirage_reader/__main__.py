"""`python -m mirage_reader`: the reader service."""

from functools import partial

from mirage_core.server import run_service
from mirage_reader.app import set_up
from mirage_reader.settings import ReaderSettings


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = ReaderSettings()
    run_service(settings, "reader", partial(set_up, settings))


if __name__ == "__main__":
    main()
