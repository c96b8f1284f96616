"""Whose a job is."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from mirage_core import context
from mirage_core.context import ADMIN_METADATA, CLIENT_METADATA, address_of, is_this_machine
from mirage_core.errors import Code, MirageError
from mirage_generator.settings import GeneratorSettings

_NAME_CHARS = 256


@dataclass(frozen=True)
class Caller:
    """The client: its jobs are created under `name`; an admin may see `all_jobs`."""

    name: str
    all_jobs: bool


def caller(metadata: Mapping[str, str | bytes], settings: GeneratorSettings) -> Caller:
    """Returns the caller of the current request.

    `metadata` may name another client that it acts for (see generator.proto).

    The percent-encoded name, and the admin mark, are accepted from an admin key alone; without keys, from this machine
    or from the containers of a private network. Raises REQUEST_MALFORMED for a name that is too long or has control
    characters.
    """
    name, admin = context.client.get(), context.admin.get()
    keys = settings.api_keys
    speaks_for_others = admin if keys else is_this_machine(name) or settings.knows_callers
    given = metadata.get(CLIENT_METADATA)
    if not speaks_for_others or not given or not isinstance(given, str):
        return Caller(name if keys else address_of(name), all_jobs=admin)
    client = unquote(given)
    if len(client) > _NAME_CHARS or not client.isprintable():
        raise MirageError(Code.REQUEST_MALFORMED, field=CLIENT_METADATA)
    return Caller(client, all_jobs=metadata.get(ADMIN_METADATA) == "true")
