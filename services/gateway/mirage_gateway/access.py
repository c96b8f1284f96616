"""Who may change the atlas."""

from mirage_core.errors import Code, MirageError
from mirage_core.peers import is_this_machine


def check_may_write(client: str, *, keyed: bool) -> None:
    """Raises API_KEY_REQUIRED unless the server has keys (then the caller showed one) or `client` is this machine.

    `client` is the key's name or the peer as gRPC writes it.
    """
    if not keyed and not is_this_machine(client):
        raise MirageError(Code.API_KEY_REQUIRED)
