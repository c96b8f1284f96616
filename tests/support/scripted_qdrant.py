"""A Qdrant server for tests: Qdrant's own gRPC contract, answered by the simulator of qdrant-client.

It is not a Qdrant. It shows what MIRAGE does when a server refuses, freezes, is slow, dies, comes back, or asks for a key, over
real gRPC connections. Several nodes of one `Cluster` hold the same collections. As a process:

    python tests/support/scripted_qdrant.py PORT                     a server
    python tests/support/scripted_qdrant.py PORT --forward ADDRESS   a node that passes all calls on to another
"""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as q
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

DONE = q.UpdateResult(status=q.UpdateStatus.Completed)


class Cluster:
    """Collections that all nodes share."""

    def __init__(self) -> None:
        self.local = QdrantClient(":memory:")
        self.schema: dict[str, dict[str, q.PayloadSchemaInfo]] = defaultdict(dict)
        # Names of collections, in the order in which they were made and deleted.
        self.made: list[str] = []
        self.deleted: list[str] = []
        # A collection that is being made shows nothing of itself before this is set, and is not green before the other.
        # False as on servers that know no such call.
        self.can_add_vectors = True
        self.may_appear = asyncio.Event()
        self.may_be_green = asyncio.Event()
        self.may_appear.set()
        self.may_be_green.set()

    def settings(self, name: str) -> models.CollectionInfo:
        return self.local.get_collection(name)


class Node:
    """One server of a cluster, on a port of its own that it keeps through `stop` and `start`."""

    def __init__(
        self,
        cluster: Cluster | None = None,
        *,
        api_key: str = "",
        tls: tuple[bytes, bytes] | None = None,
        port: int = 0,
    ) -> None:
        self.cluster = cluster or Cluster()
        self.port = port
        self.calls: list[str] = []
        # What every call is refused with, by method; "" for all.
        self.refusals: dict[str, tuple[grpc.StatusCode, str]] = {}
        # The same for what was done all the same.
        self.after: dict[str, tuple[grpc.StatusCode, str]] = {}
        # Methods that never answer, while the others do.
        self.slow: set[str] = set()
        self._api_key = api_key
        self._tls = tls
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server: grpc.aio.Server | None = None

    @property
    def url(self) -> str:
        """An HTTP address whose port plus one is the gRPC port."""
        return f"{'https' if self._tls else 'http'}://localhost:{self.port - 1}"

    async def start(self) -> "Node":
        self._server = grpc.aio.server(interceptors=[_Script(self)], options=[("grpc.so_reuseport", 0)])
        q.add_CollectionsServicer_to_server(_Collections(self.cluster), self._server)
        q.add_PointsServicer_to_server(_Points(self.cluster), self._server)
        address = f"localhost:{self.port}"
        if self._tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            key, certificate = self._tls
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
        await self._server.start()
        return self

    async def stop(self) -> None:
        """Dies: connections are cut, calls under way with them."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def freeze(self) -> None:
        """Accepts connections and calls, and answers none from now on."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def admit(self, method: str, context: Any) -> None:
        self.calls.append(method)
        await self._thawed.wait()
        if self._api_key and dict(context.invocation_metadata()).get("api-key") != self._api_key:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
        refusal = self.refusals.get(method) or self.refusals.get("")
        if refusal:
            await context.abort(*refusal)
        if method in self.slow:
            await asyncio.Event().wait()


class _Script(grpc.aio.ServerInterceptor):
    """What happens to a call before anything looks at it, and the statuses of a real server for the simulator's errors."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method.rpartition("/")[2]

        async def answer(request: Any, context: Any) -> Any:
            await self._node.admit(method, context)
            try:
                reply = await handler.unary_unary(request, context)
            except ValueError as error:
                text = str(error)
                missing = "not found" in text
                status = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.INVALID_ARGUMENT
                await context.abort(status, f"Wrong input: {text}")
            if method in self._node.after:
                await context.abort(*self._node.after[method])
            return reply

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def _retrieved(record: models.Record) -> q.RetrievedPoint:
    # The simulator leaves out a payload that was not asked for; the converter wants one.
    return RestToGrpc.convert_retrieved_point(record.model_copy(update={"payload": record.payload or {}}))


class _Collections(q.CollectionsServicer):
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def CollectionExists(self, request: Any, context: Any) -> Any:
        exists = self._cluster.local.collection_exists(request.collection_name)
        return q.CollectionExistsResponse(result=q.CollectionExists(exists=exists))

    async def List(self, request: Any, context: Any) -> Any:
        listed = self._cluster.local.get_collections().collections
        return q.ListCollectionsResponse(collections=[q.CollectionDescription(name=each.name) for each in listed])

    async def Get(self, request: Any, context: Any) -> Any:
        local, name = self._cluster.local, request.collection_name
        info = local.get_collection(name)
        vectors = info.config.params.vectors or {}
        status = q.CollectionStatus.Green if self._cluster.may_be_green.is_set() else q.CollectionStatus.Grey
        return q.GetCollectionInfoResponse(
            result=q.CollectionInfo(
                status=status,
                optimizer_status=q.OptimizerStatus(ok=True),
                config=q.CollectionConfig(
                    params=q.CollectionParams(
                        vectors_config=RestToGrpc.convert_vectors_config(vectors),
                        sparse_vectors_config=RestToGrpc.convert_sparse_vector_config(
                            info.config.params.sparse_vectors or {}
                        ),
                        shard_number=1,
                    ),
                    hnsw_config=q.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
                    optimizer_config=q.OptimizersConfigDiff(
                        deleted_threshold=0.2,
                        vacuum_min_vector_number=1000,
                        default_segment_number=0,
                        flush_interval_sec=5,
                    ),
                    wal_config=q.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
                    metadata=RestToGrpc.convert_payload(info.config.metadata or {}),
                ),
                payload_schema=self._cluster.schema[name],
                points_count=local.count(name).count,
                indexed_vectors_count=0,
            )
        )

    async def Create(self, request: Any, context: Any) -> Any:
        await self._cluster.may_appear.wait()
        name = request.collection_name
        self._cluster.local.create_collection(
            name,
            vectors_config=GrpcToRest.convert_vectors_config(request.vectors_config),
            sparse_vectors_config=GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        self._cluster.made.append(name)
        return q.CollectionOperationResponse(result=True)

    async def Delete(self, request: Any, context: Any) -> Any:
        name = request.collection_name
        self._cluster.schema.pop(name, None)
        self._cluster.deleted.append(name)
        return q.CollectionOperationResponse(result=self._cluster.local.delete_collection(name))

    async def Update(self, request: Any, context: Any) -> Any:
        metadata = GrpcToRest.convert_payload(request.metadata)
        return q.CollectionOperationResponse(
            result=self._cluster.local.update_collection(request.collection_name, metadata=metadata)
        )

    async def UpdateAliases(self, request: Any, context: Any) -> Any:
        actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
        return q.CollectionOperationResponse(result=self._cluster.local.update_collection_aliases(actions))

    async def ListAliases(self, request: Any, context: Any) -> Any:
        aliases = self._cluster.local.get_aliases().aliases
        return q.ListAliasesResponse(
            aliases=[
                q.AliasDescription(alias_name=each.alias_name, collection_name=each.collection_name) for each in aliases
            ]
        )


class _Points(q.PointsServicer):
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        self._cluster.settings(request.collection_name)
        schema = self._cluster.schema[request.collection_name]
        schema[request.field_name] = q.PayloadSchemaInfo(data_type=q.PayloadSchemaType.Keyword, points=0)
        return q.PointsOperationResponse(result=DONE)

    async def CreateVectorName(self, request: Any, context: Any) -> Any:
        if not self._cluster.can_add_vectors:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        sparse = models.SparseVectorConfig(modifier=GrpcToRest.convert_modifier(request.sparse_config.modifier))
        config = models.SparseVectorNameConfig(sparse=sparse)
        self._cluster.local.create_vector_name(request.collection_name, request.vector_name, config)
        return q.PointsOperationResponse(result=DONE)

    async def Upsert(self, request: Any, context: Any) -> Any:
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        self._cluster.local.upsert(request.collection_name, points)
        return q.PointsOperationResponse(result=DONE)

    async def Delete(self, request: Any, context: Any) -> Any:
        self._cluster.local.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
        return q.PointsOperationResponse(result=DONE)

    async def Get(self, request: Any, context: Any) -> Any:
        found = self._cluster.local.retrieve(
            request.collection_name,
            [GrpcToRest.convert_point_id(each) for each in request.ids],
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return q.GetResponse(result=[_retrieved(each) for each in found])

    async def QueryBatch(self, request: Any, context: Any) -> Any:
        requests = [GrpcToRest.convert_query_points(each) for each in request.query_points]
        answers = self._cluster.local.query_batch_points(request.collection_name, requests)
        batches = [
            q.BatchResult(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])
            for answer in answers
        ]
        return q.QueryBatchResponse(result=batches)

    async def Count(self, request: Any, context: Any) -> Any:
        only = GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None
        count = self._cluster.local.count(request.collection_name, count_filter=only).count
        return q.CountResponse(result=q.CountResult(count=count))

    async def Scroll(self, request: Any, context: Any) -> Any:
        order = GrpcToRest.convert_order_by(request.order_by) if request.HasField("order_by") else None
        points, following = self._cluster.local.scroll(
            request.collection_name,
            scroll_filter=GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None,
            limit=request.limit,
            order_by=order,
            offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return q.ScrollResponse(
            result=[_retrieved(each) for each in points],
            next_page_offset=None
            if following is None
            else RestToGrpc.convert_extended_point_id(cast("str", following)),
        )

    async def Facet(self, request: Any, context: Any) -> Any:
        answer = self._cluster.local.facet(
            request.collection_name,
            key=request.key,
            facet_filter=GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None,
            limit=request.limit,
            exact=request.exact,
        )
        return q.FacetResponse(
            hits=[q.FacetHit(value=q.FacetValue(string_value=str(hit.value)), count=hit.count) for hit in answer.hits]
        )


class _Forwarder(grpc.GenericRpcHandler):
    """Passes each call on as bytes."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method: Any = self._channel.unary_unary(details.method)

        async def answer(request: bytes, context: Any) -> Any:
            try:
                return await method(request, timeout=context.time_remaining())
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

        return grpc.unary_unary_rpc_method_handler(answer)


async def _serve(port: int, forward: str, key: str) -> None:
    if not forward:
        node = await Node(port=port, api_key=key).start()
        print(node.port, flush=True)
    else:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Forwarder(forward),))
        port = server.add_insecure_port(f"localhost:{port}")
        await server.start()
        print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Qdrant server for tests.")
    parser.add_argument("port", type=int, help="gRPC port; 0 picks a free one, which is printed")
    parser.add_argument("--forward", default="", metavar="ADDRESS", help="gRPC address of the server that answers")
    parser.add_argument("--key", default="", help="the API key that calls must bring")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.forward, arguments.key))
