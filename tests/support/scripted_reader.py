"""A reader that says what its script says, over real gRPC: the transport is real, the reading is not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mirage_core.errors import MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_protos.reader.v1 import reader_pb2, reader_pb2_grpc
from mirage_protos.v1 import image_pb2, model_pb2, reading_pb2, timings_pb2

NAME = "mirage.reader.v1.ReaderService"


def events() -> list[reader_pb2.ReadResponse]:
    """One event of each kind, in the order of a reading."""
    kind = reading_pb2.ReadKind(
        medical=image_pb2.IMAGE_KIND_MEDICAL,
        medical_score=0.75,
        modality=reading_pb2.KindValue(
            value="x-ray", score=0.5, sure=True, source=reading_pb2.KIND_SOURCE_CLASSIFIED, others=[_guess("ct", 0.25)]
        ),
        name="chest-x-ray",
    )
    item = reading_pb2.ChecklistItem(id="lungs", title="Lungs", text="Compare the lungs.")
    label = reading_pb2.LabelEvidence(
        value="pneumonia", cases=3, share=0.5, low=0.25, high=0.75, prior=0.25, lift=2, enough=True, ids=["r1"]
    )
    evidence = reading_pb2.ReadEvidence(
        cases=6, records=9, facets=[reading_pb2.FacetEvidence(facet="finding", labelled=6, values=[label])]
    )
    evidence.where["modality"].values.append("x-ray")
    evidence.guesses.add(facet="modality", values=[_guess("x-ray", 0.5)], known=True)
    step = reading_pb2.ReadStep(
        item="lungs", text="Three.", source=reading_pb2.STEP_SOURCE_RULES, state=reading_pb2.STEP_STATE_SUPPORTED
    )
    doubt = reading_pb2.ReadStep(
        item="lungs",
        text="The model says otherwise.",
        source=reading_pb2.STEP_SOURCE_MODEL,
        state=reading_pb2.STEP_STATE_CONTRADICTED,
        claim="No.",
    )
    named = reading_pb2.ReadLabel(
        state=reading_pb2.LABEL_STATE_NAMED,
        finding="pneumonia",
        basis=["evidence"],
        properties=[reading_pb2.LabelProperty(facet="plane", value="frontal")],
        text="Pneumonia: 3 of 6.",
    )
    context = reading_pb2.ReadContext(
        notes=[
            reading_pb2.ContextNote(text="A fact.", title="pneumonia", provider="glossary"),
            reading_pb2.ContextNote(text="Seen.", title="T", provider="openi", image=b"jpeg", image_credit="by"),
        ]
    )
    summary = reading_pb2.ReadStep(
        text="Three of six.", source=reading_pb2.STEP_SOURCE_SUMMARY, state=reading_pb2.STEP_STATE_SUPPORTED
    )
    done = reading_pb2.ReadDone(
        finish=reading_pb2.READ_FINISH_COMPLETE,
        not_for_diagnosis=True,
        disclaimer="Not for diagnosis.",
        engine="composed",
        summariser="scripted",
        timings=timings_pb2.Timings(total_ms=2.0),
    )
    return [
        reader_pb2.ReadResponse(kind=kind),
        reader_pb2.ReadResponse(checklist=reading_pb2.ReadChecklist(name="chest-x-ray", title="Chest", items=[item])),
        reader_pb2.ReadResponse(evidence=evidence),
        reader_pb2.ReadResponse(reading=step),
        reader_pb2.ReadResponse(reading=doubt),
        reader_pb2.ReadResponse(label=named),
        reader_pb2.ReadResponse(similar=reading_pb2.ReadSimilar()),
        reader_pb2.ReadResponse(context=context),
        reader_pb2.ReadResponse(reading=summary),
        reader_pb2.ReadResponse(done=done),
    ]


def _guess(value: str, score: float) -> image_pb2.ValueGuess:
    return image_pb2.ValueGuess(value=value, probability=score)


@dataclass
class ScriptedReader(reader_pb2_grpc.ReaderServiceServicer):
    """Sends `events`; with `error` it fails after `error_after` of them, with `gate` it waits for it after the first."""

    error: MirageError | None = None
    error_after: int = 0
    gate: asyncio.Event | None = None
    model: model_pb2.Model | None = None
    asked: list[reader_pb2.ReadRequest] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def Read(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        try:
            for number, event in enumerate(events()):
                if self.error and number == self.error_after:
                    await context.abort(grpc_status(self.error), self.error.message, to_trailers(self.error))
                yield event
                if self.gate:
                    await self.gate.wait()
        finally:
            self.ended.set()

    async def GetModel(self, request: Any, context: Any) -> Any:
        return reader_pb2.GetModelResponse(model=self.model)


async def serve(script: ScriptedReader) -> tuple[grpc.aio.Server, str]:
    """A running server that says that it serves, and its address."""
    server, healths = grpc.aio.server(), health.aio.HealthServicer()
    reader_pb2_grpc.add_ReaderServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await healths.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    return server, f"127.0.0.1:{port}"
