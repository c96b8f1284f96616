"""The command's entry: finds the verb, runs it, turns errors into messages and exit codes (0, 1 error, 2 usage)."""

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from mirage import __version__
from mirage.cli.output import print_json
from mirage.errors import ClientError

VERBS = (
    "up",
    "down",
    "status",
    "backup",
    "restore",
    "search",
    "compare",
    "similar",
    "describe",
    "generate",
    "jobs",
    "record",
    "image",
    "facets",
    "classify",
    "flags",
    "index",
    "embeddings",
    "collections",
    "eval",
    "models",
)
INTERRUPTED = 130


class Verbs(click.Group):
    """The verbs, each the `command` of mirage.cli.<verb>."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order in which a newcomer meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; None for an unknown one."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"mirage.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown verb's error names the nearest one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " See `mirage --help`."
            raise click.UsageError(f"No such verb: {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mirage")
def mirage() -> None:
    """MIRAGE finds, compares and explains medical images for teaching. For education, not for diagnosis.

    Start it with `mirage up`, then ask: mirage search "axial T1 through the lateral ventricles"

    The address is taken from MIRAGE_URL (default http://localhost:8080), and the key from MIRAGE_API_KEY, or
    from the file that MIRAGE_API_KEY_FILE names, if the server asks for one.
    """


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code. Never raises."""
    is_closed = _open_closed_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        if is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return code
    except BrokenPipeError:
        # The reader of a pipe has gone (`mirage search ... | head -1`).
        _discard_output()
        return 1
    except OSError as error:
        # A full disk, most likely that of standard output; verbs name the files that they write themselves.
        _discard_output()
        what = "the output" if error.filename is None else str(error.filename)
        with suppress(OSError):
            click.echo(f"error: {what} cannot be written: {error.strerror or 'it failed'} [OUTPUT_FAILED]", err=True)
        return 1


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        outcome: Any = mirage.main(args=arguments, prog_name="mirage", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.UsageError as error:
        error.show()
        if as_json:
            print_json({"code": "USAGE", "detail": error.format_message()})
        return 2
    except click.ClickException as error:
        error.show()
        return 1
    except ClientError as error:
        click.echo(f"error: {error} [{error.code}]", err=True)
        if as_json:
            print_json(error.problem())
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED


def _open_closed_streams() -> bool:
    """Puts the null device in place of standard streams that are closed (`>&-`); True if standard output is."""
    is_closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 -- open until the process ends
    return is_closed


def _discard_output() -> None:
    """Sends what is still to be written nowhere, so that Python does not fail on it once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """Runs the command line of this process."""
    sys.exit(run(sys.argv[1:]))
