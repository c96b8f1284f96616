"""`python -m mirage_generator`: the generator service; `python -m mirage_generator worker`: a worker of its queue."""

import sys
from functools import partial

from mirage_core.server import run_service
from mirage_generator.settings import GeneratorSettings


def main() -> None:
    """Serves, or works, until SIGTERM or SIGINT."""
    # Imported here: the service needs neither the pipeline nor its memory, and a worker no server.
    match sys.argv[1:]:
        case []:
            from mirage_generator.app import set_up

            settings = GeneratorSettings()
            run_service(settings, "generator", partial(set_up, settings))
        case ["worker"]:
            from mirage_generator.worker import run_worker

            sys.exit(run_worker(GeneratorSettings()))
        case _:
            sys.exit("usage: python -m mirage_generator [worker]")


if __name__ == "__main__":
    main()
