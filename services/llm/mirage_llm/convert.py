"""Conversion between protobuf messages and questions, events and models."""

from collections.abc import Iterable
from dataclasses import asdict

from mirage_core.describe_options import MAX_TOKENS_DEFAULT
from mirage_core.errors import Code, MirageError
from mirage_inference.llm.checking import Checked
from mirage_inference.llm.request import Caption, Match, Question, Writing
from mirage_llm.events import Difference, Ended, Event, Started
from mirage_llm.writers import WriterInfo
from mirage_protos.llm.v1 import llm_pb2
from mirage_protos.v1 import description_pb2, model_pb2, timings_pb2


def question_from_proto(request: llm_pb2.DescribeRequest) -> Question:
    """Returns the question of a request, with defaults for omitted options."""
    options = request.options
    return Question(
        query=request.query,
        captions=_captions(request.captions),
        look_alikes=_captions(request.look_alikes),
        against=_captions(request.against),
        match=_match(request.match),
        writing=Writing(
            max_tokens=options.max_tokens if options.HasField("max_tokens") else MAX_TOKENS_DEFAULT,
            temperature=options.temperature,
            top_p=options.top_p if options.HasField("top_p") else 1.0,
            seed=options.seed if options.HasField("seed") else None,
            stop=tuple(options.stop),
        ),
    )


def _captions(captions: Iterable[llm_pb2.SourceCaption]) -> tuple[Caption, ...]:
    return tuple(Caption(caption.id, caption.text, caption.title) for caption in captions)


def _match(number: int) -> Match:
    try:
        return Match(number)
    except ValueError:
        raise MirageError(Code.REQUEST_MALFORMED, field="match") from None


def event_to_proto(event: Event, fingerprint: str) -> llm_pb2.DescribeResponse:
    """Returns the message for an event; `fingerprint` is the model's."""
    match event:
        case Started():
            start = description_pb2.DescribeStart(
                used_ids=event.used,
                dropped_ids=event.dropped,
                prompt_tokens=event.prompt_tokens,
                cached_tokens=event.cached_tokens,
                seed=event.seed,
                fingerprint=fingerprint,
                shortened=event.shortened,
            )
            return llm_pb2.DescribeResponse(start=start)
        case Difference():
            return llm_pb2.DescribeResponse(difference=_sentence(event.sentence))
        case Checked():
            return llm_pb2.DescribeResponse(sentence=_sentence(event))
        case Ended():
            return llm_pb2.DescribeResponse(done=_end(event))


def _sentence(checked: Checked) -> description_pb2.DescribeSentence:
    return description_pb2.DescribeSentence(
        text=checked.text,
        ids=checked.ids,
        kind=description_pb2.SentenceKind.ValueType(checked.kind),
        block=description_pb2.SentenceBlock.ValueType(checked.block),
    )


def _end(event: Ended) -> description_pb2.DescribeDone:
    return description_pb2.DescribeDone(
        text=event.text,
        source=description_pb2.DescriptionSource.ValueType(event.source),
        finish=description_pb2.DescriptionFinish.ValueType(event.finish),
        tokens=event.tokens,
        first_sentence_ms=event.first_sentence_ms,
        timings=timings_pb2.Timings(queue_ms=event.queue_ms, inference_ms=event.inference_ms, total_ms=event.total_ms),
        notice=event.notice,
        sentences=map(_sentence, event.sentences),
        shown=len(event.sentences),
        withheld=event.withheld,
    )


def info_to_proto(info: WriterInfo) -> model_pb2.Model:
    """Returns the description of what writes."""
    return model_pb2.Model(kind=model_pb2.MODEL_KIND_LLM, **asdict(info))
