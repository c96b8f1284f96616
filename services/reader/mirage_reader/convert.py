"""Conversion between protobuf messages and queries, events and models."""

from typing import cast

from mirage_core.errors import Code, MirageError
from mirage_protos.reader.v1 import reader_pb2
from mirage_protos.v1 import facet_pb2, image_pb2, model_pb2, query_pb2, reading_pb2, timings_pb2
from mirage_reader.atlas import Neighbour, Subject
from mirage_reader.checklists import Checklist
from mirage_reader.context import Context
from mirage_reader.engines.base import ModelInfo
from mirage_reader.events import DISCLAIMER, ChecklistShown, Done, Event, KindFound, Similar
from mirage_reader.evidence import Evidence
from mirage_reader.kinds import Correction, FacetGuess, KindValue, ValueGuess
from mirage_reader.labels import Label
from mirage_reader.reader import Query, check_query
from mirage_reader.steps import Step


def query_from_proto(query: reading_pb2.ReadQuery) -> Query:
    """Returns a query; raises EMPTY_QUERY and what `check_query` raises."""
    if query.WhichOneof("subject") is None:
        raise MirageError(Code.EMPTY_QUERY)
    if query.WhichOneof("subject") == "image" and not query.image:
        raise MirageError(Code.IMAGE_EMPTY)
    made = Query(
        Subject(image=query.image, record_id=query.record_id, collection=query.collection),
        query.text,
        Correction(query.kind.modality, query.kind.body_part, query.kind.view),
        query.accept_any_image,
    )
    check_query(made)
    return made


def event_to_proto(event: Event) -> reader_pb2.ReadResponse:
    """Returns the message of an event."""
    match event:
        case KindFound():
            return reader_pb2.ReadResponse(kind=_kind(event))
        case ChecklistShown():
            return reader_pb2.ReadResponse(checklist=_checklist(event))
        case Evidence():
            return reader_pb2.ReadResponse(evidence=_evidence(event))
        case Step():
            return reader_pb2.ReadResponse(reading=_step(event))
        case Label():
            return reader_pb2.ReadResponse(label=_label(event))
        case Similar():
            similar = reading_pb2.ReadSimilar(
                results=map(_result, event.results), look_alikes=map(_result, event.look_alikes)
            )
            return reader_pb2.ReadResponse(similar=similar)
        case Context():
            return reader_pb2.ReadResponse(context=_context(event))
        case Done():
            return reader_pb2.ReadResponse(done=_done(event))


def model_to_proto(model: ModelInfo) -> model_pb2.Model:
    """Returns the description of a reading model. It runs elsewhere: it has neither fingerprint nor manifest here."""
    return model_pb2.Model(
        name=model.name,
        kind=model_pb2.MODEL_KIND_READER,
        engine=model.engine,
        source=model.source,
        licence=model.licence,
        manifest_json="{}",
    )


def _kind(event: KindFound) -> reading_pb2.ReadKind:
    kind = event.kind
    return reading_pb2.ReadKind(
        medical=image_pb2.ImageKind.ValueType(kind.medical),
        medical_score=kind.medical_score,
        modality=_kind_value(kind.modality),
        body_part=_kind_value(kind.body_part),
        view=_kind_value(kind.view),
        name=_name(event.checklist),
    )


def _kind_value(value: KindValue | None) -> reading_pb2.KindValue | None:
    if value is None:
        return None
    return reading_pb2.KindValue(
        value=value.value,
        score=value.score,
        sure=value.sure,
        source=reading_pb2.KindSource.ValueType(value.source),
        others=map(_guess, value.others),
    )


def _guess(guess: ValueGuess) -> image_pb2.ValueGuess:
    return image_pb2.ValueGuess(value=guess.value, probability=guess.score)


def _name(checklist: Checklist | None) -> str:
    return checklist.name if checklist else ""


def _checklist(event: ChecklistShown) -> reading_pb2.ReadChecklist:
    checklist = event.checklist
    return reading_pb2.ReadChecklist(
        name=_name(checklist),
        title=checklist.title if checklist else "",
        items=[
            reading_pb2.ChecklistItem(id=each.id, title=each.title, text=each.text, source=each.source)
            for each in (checklist.items if checklist else ())
        ],
        notice=event.notice,
    )


def _evidence(evidence: Evidence) -> reading_pb2.ReadEvidence:
    return reading_pb2.ReadEvidence(
        guesses=map(_facet_guess, evidence.guesses),
        where={name: facet_pb2.StringList(values=values) for name, values in evidence.where.items()},
        cases=evidence.cases,
        records=evidence.records,
        facets=[
            reading_pb2.FacetEvidence(
                facet=each.facet,
                labelled=each.labelled,
                values=[
                    reading_pb2.LabelEvidence(
                        value=label.value,
                        cases=label.cases,
                        share=label.share,
                        low=label.low,
                        high=label.high,
                        prior=label.prior,
                        lift=label.lift,
                        enough=label.enough,
                        ids=label.ids,
                    )
                    for label in each.values
                ],
            )
            for each in evidence.facets
        ],
        notice=evidence.notice,
    )


def _facet_guess(guess: FacetGuess) -> image_pb2.FacetGuess:
    return image_pb2.FacetGuess(facet=guess.facet, values=map(_guess, guess.values), known=guess.sure)


def _step(step: Step) -> reading_pb2.ReadStep:
    return reading_pb2.ReadStep(
        item=step.item,
        text=step.text,
        source=reading_pb2.StepSource.ValueType(step.source),
        state=reading_pb2.StepState.ValueType(step.state),
        ids=step.ids,
        claim=step.claim,
    )


def _label(label: Label) -> reading_pb2.ReadLabel:
    return reading_pb2.ReadLabel(
        state=reading_pb2.LabelState.ValueType(label.state),
        finding=label.finding,
        properties=[reading_pb2.LabelProperty(facet=facet, value=value) for facet, value in label.properties],
        basis=label.basis,
        text=label.text,
    )


def _result(neighbour: Neighbour) -> query_pb2.Result:
    return cast("query_pb2.Result", neighbour.shown)


def _context(context: Context) -> reading_pb2.ReadContext:
    notes = [
        reading_pb2.ContextNote(
            text=each.text,
            title=each.title,
            url=each.url,
            licence=each.licence,
            provider=each.provider,
            image=each.image,
            image_credit=each.image_credit,
        )
        for each in context.notes
    ]
    return reading_pb2.ReadContext(notes=notes, sent=context.sent, notice=context.notice)


def _done(done: Done) -> reading_pb2.ReadDone:
    return reading_pb2.ReadDone(
        finish=reading_pb2.ReadFinish.ValueType(done.finish),
        notice=done.notice,
        not_for_diagnosis=True,
        disclaimer=DISCLAIMER,
        shown=done.shown,
        withheld=done.withheld,
        engine=done.engine,
        evidence_ms=done.evidence_ms,
        timings=timings_pb2.Timings(total_ms=done.total_ms),
        summariser=done.summariser,
    )
