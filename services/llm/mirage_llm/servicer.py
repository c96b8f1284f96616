"""LlmService: protobuf to the describer and back, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import ClassVar, TypeAlias

import grpc

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.methods import Kind, MethodRule, Role
from mirage_llm.convert import event_to_proto, info_to_proto, question_from_proto
from mirage_llm.describer import Describer
from mirage_protos.llm.v1 import llm_pb2, llm_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Answers with what the describer gives; errors go through to the interceptor."""

    # Ten captions of 20,000 characters are more than other requests.
    methods: ClassVar[Mapping[str, MethodRule]] = {
        "Describe": MethodRule(Role.ADMIN, limits.VECTORS_BYTES, Kind.WATCH),
        "GetModel": MethodRule(Role.ADMIN),
    }

    def __init__(self, describer: Describer) -> None:
        self._describer = describer

    async def Describe(
        self, request: llm_pb2.DescribeRequest, context: Context
    ) -> AsyncIterator[llm_pb2.DescribeResponse]:
        """See protos/mirage/llm/v1/llm.proto."""
        events = self._describer.describe(question_from_proto(request))
        async with aclosing(events):
            async for event in events:
                yield event_to_proto(event, self._fingerprint())

    async def GetModel(self, request: llm_pb2.GetModelRequest, context: Context) -> llm_pb2.GetModelResponse:
        """See protos/mirage/llm/v1/llm.proto."""
        writer = self._describer.writer
        if writer is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        return llm_pb2.GetModelResponse(model=info_to_proto(writer.info))

    def _fingerprint(self) -> str:
        writer = self._describer.writer
        return writer.info.fingerprint if writer else ""
