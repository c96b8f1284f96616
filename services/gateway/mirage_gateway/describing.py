"""An explanation of what a query finds: retrieval, checked sentences, and a second retrieval with those of the model.

If the language model is down, busy or too slow, the text is made of sentences of the captions, and says so.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from mirage_api.limits import CAPTIONS_DEFAULT, CAPTIONS_MAX
from mirage_core import limits, telemetry, tracing
from mirage_core.describe_options import check_describe_options
from mirage_core.errors import Code, MirageError, Status
from mirage_core.extractive import extract
from mirage_core.fusion import reciprocal_rank
from mirage_gateway.dependencies import Dependencies
from mirage_gateway.settings import GatewaySettings
from mirage_protos.llm.v1 import llm_pb2
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import description_pb2, mirage_service_pb2, query_pb2

_log = telemetry.get_logger()
_written = telemetry.counter(
    "gateway_descriptions_total", "Descriptions, by who wrote them and why they ended.", ("source", "finish")
)
_first_sentence = telemetry.histogram(
    "gateway_first_sentence_seconds", "Until the first sentence of a description.", ()
)

# Both rankings are this long, whatever k is: a record that both hold far down still fits better than one that one holds.
RANKED = 10
SENTENCES_MAX = 16
LOOK_ALIKES = 2
TITLE_CHARS = 500

Event = mirage_service_pb2.DescribeResponse
Search = Callable[[query_pb2.Query], Awaitable[query_pb2.SearchReply]]
_FROM_CAPTIONS = "These sentences are taken from the captions."
_NOT_RANKED = "The images are not ranked by this text, because it is made of their captions."
_UNGROUNDED = (query_pb2.MATCH_WEAK, query_pb2.MATCH_NONE)


@dataclass
class _Course:
    """The progress of one description."""

    query: query_pb2.Query
    started: float = field(default_factory=time.perf_counter)
    search_ms: float = 0.0
    began: bool = False
    first_sentence_ms: float = 0.0
    sentences: list[description_pb2.DescribeSentence] = field(default_factory=list)
    end: description_pb2.DescribeDone | None = None

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000

    def show(self, sentence: description_pb2.DescribeSentence) -> Event:
        if not self.sentences:
            self.first_sentence_ms = self.elapsed_ms
            _first_sentence.observe(self.first_sentence_ms / 1000)
        self.sentences.append(sentence)
        return Event(sentence=sentence)


class Describer:
    """Composes descriptions. `search` runs the first retrieval, `parts` the rest; it keeps nothing between calls."""

    def __init__(self, parts: Dependencies, settings: GatewaySettings, search: Search) -> None:
        self._parts = parts
        self._settings = settings
        self._search = search

    async def describe(
        self,
        query: query_pb2.Query,
        options: description_pb2.DescribeOptions,
        against: query_pb2.Query | None = None,
    ) -> AsyncGenerator[Event]:
        """Yields the events of MirageService's Describe, with `against` about the difference. Close it to stop the model.

        Raises MirageError: what a search raises, K_OUT_OF_RANGE, OPTION_OUT_OF_RANGE and TOO_MANY_ITEMS before the first
        event; later only what the language model refuses.
        """
        course = _Course(
            query_pb2.Query(
                vectors=query.vectors if query.HasField("vectors") else None,
                where=query.where,
                exclude_ids=query.exclude_ids,
                collection=query.collection,
            )
        )
        k, words = _check(query, options)
        wider = query_pb2.Query()
        wider.CopyFrom(query)
        wider.k = max(k, RANKED)
        searching = self._search(wider)
        other_side = None
        if against is not None:
            _check(against, options)
            second = query_pb2.Query()
            second.CopyFrom(against)
            second.k = k
            other_side = self._search(second)
        # The rest may take minutes, and does not need the images of the query.
        named = {term.id for term in query.terms if term.WhichOneof("value") == "id"}
        del query, wider
        with tracing.span("describe.retrieve"):
            found = await searching
        course.search_ms = found.timings.search_ms
        yield Event(retrieval=_first(found, k))
        sources, match = _sources(named, found, k)
        request = llm_pb2.DescribeRequest(
            query=words,
            captions=map(_source, sources),
            match=match,
            options=options,
            look_alikes=() if other_side else look_alikes(found.results),
        )
        if other_side:
            others = await other_side
            course.search_ms += others.timings.search_ms
            yield Event(against=_first(others, k))
            request.query = ""
            request.against.extend(map(_source, others.results[:k]))
            if not others.results or others.match in _UNGROUNDED:
                request.match = others.match or query_pb2.MATCH_NONE
        try:
            async with aclosing(self._from_model(request, course)) as events:
                async for event in events:
                    yield event
        except MirageError as error:
            if error.entry.status is Status.INVALID_ARGUMENT:
                raise
            _log.warning("description without the language model", code=error.code)
            if against is not None:
                course.end = description_pb2.DescribeDone(
                    source=description_pb2.DESCRIPTION_SOURCE_NONE,
                    finish=description_pb2.DESCRIPTION_FINISH_NO_MODEL,
                    notice=f"{_reason(error)} The two sides could not be compared.",
                )
            else:
                for event in _from_captions(request, error, course):
                    yield event
        end = course.end or description_pb2.DescribeDone()
        # Images are not ranked by a difference: it is of none.
        if end.source == description_pb2.DESCRIPTION_SOURCE_EXTRACTIVE and against is None:
            end.notice = f"{end.notice} {_NOT_RANKED}"
        elif end.text and against is None:
            try:
                with tracing.span("describe.rank"):
                    ranking = await self._rank(end, found, course)
                yield Event(ranking=ranking)
            except MirageError as error:
                _log.warning("description without a second ranking", code=error.code)
                end.notice = f"{end.notice} The images could not be ranked by this text.".strip()
        end.first_sentence_ms = course.first_sentence_ms
        end.timings.search_ms = course.search_ms
        end.timings.total_ms = course.elapsed_ms
        _count(end)
        yield Event(done=end)

    async def _from_model(self, request: llm_pb2.DescribeRequest, course: _Course) -> AsyncGenerator[Event]:
        if not request.captions:
            course.end = description_pb2.DescribeDone(
                source=description_pb2.DESCRIPTION_SOURCE_NONE,
                finish=description_pb2.DESCRIPTION_FINISH_NO_MATCH,
                notice="No image passes the filters, so there is nothing to explain.",
            )
            return
        if self._parts.llm is None:
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="llm")
        messages = self._parts.listen(
            self._parts.llm.Describe, request, timeout_s=self._settings.describe_timeout_s, service="llm"
        )
        async with aclosing(messages):
            async for message in messages:
                match message.WhichOneof("event"):
                    case "start":
                        course.began = True
                        yield Event(start=message.start)
                    case "sentence":
                        yield course.show(message.sentence)
                    case "difference":
                        course.show(message.difference)
                        yield Event(difference=message.difference)
                    case "done":
                        course.end = message.done
        if course.end is None:
            raise MirageError(Code.INTERNAL)

    async def _rank(
        self, end: description_pb2.DescribeDone, found: query_pb2.SearchReply, course: _Course
    ) -> description_pb2.DescribeRanking:
        sentences = [each.text for each in end.sentences if each.kind == description_pb2.SENTENCE_KIND_CAPTION]
        request = retriever_pb2.SearchRequest(query=course.query)
        request.query.k = RANKED
        for sentence in sentences[:SENTENCES_MAX]:
            request.query.terms.add(text=sentence[: limits.TEXT_CHARS])
        response = await self._parts.ask(
            self._parts.retriever.Search,
            request,
            timeout_s=self._settings.search_timeout_s,
        )
        second = response.reply
        course.search_ms += second.timings.search_ms
        first = [each.record.id for each in found.results[:RANKED]]
        cut = any(len(sentence) > limits.TEXT_CHARS for sentence in sentences)
        return description_pb2.DescribeRanking(
            first=first,
            second=second.results,
            best=fuse(first, [each.record.id for each in second.results]),
            sentences=min(len(sentences), SENTENCES_MAX),
            truncated=second.query.truncated or cut or len(sentences) > SENTENCES_MAX,
        )


def query_words(terms: Sequence[query_pb2.Term]) -> str:
    """A query in words, for the prompt: "q without minus, with plus"; empty without words, as for an image alone."""
    signed = [
        (term.text.strip(), term.weight if term.HasField("weight") else 1.0) for term in terms if term.text.strip()
    ]
    plus = [text for text, weight in signed if weight > 0]
    minus = [text for text, weight in signed if weight < 0]
    others = any(term.WhichOneof("value") not in ("text", None) for term in terms)
    base = "this image" if others else plus.pop(0) if plus else ""
    if not plus and not minus:
        return "" if others else base
    changes = [*(f"without {text}" for text in minus), *(f"with {text}" for text in plus)]
    return f"{base} {', '.join(changes)}".strip()


def fuse(first: Sequence[str], second: Sequence[str]) -> str:
    """The id that both rankings together put first, by reciprocal rank (k = 60; Cormack et al., SIGIR 2009).

    A tie goes to the earlier one in `first`; empty if both rankings are.
    """
    scores = reciprocal_rank([first, second])
    return max(scores, key=lambda record: scores[record], default="")


def _check(query: query_pb2.Query, options: description_pb2.DescribeOptions) -> tuple[int, str]:
    """k and the query's words; everything that can be refused before anything runs is refused here."""
    k = query.k if query.HasField("k") else CAPTIONS_DEFAULT
    if not 1 <= k <= CAPTIONS_MAX:
        raise MirageError(Code.K_OUT_OF_RANGE, field="k", min=1, max=CAPTIONS_MAX, given=k)
    if not (query.terms or query.positive):
        raise MirageError(Code.EMPTY_QUERY)
    check_describe_options(
        max_tokens=options.max_tokens if options.HasField("max_tokens") else None,
        temperature=options.temperature if options.HasField("temperature") else None,
        top_p=options.top_p if options.HasField("top_p") else None,
        seed=options.seed if options.HasField("seed") else None,
        stop=options.stop,
    )
    words = query_words(query.terms)
    if len(words) > limits.TEXT_CHARS:
        raise MirageError(Code.TEXT_TOO_LONG, max=limits.TEXT_CHARS, given=len(words))
    return k, words


def look_alikes(results: Sequence[query_pb2.Result]) -> list[llm_pb2.SourceCaption]:
    """The best results with another title than the first: at most `LOOK_ALIKES`, each of another title and case.

    None if the first is without a title: then nothing says that another is something else.
    """
    if not results or not results[0].record.title.strip():
        return []
    titles = {each.record.title.strip().casefold() for each in results[:1]}
    cases = {each.record.case_id for each in results[:1] if each.record.case_id}
    found = []
    for each in (result.record for result in results[1:RANKED]):
        title = each.title.strip().casefold()
        if title and title not in titles and each.case_id not in cases and each.caption.strip():
            titles.add(title)
            found.append(llm_pb2.SourceCaption(id=each.id, text=each.caption, title=each.title[:TITLE_CHARS]))
    return found[:LOOK_ALIKES]


def _sources(
    named: Collection[str], found: query_pb2.SearchReply, k: int
) -> tuple[Sequence[query_pb2.Result], query_pb2.Match.ValueType]:
    """The results to write from, and the match. A record that the query names is described whatever it resembles."""
    own = [each for each in found.results[:k] if each.record.id in named]
    if found.match in _UNGROUNDED and own:
        return own, query_pb2.MATCH_NOT_JUDGED
    return found.results[:k], found.match


def _source(result: query_pb2.Result) -> llm_pb2.SourceCaption:
    return llm_pb2.SourceCaption(id=result.record.id, text=result.record.caption)


def _first(found: query_pb2.SearchReply, k: int) -> query_pb2.SearchReply:
    """The reply with its k best results. It has no next page: that of a longer list would not follow on."""
    reply = query_pb2.SearchReply()
    reply.CopyFrom(found)
    del reply.results[k:]
    reply.next_page_token = ""
    return reply


def _from_captions(request: llm_pb2.DescribeRequest, error: MirageError, course: _Course) -> Iterator[Event]:
    """The answer without the model; sentences that it had sent before it failed stay."""
    if request.match in _UNGROUNDED:
        course.end = description_pb2.DescribeDone(
            source=description_pb2.DESCRIPTION_SOURCE_NONE,
            finish=description_pb2.DESCRIPTION_FINISH_NO_MATCH,
            notice="No image of the atlas answers this well, so there is nothing to explain.",
        )
        return
    if not course.began:
        yield Event(start=description_pb2.DescribeStart(used_ids=[each.id for each in request.captions]))
    for text, ids in extract([(each.id, each.text) for each in request.captions], query=request.query):
        if all(text != each.text for each in course.sentences):
            yield course.show(
                description_pb2.DescribeSentence(
                    text=text,
                    ids=ids,
                    kind=description_pb2.SENTENCE_KIND_EXTRACT,
                    block=description_pb2.SENTENCE_BLOCK_SEE,
                )
            )
    late = error.code is Code.DEADLINE_EXCEEDED
    course.end = description_pb2.DescribeDone(
        text=" ".join(each.text for each in course.sentences),
        source=description_pb2.DESCRIPTION_SOURCE_EXTRACTIVE,
        finish=description_pb2.DESCRIPTION_FINISH_TOO_SLOW if late else description_pb2.DESCRIPTION_FINISH_NO_MODEL,
        notice=f"{_reason(error)} {_FROM_CAPTIONS}",
        sentences=course.sentences,
        shown=len(course.sentences),
    )


def _reason(error: MirageError) -> str:
    match error.code:
        case Code.QUEUE_FULL:
            wait = f"; try again in {max(1, round(error.retry_after_s))} s" if error.retry_after_s else ""
            return f"The language model is busy{wait}."
        case Code.DEADLINE_EXCEEDED:
            return "The language model was too slow."
        case Code.DEPENDENCY_UNAVAILABLE | Code.MODEL_NOT_READY:
            return "The language model is not available at the moment."
        case _:
            return "The language model failed."


_SOURCES: Mapping[int, str] = {
    description_pb2.DESCRIPTION_SOURCE_MODEL: "model",
    description_pb2.DESCRIPTION_SOURCE_EXTRACTIVE: "extractive",
}


def _count(end: description_pb2.DescribeDone) -> None:
    finish = description_pb2.DescriptionFinish.Name(end.finish).removeprefix("DESCRIPTION_FINISH_").lower()
    _written.labels(_SOURCES.get(end.source, "nobody"), finish).inc()
