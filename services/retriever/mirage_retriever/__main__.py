"""python -m mirage_retriever: settings, set-up, serve."""

import os
from functools import partial

from mirage_core.server import run_service
from mirage_retriever.app import set_up
from mirage_retriever.settings import RetrieverSettings


def main() -> None:
    """Runs the retriever until SIGTERM or SIGINT."""
    # The data may be about patients: no other user of this machine may read it, whichever process or library writes it.
    os.umask(0o077)
    settings = RetrieverSettings()
    run_service(settings, "retriever", partial(set_up, settings))


if __name__ == "__main__":
    main()
