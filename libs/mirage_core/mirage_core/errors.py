"""The error catalogue: every failure that a caller can see has a code, a status and a public text here.

Domain code raises `MirageError`; the edges (gRPC interceptors, the gateway's problem details) translate it. The text of
any other exception never leaves a process: callers get INTERNAL and the request id to look for in the log.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Status(Enum):
    """A canonical status of google.rpc.Code, with its number there."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Code(StrEnum):
    """Codes of errors, as callers read them in ErrorInfo.reason and in a problem's `code`."""

    EMPTY_QUERY = "EMPTY_QUERY"
    TERM_EMPTY = "TERM_EMPTY"
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    K_OUT_OF_RANGE = "K_OUT_OF_RANGE"
    TOO_MANY_TERMS = "TOO_MANY_TERMS"
    TOO_MANY_ITEMS = "TOO_MANY_ITEMS"
    OPTION_OUT_OF_RANGE = "OPTION_OUT_OF_RANGE"
    WEIGHT_NOT_FINITE = "WEIGHT_NOT_FINITE"
    WEIGHTS_ALL_ZERO = "WEIGHTS_ALL_ZERO"
    QUERY_CANCELS_OUT = "QUERY_CANCELS_OUT"
    VECTOR_NOT_FINITE = "VECTOR_NOT_FINITE"
    VECTOR_WRONG_DIMENSION = "VECTOR_WRONG_DIMENSION"
    VECTOR_ZERO = "VECTOR_ZERO"
    MIN_SCORE_OUT_OF_RANGE = "MIN_SCORE_OUT_OF_RANGE"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"  # noqa: S105 -- a code, no secret
    FACET_UNKNOWN = "FACET_UNKNOWN"
    FACET_VALUE_INVALID = "FACET_VALUE_INVALID"
    IMAGE_EMPTY = "IMAGE_EMPTY"
    IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
    IMAGE_TOO_MANY_PIXELS = "IMAGE_TOO_MANY_PIXELS"
    IMAGE_TOO_SMALL = "IMAGE_TOO_SMALL"
    IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
    IMAGE_FORMAT_UNSUPPORTED = "IMAGE_FORMAT_UNSUPPORTED"
    IMAGE_CODING_UNSUPPORTED = "IMAGE_CODING_UNSUPPORTED"
    IMAGE_BURNED_IN = "IMAGE_BURNED_IN"
    IMAGE_FRAME_OUT_OF_RANGE = "IMAGE_FRAME_OUT_OF_RANGE"
    IMAGE_TOO_COSTLY = "IMAGE_TOO_COSTLY"
    PIXELS_INVALID = "PIXELS_INVALID"
    PIXELS_NOT_FOUND = "PIXELS_NOT_FOUND"
    REGIONS_INVALID = "REGIONS_INVALID"
    REGIONS_NOT_FOUND = "REGIONS_NOT_FOUND"
    ID_INVALID = "ID_INVALID"
    RECORD_INVALID = "RECORD_INVALID"
    RECORD_NOT_FOUND = "RECORD_NOT_FOUND"
    CASE_NOT_FOUND = "CASE_NOT_FOUND"
    CAPTION_TOO_LONG = "CAPTION_TOO_LONG"
    UPSERT_OUT_OF_ORDER = "UPSERT_OUT_OF_ORDER"
    FINGERPRINT_MISMATCH = "FINGERPRINT_MISMATCH"
    FINGERPRINT_REQUIRED = "FINGERPRINT_REQUIRED"
    SYNTHETIC_REFUSED = "SYNTHETIC_REFUSED"
    FLAG_INVALID = "FLAG_INVALID"
    RATING_NOT_FOUND = "RATING_NOT_FOUND"
    RATING_ITEM_NOT_FOUND = "RATING_ITEM_NOT_FOUND"
    RATING_CHANGED = "RATING_CHANGED"
    IMAGE_NOT_MEDICAL = "IMAGE_NOT_MEDICAL"
    COLLECTION_NAME_INVALID = "COLLECTION_NAME_INVALID"
    COLLECTION_NOT_FOUND = "COLLECTION_NOT_FOUND"
    COLLECTION_EXISTS = "COLLECTION_EXISTS"
    COLLECTION_ACTIVE = "COLLECTION_ACTIVE"
    COLLECTION_FOREIGN = "COLLECTION_FOREIGN"
    PROMPT_EMPTY = "PROMPT_EMPTY"
    NEGATIVE_PROMPT_UNUSED = "NEGATIVE_PROMPT_UNUSED"
    PROMPT_OUTSIDE = "PROMPT_OUTSIDE"
    PROMPT_NOT_MEDICAL = "PROMPT_NOT_MEDICAL"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    JOB_IMAGE_NOT_FOUND = "JOB_IMAGE_NOT_FOUND"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    TOO_MANY_JOBS = "TOO_MANY_JOBS"
    GENERATOR_ABSENT = "GENERATOR_ABSENT"
    WORKER_LOST = "WORKER_LOST"
    MODEL_NOT_READY = "MODEL_NOT_READY"
    MODEL_FAILED = "MODEL_FAILED"
    QUEUE_FULL = "QUEUE_FULL"
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    API_KEY_MISSING = "API_KEY_MISSING"
    API_KEY_INVALID = "API_KEY_INVALID"
    API_KEY_REQUIRED = "API_KEY_REQUIRED"
    ROLE_REQUIRED = "ROLE_REQUIRED"
    RATE_LIMITED = "RATE_LIMITED"
    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    REQUEST_HEAD_TOO_LARGE = "REQUEST_HEAD_TOO_LARGE"
    REQUEST_TOO_SLOW = "REQUEST_TOO_SLOW"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    MEDIA_TYPE_UNSUPPORTED = "MEDIA_TYPE_UNSUPPORTED"
    BUNDLE_INVALID = "BUNDLE_INVALID"
    BUNDLE_MISSING = "BUNDLE_MISSING"
    STORAGE_FULL = "STORAGE_FULL"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue: the gRPC status, the HTTP status, and the text for the caller."""

    status: Status
    http: int
    title: str
    template: str


_BAD = Status.INVALID_ARGUMENT

CATALOGUE: dict[Code, Entry] = {
    Code.EMPTY_QUERY: Entry(
        _BAD, 422, "Empty query", "The query has no terms: give a text, an image, an id or a vector."
    ),
    Code.TERM_EMPTY: Entry(_BAD, 422, "Empty term", "A term is empty: give it a text, an image, an id or a vector."),
    Code.TEXT_TOO_LONG: Entry(
        _BAD, 422, "Text too long", "A text may have at most {max} characters; this one has {given}."
    ),
    Code.K_OUT_OF_RANGE: Entry(
        _BAD, 422, "k out of range", "{field} must be between {min} and {max}; {given} was asked for."
    ),
    Code.TOO_MANY_TERMS: Entry(
        _BAD, 422, "Too many terms", "A query may have at most {max} terms; this one has {given}."
    ),
    Code.TOO_MANY_ITEMS: Entry(
        _BAD, 422, "Too many items", "{field} may hold {min} to {max} items; {given} were sent."
    ),
    Code.OPTION_OUT_OF_RANGE: Entry(
        _BAD, 422, "Option out of range", "{field} must be {range}; {given} was asked for."
    ),
    Code.WEIGHT_NOT_FINITE: Entry(_BAD, 422, "Weight not finite", "A weight must be a finite number."),
    Code.WEIGHTS_ALL_ZERO: Entry(
        _BAD, 422, "Weights all zero", "At least one term must have a weight other than zero."
    ),
    Code.QUERY_CANCELS_OUT: Entry(
        _BAD, 422, "Query cancels out", "The weighted terms add up to nothing, so there is no direction to search in."
    ),
    Code.VECTOR_NOT_FINITE: Entry(_BAD, 422, "Vector not finite", "A vector may hold finite numbers only."),
    Code.VECTOR_WRONG_DIMENSION: Entry(
        _BAD, 422, "Vector of another dimension", "A vector must have {expected} components; this one has {given}."
    ),
    Code.VECTOR_ZERO: Entry(_BAD, 422, "Zero vector", "A vector of length zero has no direction."),
    Code.MIN_SCORE_OUT_OF_RANGE: Entry(_BAD, 422, "min_score out of range", "min_score must be between -1 and 1."),
    Code.PAGE_TOKEN_INVALID: Entry(
        _BAD, 422, "Page token invalid", "The page token does not belong to this query: start again without it."
    ),
    Code.FACET_UNKNOWN: Entry(_BAD, 422, "Unknown facet", "There is no facet named {field}; known are: {known}."),
    Code.FACET_VALUE_INVALID: Entry(_BAD, 422, "Facet value invalid", "The facet {field} {reason}."),
    Code.IMAGE_EMPTY: Entry(_BAD, 422, "Empty image", "The image has no bytes."),
    Code.IMAGE_TOO_LARGE: Entry(_BAD, 413, "Image too large", "An image file may have at most {max_bytes} bytes."),
    Code.IMAGE_TOO_MANY_PIXELS: Entry(
        _BAD, 422, "Image has too many pixels", "An image may have at most {max} pixels; this one has {given}."
    ),
    Code.IMAGE_TOO_SMALL: Entry(
        _BAD, 422, "Image too small", "Both sides must be at least {min} pixels; this image is {width} x {height}."
    ),
    Code.IMAGE_UNREADABLE: Entry(_BAD, 422, "Image unreadable", "The {format} file is damaged or cannot be decoded."),
    Code.IMAGE_FORMAT_UNSUPPORTED: Entry(
        _BAD,
        415,
        "Image format unsupported",
        "The file is not a PNG, JPEG, WebP or DICOM image, whatever its name says.",
    ),
    Code.IMAGE_CODING_UNSUPPORTED: Entry(
        _BAD,
        415,
        "Pixel coding unsupported",
        "The pixels of the {format} file are coded as {coding}, which is not read.",
    ),
    Code.IMAGE_BURNED_IN: Entry(
        _BAD,
        422,
        "Annotation in the pixels",
        "The file says that its pixels may show who the patient is ({field}), so it is refused. Remove what the pixels show, "
        "then correct the attribute.",
    ),
    Code.IMAGE_FRAME_OUT_OF_RANGE: Entry(
        _BAD, 422, "No such frame", "The image has {frames} frames, counted from 0; frame {given} was asked for."
    ),
    Code.IMAGE_TOO_COSTLY: Entry(
        _BAD, 422, "Image too costly", "Decoding the image takes more memory or time than is allowed."
    ),
    Code.PIXELS_INVALID: Entry(
        _BAD, 422, "Pixels invalid", "The pixels' {field} is missing, out of range or does not fit the image."
    ),
    Code.PIXELS_NOT_FOUND: Entry(
        Status.NOT_FOUND,
        404,
        "No 16-bit image",
        "The image of {id} came with at most 8 bits: /v1/images/{id} shows all of it.",
    ),
    Code.REGIONS_INVALID: Entry(_BAD, 422, "Label map invalid", "The label map cannot be stored: {problem}."),
    Code.REGIONS_NOT_FOUND: Entry(
        Status.NOT_FOUND, 404, "No label map", "The record {id} has no label map: its structures are not outlined."
    ),
    Code.ID_INVALID: Entry(
        _BAD,
        422,
        "Id invalid",
        "A record id has 1 to 128 characters of A-Z a-z 0-9 . _ : - and starts with a letter or digit.",
    ),
    Code.RECORD_INVALID: Entry(_BAD, 422, "Record invalid", "The record's {field} is missing or has a wrong form."),
    Code.IMAGE_NOT_MEDICAL: Entry(
        _BAD,
        422,
        "Not a medical image",
        "This does not seem to be a medical image (probability {score}), so the atlas has nothing like it. To search with it "
        "all the same, set accept_any_image.",
    ),
    Code.COLLECTION_NAME_INVALID: Entry(
        _BAD,
        422,
        "Bad collection name",
        "A collection's name has 1 to 64 characters of a-z 0-9 _ - and starts with a letter or digit.",
    ),
    Code.COLLECTION_NOT_FOUND: Entry(
        Status.NOT_FOUND, 404, "Collection not found", "There is no collection named {name}; there are: {known}."
    ),
    Code.COLLECTION_EXISTS: Entry(
        Status.ALREADY_EXISTS, 409, "Collection exists", "There is a collection named {name} already."
    ),
    Code.COLLECTION_ACTIVE: Entry(
        Status.FAILED_PRECONDITION,
        409,
        "Collection in use",
        "{name} is the collection that searches run on: activate another one first.",
    ),
    Code.COLLECTION_FOREIGN: Entry(
        Status.FAILED_PRECONDITION,
        409,
        "Collection of another program",
        "The Qdrant server has a collection named {name} that MIRAGE did not make or cannot use: choose another name "
        "(MIRAGE_RETRIEVER_COLLECTION).",
    ),
    Code.RECORD_NOT_FOUND: Entry(Status.NOT_FOUND, 404, "Record not found", "There is no record with the id {id}."),
    Code.CASE_NOT_FOUND: Entry(Status.NOT_FOUND, 404, "Case not found", "There is no case with the id {id}."),
    Code.CAPTION_TOO_LONG: Entry(
        _BAD, 422, "Caption too long", "A caption may have at most {max} characters; this one has {given}."
    ),
    Code.UPSERT_OUT_OF_ORDER: Entry(
        _BAD, 422, "Upsert out of order", "An image chunk came before any record: send the record first."
    ),
    Code.FINGERPRINT_MISMATCH: Entry(
        Status.FAILED_PRECONDITION,
        409,
        "Other model",
        "The vectors of the collection come from the model {expected}, and {given} is another one, so they cannot be "
        "compared. Index again, or load that model.",
    ),
    Code.FINGERPRINT_REQUIRED: Entry(
        _BAD, 422, "Fingerprint required", "Vectors that are given need the fingerprint of the model that made them."
    ),
    Code.SYNTHETIC_REFUSED: Entry(
        Status.FAILED_PRECONDITION,
        409,
        "Generated image refused",
        "The image is marked as generated: it cannot join the atlas.",
    ),
    Code.FLAG_INVALID: Entry(_BAD, 422, "Flag invalid", "The flag's {field} is missing, unknown or too long."),
    Code.RATING_NOT_FOUND: Entry(
        Status.NOT_FOUND,
        404,
        "Rating sheet not found",
        "There is no such rating sheet: the link is wrong, or the sheet was deleted.",
    ),
    Code.RATING_ITEM_NOT_FOUND: Entry(
        Status.NOT_FOUND,
        404,
        "Item not found",
        "The rating sheet has no item {number}, or its image was removed from the atlas.",
    ),
    Code.RATING_CHANGED: Entry(
        Status.ABORTED,
        409,
        "Rated elsewhere",
        "Another page or person has answered with this link in the meantime, so this answer was not stored. Each rater "
        "needs a link of their own.",
    ),
    Code.PROMPT_EMPTY: Entry(_BAD, 422, "Empty prompt", "The prompt is empty: say what the image shows."),
    Code.NEGATIVE_PROMPT_UNUSED: Entry(
        _BAD, 422, "Negative prompt without effect", "A negative prompt has no effect here: {reason}."
    ),
    Code.PROMPT_OUTSIDE: Entry(
        _BAD,
        422,
        "The generator cannot draw this",
        "This generator draws only {about}. It does not know: {words}.",
    ),
    Code.PROMPT_NOT_MEDICAL: Entry(
        _BAD, 422, "Not about medicine", "This prompt does not seem to be about medicine, so nothing was drawn."
    ),
    Code.JOB_NOT_FOUND: Entry(
        Status.NOT_FOUND, 404, "Job not found", "There is no job with the id {id}: it never existed, or has expired."
    ),
    Code.JOB_IMAGE_NOT_FOUND: Entry(
        Status.NOT_FOUND,
        404,
        "Image not found",
        "The job {id} has no image {index}: it has not made it yet, or will not make it.",
    ),
    Code.REQUEST_ID_REUSED: Entry(
        Status.ALREADY_EXISTS,
        409,
        "Request id used before",
        "The request id {request_id} belongs to a job with other settings: take another one.",
    ),
    Code.TOO_MANY_JOBS: Entry(
        Status.RESOURCE_EXHAUSTED,
        429,
        "Too many jobs of one client",
        "You have {max} jobs waiting or running, as many as one client may: wait for one, or cancel one.",
    ),
    Code.GENERATOR_ABSENT: Entry(
        Status.UNIMPLEMENTED,
        501,
        "No image generator",
        "This server cannot generate images: it runs without an image generator.",
    ),
    Code.WORKER_LOST: Entry(
        Status.INTERNAL,
        500,
        "Job given up",
        "The job was begun {attempts} times, and each time its worker was lost before the end.",
    ),
    Code.MODEL_NOT_READY: Entry(
        Status.UNAVAILABLE, 503, "Model not ready", "The model is still loading: try again shortly."
    ),
    Code.MODEL_FAILED: Entry(Status.INTERNAL, 500, "Model failed", "The model failed on this input."),
    Code.QUEUE_FULL: Entry(
        Status.RESOURCE_EXHAUSTED, 429, "Queue full", "Too much work is waiting: try again in the time given."
    ),
    Code.DEPENDENCY_UNAVAILABLE: Entry(
        Status.UNAVAILABLE, 503, "Part unavailable", "The {service} does not answer at the moment: try again shortly."
    ),
    Code.DEADLINE_EXCEEDED: Entry(
        Status.DEADLINE_EXCEEDED, 504, "Too slow", "The answer was not ready within the deadline."
    ),
    Code.CANCELLED: Entry(Status.CANCELLED, 499, "Cancelled", "The caller cancelled the request."),
    Code.API_KEY_MISSING: Entry(
        Status.UNAUTHENTICATED, 401, "API key missing", "Send an API key: authorization: Bearer KEY."
    ),
    Code.API_KEY_INVALID: Entry(
        Status.UNAUTHENTICATED, 401, "API key invalid", "The API key is not one of this server's."
    ),
    Code.API_KEY_REQUIRED: Entry(
        Status.PERMISSION_DENIED, 403, "API key required", "This call changes the atlas and needs an API key."
    ),
    Code.ROLE_REQUIRED: Entry(
        Status.PERMISSION_DENIED,
        403,
        "Role required",
        "This call needs a key with the role {role}; the role of yours is {given}.",
    ),
    Code.RATE_LIMITED: Entry(
        Status.RESOURCE_EXHAUSTED,
        429,
        "Too often",
        "Your address has called this too often without a key: try again in the time given, or send a key.",
    ),
    Code.REQUEST_MALFORMED: Entry(_BAD, 400, "Request malformed", "The request cannot be read: {field}."),
    Code.REQUEST_TOO_LARGE: Entry(
        Status.RESOURCE_EXHAUSTED, 413, "Request too large", "A request may have at most {max_bytes} bytes."
    ),
    Code.REQUEST_HEAD_TOO_LARGE: Entry(
        Status.RESOURCE_EXHAUSTED,
        431,
        "Request head too large",
        "The head of a request may have at most {max_bytes} bytes and {max_fields} fields.",
    ),
    Code.REQUEST_TOO_SLOW: Entry(
        Status.DEADLINE_EXCEEDED, 408, "Request too slow", "The request did not arrive fast enough."
    ),
    Code.ROUTE_NOT_FOUND: Entry(Status.UNIMPLEMENTED, 404, "No such address", "There is nothing at this address."),
    Code.METHOD_NOT_ALLOWED: Entry(
        Status.UNIMPLEMENTED, 405, "Method not allowed", "This address does not take that HTTP method."
    ),
    Code.MEDIA_TYPE_UNSUPPORTED: Entry(_BAD, 415, "Media type unsupported", "This address takes {expected}."),
    Code.BUNDLE_INVALID: Entry(
        Status.FAILED_PRECONDITION, 500, "Bundle invalid", "The model bundle cannot be used: {reason}."
    ),
    Code.BUNDLE_MISSING: Entry(
        Status.FAILED_PRECONDITION,
        500,
        "Bundle missing",
        "There is no model bundle at the path that the settings name.",
    ),
    Code.STORAGE_FULL: Entry(
        Status.UNAVAILABLE, 507, "Storage full", "There is no space left to store this; nothing was lost."
    ),
    Code.INTERNAL: Entry(
        Status.INTERNAL, 500, "Internal error", "Something failed here. The log has it under this request's id."
    ),
}


class MirageError(Exception):
    """A coded error. `metadata` names the field and limit concerned; all of it is public.

    `retry_after_s` says when a retry makes sense; None if it does not.
    """

    def __init__(self, code: Code, /, *, retry_after_s: float | None = None, **metadata: object) -> None:
        self.code = code
        self.metadata = {key: str(value) for key, value in metadata.items()}
        self.retry_after_s = retry_after_s
        super().__init__(code, self.metadata)

    @property
    def entry(self) -> Entry:
        """The catalogue's line for the code."""
        return CATALOGUE[self.code]

    @property
    def message(self) -> str:
        """The catalogue's text, filled from the metadata; what is not given reads as an ellipsis."""
        return self.entry.template.format_map(_Lenient(self.metadata))

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class _Lenient(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "…"


def catalogue_table() -> str:
    """The catalogue as the Markdown table that docs/errors.md holds."""
    lines = ["| code | gRPC status | HTTP | text |", "|---|---|---|---|"]
    lines += [f"| `{code}` | {e.status.name} | {e.http} | {e.template} |" for code, e in CATALOGUE.items()]
    return "\n".join(lines) + "\n"
