"""The connections to a Qdrant server, as the settings name it. `python -m mirage_retriever.qdrant_connection` tries them."""

import asyncio
import json
import sys
import time

from pydantic import ValidationError
from pydantic_settings import SettingsError

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.settings import variable_of
from mirage_retriever.engines.qdrant_nodes import HOPELESS, Nodes, connect
from mirage_retriever.settings import RetrieverSettings

_PATIENCE_S = 15.0
_PAUSE_S = 0.25


def open_nodes(settings: RetrieverSettings) -> Nodes:
    """Connects to the nodes that the settings name; nothing is sent yet."""
    urls, ports = settings.qdrant_addresses()
    return connect(
        urls,
        ports,
        collection=settings.collection,
        api_key=settings.qdrant_key.get_secret_value(),
        authorities=settings.qdrant_ca_file.read_bytes() if settings.qdrant_ca_file else None,
        timeout_s=settings.qdrant_timeout_s,
    )


async def check(nodes: Nodes, collection: str, *, patience_s: float = _PATIENCE_S) -> dict[str, str]:
    """Returns why each node cannot be used, by address; empty as soon as one can be.

    A server may just be starting: it gets `patience_s`, unless its reason is one that does not pass by itself.
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            await nodes.call(lambda client: client.collection_exists(collection))
        except MirageError as error:
            if error.code is not Code.DEPENDENCY_UNAVAILABLE:
                return {}
        else:
            return {}
        reasons = nodes.reasons
        if time.monotonic() >= end or (reasons and set(reasons.values()) <= HOPELESS):
            return reasons
        await asyncio.sleep(_PAUSE_S)


async def _check(settings: RetrieverSettings) -> dict[str, str]:
    nodes = open_nodes(settings)
    try:
        return await check(nodes, settings.collection)
    finally:
        await nodes.close()


def main() -> int:
    """Prints why each node cannot be used, as JSON, or what is wrong with the settings; exit code 0 if one can be."""
    try:
        settings = RetrieverSettings()
    except ValidationError as error:
        wrong = {
            variable_of(RetrieverSettings, str(each["loc"][0])) if each["loc"] else "": each for each in error.errors()
        }
        print("; ".join(f"{name}: {each['msg']}" if name else each["msg"] for name, each in wrong.items()))
        return 2
    except SettingsError as error:
        print(error)
        return 2
    telemetry.configure_logging("retriever", level="CRITICAL", form=settings.log_format)
    reasons = asyncio.run(_check(settings))
    print(json.dumps(reasons))
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
