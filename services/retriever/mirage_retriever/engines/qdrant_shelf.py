"""The collections on a Qdrant server: ours are told by their metadata, the active one by an alias."""

import asyncio
from collections.abc import Callable

import grpc
import httpx
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import Engine
from mirage_retriever.engines.qdrant import QdrantEngine

_FAILURES = (
    grpc.aio.AioRpcError,
    ResponseHandlingException,
    UnexpectedResponse,
    httpx.TransportError,
    TimeoutError,
)


class QdrantShelf:
    """Collections that hold our metadata; the alias `DEFAULT.active` points at the active one (a name cannot hold a dot).

    Every retriever on the server sees the same, a switch by another one when it asks again.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        default: str,
        make: Callable[[AsyncQdrantClient, str], QdrantEngine],
        timeout_s: float = 10.0,
    ) -> None:
        self._client = client
        self._default = default
        self._make = make
        self._timeout_s = timeout_s

    @property
    def _alias(self) -> str:
        return f"{self._default}.active"

    async def names(self) -> list[str]:
        """Collections of the server that hold our metadata."""
        try:
            async with asyncio.timeout(self._timeout_s):
                listed = (await self._client.get_collections()).collections
                infos = await asyncio.gather(*(self._client.get_collection(each.name) for each in listed))
        except _FAILURES as error:
            raise _unavailable() from error
        return sorted(
            each.name for each, info in zip(listed, infos, strict=True) if "mirage" in (info.config.metadata or {})
        )

    async def active(self) -> str:
        """Where the alias points; the default without one."""
        return await self._pointed_at() or self._default

    async def mark_active(self, name: str) -> None:
        """Moves the alias, in one step of the server's."""
        moves: list[models.AliasOperations] = []
        if await self._pointed_at():
            moves.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._alias)))
        create = models.CreateAlias(collection_name=name, alias_name=self._alias)
        moves.append(models.CreateAliasOperation(create_alias=create))
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.update_collection_aliases(change_aliases_operations=moves)
        except _FAILURES as error:
            raise _unavailable() from error

    async def _pointed_at(self) -> str:
        try:
            async with asyncio.timeout(self._timeout_s):
                aliases = (await self._client.get_aliases()).aliases
        except _FAILURES as error:
            raise _unavailable() from error
        return next((each.collection_name for each in aliases if each.alias_name == self._alias), "")

    def engine(self, name: str) -> Engine:
        """An engine on the collection of that name; it shares the connection and does not close it."""
        return self._make(self._client, name)

    async def remove(self, name: str) -> None:
        """Deletes the collection."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.delete_collection(name)
        except _FAILURES as error:
            raise _unavailable() from error

    async def close(self) -> None:
        """Closes the connection."""
        await self._client.close()


def _unavailable() -> MirageError:
    return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="qdrant")
