"""The collections on a Qdrant server: ours are known by their metadata, the active one by an alias."""

import asyncio
from collections.abc import Callable
from typing import Any

from qdrant_client import models

from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import SCHEMA, Engine
from mirage_retriever.engines.qdrant import QdrantEngine
from mirage_retriever.engines.qdrant_nodes import Nodes, RefusedError

_WRITE_S = 30.0


class QdrantCollectionStore:
    """Collections that hold our metadata; the alias `DEFAULT.active` points at the active one (a name cannot hold a dot).

    Every retriever on the server sees the same, a switch by another one when it asks again.
    """

    def __init__(self, nodes: Nodes, *, default: str, make: Callable[[Nodes, str], QdrantEngine]) -> None:
        self._nodes = nodes
        self._default = default
        self._make = make

    @property
    def _alias(self) -> str:
        return f"{self._default}.active"

    async def names(self) -> list[str]:
        """Collections of the server that hold our metadata."""
        return sorted(await self._ours())

    async def without_words(self) -> list[str]:
        """Those whose metadata has an older schema."""
        return sorted(name for name, ours in (await self._ours()).items() if ours.get("schema", 1) < SCHEMA)

    async def _ours(self) -> dict[str, dict[str, Any]]:
        """Our metadata by collection."""
        listed = (await self._nodes.call(lambda client: client.get_collections())).collections
        found = await asyncio.gather(*(self._metadata(each.name) for each in listed))
        return {each.name: ours for each, ours in zip(listed, found, strict=True) if ours is not None}

    async def _metadata(self, name: str) -> dict[str, Any] | None:
        try:
            info = await self._nodes.call(lambda client: client.get_collection(name))
        except RefusedError as error:
            if error.code is Code.COLLECTION_NOT_FOUND:
                return None  # removed since it was listed
            raise
        return (info.config.metadata or {}).get("mirage")

    async def active(self) -> str:
        """Returns the collection that the alias names; the default without an alias."""
        return await self._pointed_at() or self._default

    async def mark_active(self, name: str) -> None:
        """Moves the alias, in one step of the server's."""
        moves: list[models.AliasOperations] = []
        if await self._pointed_at():
            moves.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._alias)))
        create = models.CreateAlias(collection_name=name, alias_name=self._alias)
        moves.append(models.CreateAliasOperation(create_alias=create))
        try:
            await self._nodes.call(
                lambda client: client.update_collection_aliases(change_aliases_operations=moves), timeout_s=_WRITE_S
            )
        except RefusedError as error:
            raise MirageError(error.code, name=name) from error

    async def _pointed_at(self) -> str:
        aliases = (await self._nodes.call(lambda client: client.get_aliases())).aliases
        return next((each.collection_name for each in aliases if each.alias_name == self._alias), "")

    def engine(self, name: str) -> Engine:
        """An engine on the collection of that name; it shares the connections."""
        return self._make(self._nodes, name)

    async def remove(self, name: str) -> None:
        """Deletes the collection."""
        await self.engine(name).drop()

    async def put_aside(self, name: str) -> None:
        """Does nothing: a server knows its own damage."""

    async def close(self) -> None:
        """Closes the connections."""
        await self._nodes.close()
