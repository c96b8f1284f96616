"""Conversion between protobuf messages and the retriever's own values."""

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.kept import Kept
from mirage_core.pixels import WINDOWS_MAX
from mirage_core.regions import REGIONS_BYTES, REGIONS_MAX, Region, RegionMap
from mirage_core.rpc_errors import problem_to_proto
from mirage_core.vectors import vector_from_proto
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import collection_pb2, facet_pb2, flag_pb2, query_pb2, record_pb2, timings_pb2
from mirage_retriever.browse import Case
from mirage_retriever.calibration import Calibration, Kind
from mirage_retriever.collections import CollectionState
from mirage_retriever.facets import FacetCounts, display_name
from mirage_retriever.flags import REASONS, Flag, FlagStore
from mirage_retriever.hybrid import Section
from mirage_retriever.incoming import Head, Outcome
from mirage_retriever.query import Given, Id, Image, Mode, Order, Query, Term, Text, Value
from mirage_retriever.records import Record
from mirage_retriever.reply import Reply, Wording
from mirage_retriever.words.regions import named_regions

_MODES = {
    query_pb2.VECTOR_SPACE_IMAGE: Mode.IMAGES,
    query_pb2.VECTOR_SPACE_CAPTION: Mode.CAPTIONS,
    query_pb2.VECTOR_SPACE_FUSED: Mode.FUSED,
}
_SEARCH_MODES = {
    query_pb2.SEARCH_MODE_HYBRID: Mode.HYBRID,
    query_pb2.SEARCH_MODE_WORDS: Mode.WORDS,
    query_pb2.SEARCH_MODE_IMAGES: Mode.IMAGES,
    query_pb2.SEARCH_MODE_CAPTIONS: Mode.CAPTIONS,
}
_ORDERS = {
    query_pb2.RECORD_ORDER_NEWEST: Order.NEWEST,
    query_pb2.RECORD_ORDER_CASE: Order.CASE,
    query_pb2.RECORD_ORDER_RANDOM: Order.RANDOM,
}
_SECTIONS = {Section.WORDS: query_pb2.SECTION_WORDS, Section.LIKENESS: query_pb2.SECTION_LIKENESS}
_REASONS = {name: flag_pb2.FlagReason.Value(f"FLAG_REASON_{name.replace('-', '_').upper()}") for name in REASONS}


def query_from_proto(message: query_pb2.Query) -> Query:
    """Returns the query without checking it; raises REQUEST_MALFORMED for an unknown mode or vector space, or both."""
    mode: Mode | None = Mode.HYBRID
    if message.HasField("mode"):
        mode = _SEARCH_MODES.get(message.mode)
        if mode is None or message.HasField("vectors"):
            raise MirageError(Code.REQUEST_MALFORMED, field="mode")
    elif message.HasField("vectors"):
        mode = _MODES.get(message.vectors)
    if mode is None:
        raise MirageError(Code.REQUEST_MALFORMED, field="vectors")
    return Query(
        terms=terms_from_proto(message.terms),
        mode=mode,
        k=message.k if message.HasField("k") else limits.K_DEFAULT,
        where=facets_from_proto(message.where),
        min_score=message.min_score if message.HasField("min_score") else None,
        page_token=message.page_token,
        exclude_ids=tuple(message.exclude_ids),
        where_not=facets_from_proto(message.where_not),
        by_case=message.HasField("group_by") and _group_by(message.group_by),
        order=order_from_proto(message.order) if message.HasField("order") else None,
        seed=message.seed if message.HasField("seed") else None,
        variety=message.variety,
        positive=tuple(message.positive),
        negative=tuple(message.negative),
    )


def listing_from_proto(message: retriever_pb2.ListRecordsRequest) -> Query:
    """Returns the query behind a page of records."""
    return Query(
        (),
        where=facets_from_proto(message.where),
        where_not=facets_from_proto(message.where_not),
        order=order_from_proto(message.order) if message.HasField("order") else None,
        seed=message.seed if message.HasField("seed") else None,
    )


def _group_by(value: "query_pb2.GroupBy.ValueType") -> bool:
    if value not in (query_pb2.GROUP_BY_NONE, query_pb2.GROUP_BY_CASE):
        raise MirageError(Code.REQUEST_MALFORMED, field="group_by")
    return value == query_pb2.GROUP_BY_CASE


def order_from_proto(value: "query_pb2.RecordOrder.ValueType") -> Order:
    """Returns the order; raises REQUEST_MALFORMED for an unknown one."""
    if value not in _ORDERS:
        raise MirageError(Code.REQUEST_MALFORMED, field="order")
    return _ORDERS[value]


def terms_from_proto(messages: Sequence[query_pb2.Term]) -> tuple[Term, ...]:
    """The terms, unchecked."""
    # Counted before they are unpacked: each may hold megabytes.
    if len(messages) > limits.TERMS_MAX:
        raise MirageError(Code.TOO_MANY_TERMS, max=limits.TERMS_MAX, given=len(messages))
    return tuple(Term(_value(term), term.weight if term.HasField("weight") else 1.0) for term in messages)


def _value(term: query_pb2.Term) -> Value | None:
    match term.WhichOneof("value"):
        case "text":
            return Text(term.text)
        case "image":
            return Image(term.image)
        case "id":
            return Id(term.id)
        case "vector":
            return Given(vector_from_proto(term.vector))
        case _:
            return None


def facets_from_proto(messages: Mapping[str, facet_pb2.StringList]) -> dict[str, tuple[str, ...]]:
    """Facet names to values, unchecked."""
    return {name: tuple(values.values) for name, values in messages.items()}


def reply_to_proto(reply: Reply, flags: FlagStore, collection: str = "") -> query_pb2.SearchReply:
    """The answer to a search of a collection that the request named, or of the active one."""
    terms = [
        query_pb2.TermShare(
            label=term.label, weight=term.weight, share=share, tokens=term.tokens, truncated=term.truncated
        )
        for term, share in zip(reply.terms, () if reply.query is None else reply.query.shares, strict=True)
    ]
    message = query_pb2.SearchReply(
        match=query_pb2.Match.ValueType(reply.match),
        query=query_pb2.QueryReport(
            tokens=sum(term.tokens for term in reply.terms),
            truncated=any(term.truncated for term in reply.terms),
            shift=0.0 if reply.query is None else reply.query.shift,
            terms=terms,
        ),
        timings=timings_pb2.Timings(
            queue_ms=max((term.queue_ms for term in reply.terms), default=0.0),
            inference_ms=max((term.inference_ms for term in reply.terms), default=0.0),
            search_ms=reply.search_ms,
            total_ms=reply.total_ms,
            cached=reply.cached,
        ),
        next_page_token=reply.next_page_token,
        fingerprint=reply.fingerprint,
        total=reply.total,
        match_pending=reply.match_pending,
    )
    for found in reply.results:
        result = message.results.add(score=found.score, cosine=found.cosine)
        stored, regions = _stored(found.record)
        result.record.MergeFromString(stored)
        for region in named_regions(regions, reply.naming):
            result.record.regions.add(**vars(region))
        _fill_rest(result.record, flags, collection)
        if found.case is not None:
            result.case.id, result.case.images = found.case
        if found.matched is not None:
            result.section = _SECTIONS[found.section]
            for path, spans in found.matched.items():
                result.matched[path].spans.extend(query_pb2.Span(start=start, end=end) for start, end in spans)
    if reply.words is not None:
        message.words.CopyFrom(_words(reply.words))
    return message


def _words(words: Wording) -> query_pb2.WordsReport:
    return query_pb2.WordsReport(
        expanded=[query_pb2.ExpandedWord(given=given, others=others) for given, others in words.expanded.items()],
        corrected=[query_pb2.CorrectedWord(given=each.given, used=each.used) for each in words.corrected],
        labels=[query_pb2.NamedLabel(facet=each.facet, value=each.value, count=each.count) for each in words.named],
    )


def _fields(*, repeated: bool) -> tuple[str, ...]:
    """Returns the fields that a record has under the same name on both sides: numbers and texts, or lists of texts."""
    known = record_pb2.Record.DESCRIPTOR.fields_by_name
    names = (each.name for each in fields(Record) if each.name in known)
    return tuple(name for name in names if known[name].message_type is None and known[name].is_repeated == repeated)


_FIELDS = frozenset(record_pb2.Record.DESCRIPTOR.fields_by_name)
_PLAIN, _LISTS = _fields(repeated=False), _fields(repeated=True)
# The retriever sets them itself.
_OWN = frozenset({"image_sha256", "image_type", "width", "height", "original_sha256", "original_regions_sha256"})


# Records of results as messages, by their text.
_kept = Kept[str, tuple[bytes, tuple[Region, ...]]](16 * 2**20)


def _stored(text: str) -> tuple[bytes, tuple[Region, ...]]:
    """A stored record as a message without regions, and its regions."""
    found = _kept.get(text)
    if found is None:
        stored = json.loads(text)
        regions = tuple(map(Region.from_json, stored.pop("regions", ())))
        found = _message(stored).SerializeToString(), regions
        _kept.put(text, found, sys.getsizeof(text) + len(found[0]) + 500 * (1 + len(regions)))
    return found


def _message(stored: Mapping[str, Any]) -> record_pb2.Record:
    """The message of a record's fields, as its JSON has them."""
    known = {name: value for name, value in stored.items() if value and name in _FIELDS}
    known["labels"] = {name: {"values": values} for name, values in stored["labels"].items()}
    known["original_sha256"] = stored.get("original_sha256") or stored["image_sha256"]
    return record_pb2.Record(**known)


def fill_record(message: record_pb2.Record, record: Record, flags: FlagStore, collection: str = "") -> None:
    """Writes the record into a message, with the number of its flags and the collection that the request named."""
    pixels = None if record.pixels is None else record.pixels.to_json()
    message.MergeFrom(_message({**vars(record), "pixels": pixels, "regions": list(map(vars, record.regions))}))
    _fill_rest(message, flags, collection)


def _fill_rest(message: record_pb2.Record, flags: FlagStore, collection: str) -> None:
    message.collection = collection
    message.flags = flags.count(message.id)


def case_to_proto(case: Case, flags: FlagStore, collection: str) -> record_pb2.Case:
    """A case with its records."""
    message = record_pb2.Case(id=case.id, title=case.first("title"), history=case.first("history"), images=case.images)
    for record in case.records:
        fill_record(message.records.add(), record, flags, collection)
    return message


def facet_to_proto(counts: FacetCounts) -> facet_pb2.Facet:
    """A facet with its counts."""
    message = facet_pb2.Facet(
        name=counts.name,
        values=[
            facet_pb2.FacetValue(value=value, count=count, display=display_name(counts.name, value))
            for value, count in counts.values
        ],
    )
    if counts.rare:
        message.other.values.extend(counts.rare)
        message.other.count = counts.rare_count
    return message


async def parts_from_proto(
    first: retriever_pb2.UpsertRecordsRequest,
    rest: AsyncIterator[retriever_pb2.UpsertRecordsRequest],
) -> AsyncIterator[Head | bytes]:
    """The pieces of an upsert; raises REQUEST_MALFORMED for an empty one."""
    async for request in _chain(first, rest):
        match request.part.WhichOneof("part"):
            case "record":
                yield _head(request.part.record)
            case "image_chunk":
                yield request.part.image_chunk
            case _:
                raise MirageError(Code.REQUEST_MALFORMED, field="part")


async def _chain(
    first: retriever_pb2.UpsertRecordsRequest,
    rest: AsyncIterator[retriever_pb2.UpsertRecordsRequest],
) -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
    yield first
    async for request in rest:
        yield request


def _head(message: record_pb2.RecordHead) -> Head:
    record = message.record
    same: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN if name not in _OWN}
    same |= {name: tuple(getattr(record, name)) for name in _LISTS}
    return Head(
        Record(
            labels=facets_from_proto(record.labels),
            original_labels=dict(record.original_labels),
            **same,
        ),
        image_vector=vector_from_proto(message.image_vector) if message.HasField("image_vector") else None,
        caption_vector=vector_from_proto(message.caption_vector) if message.HasField("caption_vector") else None,
        fingerprint=message.fingerprint,
        pixels=_pixels(message.pixels) if message.HasField("pixels") else None,
        regions=_regions(message.regions) if message.HasField("regions") else None,
    )


def _regions(message: record_pb2.RegionMap) -> RegionMap:
    # One more than is allowed is enough to be refused.
    legend = (Region(each.id, each.name, each.group, each.colour) for each in message.legend[: REGIONS_MAX + 1])
    return RegionMap(message.png[: REGIONS_BYTES + 1], tuple(legend))


def _pixels(message: record_pb2.Pixels) -> dict[str, Any]:
    """Pixels as JSON, unchecked."""
    return {
        "bits": message.bits,
        "slope": message.slope,
        "intercept": message.intercept,
        "unit": message.unit,
        # One more than is allowed is enough to refuse them.
        "windows": [
            {"name": window.name, "center": window.center, "width": window.width}
            for window in message.windows[: WINDOWS_MAX + 1]
        ],
    }


def outcome_to_proto(outcome: Outcome) -> record_pb2.UpsertOutcome:
    """Converts the outcome of one record."""
    return record_pb2.UpsertOutcome(
        id=outcome.id,
        state=record_pb2.UpsertState.ValueType(outcome.state),
        error=None if outcome.error is None else problem_to_proto(outcome.error),
        left_out=outcome.left_out,
    )


def flag_to_proto(flag: Flag) -> flag_pb2.Flag:
    """Returns a flag's message."""
    message = flag_pb2.Flag(id=flag.id, record_id=flag.record_id, reason=_REASONS[flag.reason], comment=flag.comment)
    message.create_time.FromDatetime(datetime.fromisoformat(flag.create_time))
    return message


def reason_from_proto(reason: "flag_pb2.FlagReason.ValueType") -> str:
    """Returns the reason as it is stored; raises FLAG_INVALID for an unknown one."""
    for name, number in _REASONS.items():
        if number == reason:
            return name
    raise MirageError(Code.FLAG_INVALID, field="reason", known=", ".join(REASONS))


def collection_to_proto(state: CollectionState) -> collection_pb2.Collection:
    """A collection."""
    return collection_pb2.Collection(
        name=state.collection.name,
        active=state.active,
        engine=state.engine,
        records=state.records,
        indexed=state.indexed,
        dimension=state.collection.dimension,
        fingerprint=state.collection.fingerprint,
        revision=state.revision,
        calibration=None if state.calibration is None else _calibration(state.calibration),
    )


def _calibration(calibration: Calibration) -> collection_pb2.Calibration:
    message = collection_pb2.Calibration(records=calibration.records)
    for name, kind in calibration.kinds.items():
        message.kinds[name].CopyFrom(_kind(kind))
    return message


def _kind(kind: Kind) -> collection_pb2.KindCalibration:
    return collection_pb2.KindCalibration(
        trusted=kind.trusted,
        good=None if kind.thresholds is None else kind.thresholds.good,
        weak=None if kind.thresholds is None else kind.thresholds.weak,
        auroc=kind.auroc,
        recall=None if kind.recall is None else collection_pb2.Recall(**asdict(kind.recall)),
    )
