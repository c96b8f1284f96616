"""The text fields of a record: what datasets say of an image and its case besides the caption, by the usual names of columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mirage_atlas.folder import CAPTION_CHARACTERS, RowError, caption_text, cut, line_text, plain_text

TITLE_CHARACTERS = 500
KEYWORDS_MAX = 64
KEYWORD_CHARACTERS = 200
CASE_CHARACTERS = 128
POSITION_MAX = 100_000

COLUMNS: dict[str, tuple[str, ...]] = {
    "title": ("title", "diagnosis", "final_diagnosis", "main_diagnosis", "condition", "dx", "case_title", "topic"),
    "findings": ("findings", "radiology_findings", "imaging_findings"),
    "history": (
        "history",
        "clinical_history",
        "indication",
        "clinical_indication",
        "clinical_information",
        "case_history",
    ),
    "impression": ("impression", "conclusion", "assessment", "opinion"),
    "keywords": ("keywords", "keyword", "key_words", "mesh", "mesh_terms", "tags", "problems", "concept_names"),
    "case_id": ("case_id", "caseid", "case", "report_id"),
    "position": ("position", "case_position", "image_number", "image_no", "image_index"),
}
"""Names by which columns are known, best first. What else a table says stays with its labels."""

_SEPARATORS = re.compile(r"[;|\n]+")
_PLACEHOLDER = re.compile(
    r"replace this.*|in progress|work in progress|pending|to be (added|completed|determined|announced|done)|tb[acd]|todo|"
    r"n/?a|none|null|nil|unknown|untitled|empty|blank|test|x{2,10}|lorem ipsum.*|(no|missing) (caption|description|title|text)|"
    r"(insert |enter |add |your )?(caption|description|title|text)( here| goes here)?|"
    r"description of (the )?(image|figure|findings)( or findings)?|"
    r"(figure|fig|image|img|picture|pic|photo|slide|slice|frame|scan|plate|panel)s?[ ._-]*(no[ .]*)?[#(]*\d{0,6}[a-z]?\)?|"
    r"[#(]*\d{1,6}[a-z]?\)?|"
    r"[\w() -]+\.(jpe?g|png|webp|dcm|tiff?|gif|bmp)",
    re.DOTALL,
)


@dataclass(frozen=True)
class CaseTexts:
    """The fields as a record has them; empty ones are not known. `position` is the image's place in its case, from 1, or 0."""

    title: str = ""
    findings: str = ""
    history: str = ""
    impression: str = ""
    keywords: tuple[str, ...] = ()
    case_id: str = ""
    position: int = 0

    def items(self) -> dict[str, Any]:
        """Returns the fields by name, as arguments of AtlasRecord."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def case_texts(value: Callable[[str], object]) -> CaseTexts:
    """Returns the fields of a row. `value` gives the content of the columns of COLUMNS; anything odd is left out.

    Placeholders are left out. A topic that differs from the title becomes a keyword.
    """
    title = cut(line_text(value("title")), TITLE_CHARACTERS)
    texts = {name: _text(value(name)) for name in ("findings", "history", "impression")}
    return CaseTexts(
        title="" if is_placeholder(title) else title,
        keywords=_keywords(value("keywords")),
        case_id=_case(value("case_id")),
        position=_position(value("position")),
        **texts,
    )


def choose_caption(given: object, texts: CaseTexts, file: str = "") -> tuple[str, bool]:
    """Returns a row's caption, and True if the given one is a placeholder, in whose place another text of the row is.

    Raises RowError without any text.
    """
    text = plain_text(given).strip() if isinstance(given, str) else ""
    replaced = bool(text) and is_placeholder(text, file)
    if text and not replaced:
        return caption_text(text), False
    other = texts.title or texts.impression or texts.findings
    if other:
        return caption_text(other), replaced
    raise RowError(
        "the caption is a placeholder, and the row has no other text" if replaced else "the caption is missing"
    )


def is_placeholder(text: str, file: str = "") -> bool:
    """True for a text that says nothing: `IN PROGRESS`, `Figure 3`, `Replace this - ...`, or the name of a file."""
    shown = " ".join(text.lower().split()).strip(" .,:;!?-_*[]<>\"'")
    stem = file.rpartition("/")[2].rpartition(".")[0].lower()
    return not shown or shown == stem or _PLACEHOLDER.fullmatch(shown) is not None


def with_topic(texts: CaseTexts, topic: object) -> CaseTexts:
    """Returns the texts with a topic among the keywords, unless it is the title or does not fit."""
    word = cut(line_text(topic), KEYWORD_CHARACTERS)
    if is_placeholder(word) or word.lower() == texts.title.lower() or len(texts.keywords) >= KEYWORDS_MAX:
        return texts
    return replace(texts, keywords=tuple(dict.fromkeys((*texts.keywords, word))))


def row_value(row: Mapping[str, object]) -> Callable[[str], object]:
    """Returns the reader of a row for `case_texts`, by names of columns in lower case with underscores."""

    def value(field: str) -> object:
        return next((row[name] for name in COLUMNS[field] if row.get(name) not in (None, "", [])), None)

    return value


def _text(value: object) -> str:
    text = plain_text(value).strip() if isinstance(value, str) else ""
    return "" if is_placeholder(text) else cut(text, CAPTION_CHARACTERS)


def _keywords(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        # MeSH terms have commas; a list without another separator has them between its words.
        parts: Sequence[object] = _SEPARATORS.split(value) if _SEPARATORS.search(value) else value.split(",")
    else:
        parts = value if isinstance(value, list) else ()
    words = (cut(line_text(part), KEYWORD_CHARACTERS) for part in parts[: 4 * KEYWORDS_MAX])
    return tuple(dict.fromkeys(word for word in words if word and not is_placeholder(word)))[:KEYWORDS_MAX]


def _case(value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return cut(line_text(text), CASE_CHARACTERS)


def _position(value: object) -> int:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    return number if number <= POSITION_MAX else 0
