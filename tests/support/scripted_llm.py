"""A language model service that writes what its script says, over real gRPC: the transport is real, the model is not.

It says each caption's first sentence, then a fact that no caption states, and reports one sentence withheld. Run as a
program it stands in for the service: `python scripted_llm.py PORT TOKEN_MS`; it then tells on GetModel, as its manifest,
how many tokens it wrote in all and how many descriptions are running.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mirage_core.errors import MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_core.sentences import split_sentences
from mirage_protos.llm.v1 import llm_pb2, llm_pb2_grpc
from mirage_protos.v1 import description_pb2, model_pb2, query_pb2, timings_pb2

GENERAL = "Fluid is dark on T1-weighted images."
DIFFERENT = "Plane: axial in A, coronal in B."
NAME = "mirage.llm.v1.LlmService"


@dataclass
class ScriptedLlm(llm_pb2_grpc.LlmServiceServicer):
    """Writes a word each `token_s`. With `error` it fails after `error_after` words; with `gate` it waits for it first.

    `declined` is a finish without a text.
    """

    token_s: float = 0.0
    error: MirageError | None = None
    error_after: int = 0
    gate: asyncio.Event | None = None
    declined: "description_pb2.DescriptionFinish.ValueType" = description_pb2.DESCRIPTION_FINISH_UNSPECIFIED
    repeat: int = 1
    asked: list[llm_pb2.DescribeRequest] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: int = 0
    running: int = 0

    async def Describe(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        self.arrived.set()
        self.running += 1
        try:
            async for event in self._events(request, context):
                yield event
        finally:
            self.running -= 1
            self.ended.set()

    async def _events(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if self.gate:
            await self.gate.wait()
        if self.declined or request.match in (query_pb2.MATCH_WEAK, query_pb2.MATCH_NONE):
            finish = self.declined or description_pb2.DESCRIPTION_FINISH_NO_MATCH
            yield _event(
                done=description_pb2.DescribeDone(
                    source=description_pb2.DESCRIPTION_SOURCE_NONE, finish=finish, notice="Declined by the script."
                )
            )
            return
        used = [caption.id for caption in request.captions]
        if request.against:
            ids = [used[0], request.against[0].id]
            differs = description_pb2.DescribeSentence(
                text=DIFFERENT, ids=ids, kind=description_pb2.SENTENCE_KIND_CAPTION
            )
            yield _event(difference=differs)
            end = description_pb2.DescribeDone(text=DIFFERENT, sentences=[differs], shown=1)
            end.source = description_pb2.DESCRIPTION_SOURCE_EXTRACTIVE
            yield _event(done=end)
            return
        yield _event(
            start=description_pb2.DescribeStart(used_ids=used, prompt_tokens=50, cached_tokens=40, fingerprint="e" * 64)
        )
        sentences, words = [], 0
        for sentence in _script(request) * self.repeat:
            for _ in sentence.text.split(" "):
                if self.error and words >= self.error_after:
                    await context.abort(grpc_status(self.error), self.error.message, to_trailers(self.error))
                await asyncio.sleep(self.token_s)
                words += 1
                self.tokens += 1
            sentences.append(sentence)
            yield _event(sentence=sentence)
        end = description_pb2.DescribeDone(
            text=" ".join(each.text for each in sentences),
            source=description_pb2.DESCRIPTION_SOURCE_MODEL,
            finish=description_pb2.DESCRIPTION_FINISH_STOP,
            tokens=words,
            timings=timings_pb2.Timings(queue_ms=1.0, inference_ms=2.0, total_ms=3.0),
            sentences=sentences,
            shown=len(sentences),
            withheld=1,
        )
        yield _event(done=end)

    async def GetModel(self, request: Any, context: Any) -> Any:
        parity = {"tokens": 100, "agreement": 0.975, "perplexity": 9.0, "perplexity_ratio": 1.01}
        variants = {"int4": {"quantisation": {"decoder": "int4 weights"}, "parity": parity}}
        counted = json.dumps({"tokens": self.tokens, "running": self.running, "variants": variants})
        model = model_pb2.Model(
            name="scripted",
            kind=model_pb2.MODEL_KIND_LLM,
            fingerprint="e" * 64,
            source="a script",
            engine="none",
            precision="int4",
            licence="CC0-1.0",
            manifest_json=counted,
        )
        return llm_pb2.GetModelResponse(model=model)


def _script(request: Any) -> list[description_pb2.DescribeSentence]:
    said = [
        description_pb2.DescribeSentence(
            text=split_sentences(each.text)[0].text.rstrip(".") + ".",
            ids=[each.id],
            kind=description_pb2.SENTENCE_KIND_CAPTION,
            block=description_pb2.SENTENCE_BLOCK_SEE,
        )
        for each in request.captions
    ]
    fact = description_pb2.DescribeSentence(
        text=GENERAL, kind=description_pb2.SENTENCE_KIND_GENERAL, block=description_pb2.SENTENCE_BLOCK_WHERE
    )
    return [*said, fact]


def _event(**event: Any) -> Any:
    return llm_pb2.DescribeResponse(**event)


async def serve(script: ScriptedLlm, port: int = 0) -> tuple[grpc.aio.Server, int, health.aio.HealthServicer]:
    """A running server, its port, and its health."""
    server, healths = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), health.aio.HealthServicer()
    llm_pb2_grpc.add_LlmServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await healths.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    return server, bound, healths


async def main() -> None:
    """Stands in for the service until it is ended."""
    server, _, _ = await serve(ScriptedLlm(token_s=float(sys.argv[2]) / 1000), int(sys.argv[1]))
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
