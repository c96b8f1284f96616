"""The licences under which the images of a site may be copied."""

import re
from collections import Counter
from typing import TYPE_CHECKING

from mirage_inference.bundles import EncoderManifest

if TYPE_CHECKING:
    from mirage_api.records import StoredRecord

# Licences that allow copies, as datasets write them, in lower case with hyphens. "not stated" allows nothing.
_OPEN = re.compile(
    r"cc0(-.*)?|cc-by(-(nc|nd|sa))*(-\d.*)?|cc-pddc|public-domain.*|pddl.*|odc-by.*|odbl.*|unlicense|0bsd|mit(-0)?|isc|zlib"
    r"|apache(-2\.0|-license-2\.0)?|bsd(-\d-clause)?|(a|l)?gpl.*|mni-icbm152|no-known-(copyright-)?restrictions"
)


def allows_copies(licence: str, told: frozenset[str] = frozenset()) -> bool:
    """True for a licence that is known to allow copies, or that the operator names in `told`."""
    return simple(licence) in told or _OPEN.fullmatch(simple(licence)) is not None


def simple(licence: str) -> str:
    """A licence's name in lower case, with hyphens between its words."""
    return re.sub(r"[\s_-]+", "-", licence.strip().lower())


def licences_of(records: "list[StoredRecord]", manifest: EncoderManifest) -> str:
    """Every licence and attribution in the site, and those of the model and the program."""
    found = Counter((record.licence, record.source, record.attribution) for record in records)
    lines = ["Images of this site, by licence, source and attribution.", ""]
    for (licence, source, attribution), count in sorted(found.items()):
        lines += [
            f"{licence}: {count} images",
            f"  source: {source}",
            f"  attribution: {attribution or 'none stated'}",
            "",
        ]
    lines += [
        f"The model {manifest.name} ({manifest.source}): {manifest.licence}.",
        "MIRAGE: Apache-2.0. The page contains Preact (MIT), ONNX Runtime Web (MIT), @huggingface/tokenizers (Apache-2.0)",
        "and a Snowball stemmer (MIT).",
        "",
    ]
    return "\n".join(lines)
