"""Maps licences as datasets write them to SPDX identifiers, if they are clear."""

from __future__ import annotations

import re

from mirage_atlas.folder import line_text

UNKNOWN = "not stated"
_CODE = re.compile(r"^cc[\s-]*(by(?:[\s-]*(?:nc|nd|sa))*|0)(?:[\s-]*(\d\.\d))?$")


def licence_name(given: object) -> str:
    """`CC BY-NC 4.0` becomes CC-BY-NC-4.0; a code without a version keeps none; no code or nothing at all is "not stated"."""
    text = line_text(str(given or ""))
    if not text or "no-cc" in text.lower() or text.lower() in ("none", "nan", "unknown"):
        return UNKNOWN
    found = _CODE.match(text.lower())
    if not found:
        return text
    if found[1] == "0":
        return f"CC0-{found[2] or '1.0'}"
    parts = re.split(r"[\s-]+", found[1])
    return "-".join(["CC", *(part.upper() for part in parts), *([found[2]] if found[2] else [])])
