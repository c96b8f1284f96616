"""Records on their way in: a multipart form read as it comes, so that no image is held whole."""

from collections.abc import AsyncIterator

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from mirage_api.limits import UPLOAD_RECORDS_MAX
from mirage_api.records import RecordUpload
from mirage_core.errors import Code, MirageError
from mirage_gateway.convert import fill, to_message
from mirage_gateway.web.body import UPLOAD_BYTES, Intake, check_length, check_media_type
from mirage_gateway.web.json_bounds import JsonBounds, parse
from mirage_protos.v1 import record_pb2

MEDIA_TYPE = "multipart/form-data"
# A caption of 20,000 characters, two vectors and a label map, with room.
_RECORD = JsonBounds(plain=2**20, vectors=2**20)
_PART_HEAD_BYTES = 8 * 2**10


class Upload:
    """The records of one form: a part named `record` (JSON), then one named `image` (the file), 1 to 64 times.

    `failure` is the error that ended `parts` early: gRPC cancels a call whose sender fails and keeps no reason.
    """

    def __init__(self, request: Request, intake: Intake) -> None:
        check_length(request, UPLOAD_BYTES)
        _, options = parse_options_header(check_media_type(request, MEDIA_TYPE))
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= 200:
            raise MirageError(Code.REQUEST_MALFORMED, field="boundary")
        self.failure: MirageError | None = None
        self._request = request
        self._intake = intake
        self._ready: list[record_pb2.RecordPart] = []
        self._records = 0
        self._name = ""
        self._document = bytearray()
        self._image = bytearray()
        self._header, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    async def parts(self) -> AsyncIterator[record_pb2.RecordPart]:
        """The records as messages. Raises REQUEST_MALFORMED, REQUEST_TOO_LARGE or TOO_MANY_ITEMS."""
        try:
            async for chunk in self._intake.stream(self._request, UPLOAD_BYTES):
                self._parser.write(chunk)
                self._pass_image_on()
                ready, self._ready = self._ready, []
                for part in ready:
                    yield part
            if not self._ended:
                raise MirageError(Code.REQUEST_MALFORMED, field="body")
            if not self._records:
                self._refuse_count(0)
        except MultipartParseError as error:
            self.failure = MirageError(Code.REQUEST_MALFORMED, field="body")
            raise self.failure from error
        except MirageError as error:
            self.failure = error
            raise

    def _begin(self) -> None:
        self._name = ""
        self._document.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._check_part_head()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_part_head()

    def _check_part_head(self) -> None:
        if len(self._header) + len(self._value) > _PART_HEAD_BYTES:
            raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=_PART_HEAD_BYTES)

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        if self._name not in ("record", "image") or (self._name == "image" and not self._records):
            raise MirageError(Code.REQUEST_MALFORMED, field=self._name[:100] or "content-disposition")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "image":
            # The parser may give single bytes, where they look like the beginning of a boundary.
            self._image += data[start:end]
            return
        self._document += data[start:end]
        if len(self._document) > _RECORD.largest:
            raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=_RECORD.largest)

    def _pass_image_on(self) -> None:
        if self._image:
            self._ready.append(record_pb2.RecordPart(image_chunk=bytes(self._image)))
            self._image.clear()

    def _end(self) -> None:
        if self._name != "record":
            self._pass_image_on()
            return
        self._records += 1
        if self._records > UPLOAD_RECORDS_MAX:
            self._refuse_count(self._records)
        record, _, _ = parse(RecordUpload, self._document, _RECORD)
        self._ready.append(record_pb2.RecordPart(record=record_head(record)))

    def _finish(self) -> None:
        self._ended = True

    def _refuse_count(self, given: int) -> None:
        raise MirageError(Code.TOO_MANY_ITEMS, field="record", min=1, max=UPLOAD_RECORDS_MAX, given=given)


def record_head(record: RecordUpload) -> record_pb2.RecordHead:
    """Returns a record to store as a message; raises REQUEST_MALFORMED for an invalid packed vector."""
    head = to_message(record_pb2.RecordHead, record)
    fill(head.record, record, but=("pixels", "regions"))
    return head
