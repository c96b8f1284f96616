"""`python -m mirage_llm`: the llm service."""

from functools import partial

from mirage_core.server import run_service
from mirage_llm.app import set_up
from mirage_llm.settings import LlmSettings


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = LlmSettings()
    run_service(settings, "llm", partial(set_up, settings))


if __name__ == "__main__":
    main()
