"""The command's entry: finds the verb, runs it, turns errors into messages and exit codes (0, 1 error, 2 usage).

Other parts add their verbs as entry points of the group "mirage.commands", each a click command by its name.
"""

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn, cast

import click

from mirage import __version__
from mirage.cli.output import print_json
from mirage.errors import ClientError, PartMissingError

# The verbs, in the order in which a newcomer meets them.
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
    "read",
    "generate",
    "jobs",
    "record",
    "image",
    "facets",
    "classify",
    "flags",
    "fetch",
    "index",
    "embeddings",
    "collections",
    "eval",
    "models",
    "export",
)
INTERRUPTED = 130
# Verbs that another part adds, by the package that has to be installed for them.
_PARTS = {
    **dict.fromkeys(("up", "down", "status", "backup", "restore", "export"), "mirage-launcher"),
    **dict.fromkeys(("fetch", "index", "embeddings", "eval"), "mirage-atlas"),
    "models": "mirage-models",
}


class Verbs(click.Group):
    """The verbs: each the `command` of mirage.cli.<verb>, or an entry point of another part."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs in the order of VERBS."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the verb's command; None for an unknown one."""
        if cmd_name not in VERBS:
            return None
        if cmd_name not in _PARTS:
            return cast("click.Command", import_module(f"mirage.cli.{cmd_name}").command)
        # Imported here: it takes longer than the verbs of this package.
        from importlib.metadata import entry_points

        found = entry_points(group="mirage.commands", name=cmd_name)
        return cast("click.Command", next(iter(found)).load()) if found else _missing(cmd_name)

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


def _missing(verb: str) -> click.Command:
    """Returns the command of a verb whose part is not installed: it says so, whatever its arguments are."""

    def run() -> None:
        raise PartMissingError(_PARTS[verb], f"mirage {verb}")

    return click.Command(
        verb,
        callback=run,
        short_help=f"Needs the package {_PARTS[verb]}, which is not installed.",
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, expose_value=False)],
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )


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
    except ModuleNotFoundError as error:
        # A verb imports what it needs when it runs: that package, or one that it uses, may not be installed.
        missing = PartMissingError(
            str(error.name or "of a part").partition(".")[0].replace("_", "-"), _purpose(arguments)
        )
        return _fail(missing, as_json=as_json)
    except ClientError as error:
        return _fail(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED


def _purpose(arguments: list[str]) -> str:
    return f"mirage {next((each for each in arguments if each in VERBS), '')}".rstrip()


def _fail(error: ClientError, *, as_json: bool) -> int:
    click.echo(f"error: {error} [{error.code}]", err=True)
    if as_json:
        print_json(error.problem())
    return 1


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
