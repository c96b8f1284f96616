"""python -m mirage_retriever: settings, set-up, serve."""

from functools import partial

from mirage_core.server import run_service
from mirage_retriever.service import set_up
from mirage_retriever.settings import RetrieverSettings


def main() -> None:
    """Runs the retriever until it is told to stop."""
    settings = RetrieverSettings()
    run_service(settings, "retriever", partial(set_up, settings))


if __name__ == "__main__":
    main()
