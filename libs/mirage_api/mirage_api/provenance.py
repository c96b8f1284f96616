"""The origin of a generated image, as its PNG file states it: the request, the model, and the pixels' digest.

The texts of the file are plain (tEXt, or iTXt if they are not latin-1), so that any tool shows them; an XMP packet
says the same in the terms of the IPTC Photo Metadata Standard (2025.1).
"""

import hashlib
import math
import re
from dataclasses import dataclass, fields
from xml.sax.saxutils import escape

AI_GENERATED = "ai_generated"
XMP_KEYWORD = "XML:com.adobe.xmp"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
DISCLAIMER = "Synthetic image made by a model. It shows no patient and must not be used for diagnosis."
# Fields of the request; the others describe how it was made.
ASKED = ("prompt", "negative_prompt", "seed", "steps", "guidance_scale", "width", "height")
_LINE_CHARS = 500
_PROMPT_CHARS = 2_000
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Provenance:
    """Everything that is needed to make an image again; nothing about the person or the machine.

    `bundle` is the model's name and `fingerprint` the SHA-256 of what changes its numbers; `engine` names libraries
    with versions; `threads` of one inference; `cpu` is an architecture with its instruction sets (see
    mirage_core.cpus.cpu_kind). `decoder` is "full" or "tiny". `create_time` is ISO 8601 in UTC. `pixels_sha256` is
    taken before the visible mark is drawn, over height x width x 3 bytes.
    """

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    width: int
    height: int
    bundle: str
    fingerprint: str
    variant: str
    decoder: str
    engine: str
    threads: int
    cpu: str
    software: str
    job_id: str
    create_time: str
    pixels_sha256: str
    visible_mark: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for a value that no image was made with."""
        for name, good in (
            ("seed", 0 <= self.seed < 2**63),
            ("steps", 1 <= self.steps <= 1000),
            ("guidance_scale", math.isfinite(self.guidance_scale)),
            ("width", 1 <= self.width <= 2**14),
            ("height", 1 <= self.height <= 2**14),
            ("threads", 1 <= self.threads <= 2**12),
            ("decoder", self.decoder in ("full", "tiny")),
            ("fingerprint", _HEX.fullmatch(self.fingerprint)),
            ("pixels_sha256", _HEX.fullmatch(self.pixels_sha256)),
        ):
            if not good:
                raise ValueError(name)
        for field in fields(self):
            value = getattr(self, field.name)
            most = _PROMPT_CHARS if field.name in ("prompt", "negative_prompt") else _LINE_CHARS
            if isinstance(value, str) and (len(value) > most or "\0" in value):
                raise ValueError(field.name)

    def texts(self) -> dict[str, str]:
        """Keyword to text, as in the file, without the XMP packet."""
        written = {field.name: _written(getattr(self, field.name)) for field in fields(self)}
        return {AI_GENERATED: "true", **written, "Software": self.software, "Disclaimer": DISCLAIMER}

    def request(self) -> dict[str, str | int | float]:
        """The body of a request for the same image, as `POST /v1/jobs` takes it."""
        asked: dict[str, str | int | float] = {name: getattr(self, name) for name in ASKED if getattr(self, name) != ""}
        return {**asked, "images": 1}

    def xmp(self) -> str:
        """The XMP packet: IPTC's words for an image that a trained model made."""
        prompt = self.prompt + (f"\nNegative prompt: {self.negative_prompt}" if self.negative_prompt else "")
        properties = {
            "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPE,
            "Iptc4xmpExt:AISystemUsed": f"{self.software}, {self.bundle}",
            "Iptc4xmpExt:AISystemVersionUsed": self.fingerprint,
            "Iptc4xmpExt:AIPromptInformation": prompt,
            "xmp:CreateDate": self.create_time,
            "xmp:CreatorTool": self.software,
        }
        lines = [f"   <{name}>{escape(_printable(value))}</{name}>" for name, value in properties.items()]
        return "\n".join(
            [
                '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>',
                '<x:xmpmeta xmlns:x="adobe:ns:meta/">',
                ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">',
                '  <rdf:Description rdf:about=""',
                '    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"',
                '    xmlns:xmp="http://ns.adobe.com/xap/1.0/">',
                *lines,
                "  </rdf:Description>",
                " </rdf:RDF>",
                "</x:xmpmeta>",
                '<?xpacket end="r"?>',
            ]
        )


def digest(pixels: bytes) -> str:
    """SHA-256 (hex) of height x width x 3 bytes, as `pixels_sha256`."""
    return hashlib.sha256(pixels).hexdigest()


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _printable(text: str) -> str:
    """Returns the text without the characters that XML 1.0 cannot hold."""
    return "".join(letter for letter in text if letter in "\t\n\r" or (letter >= " " and letter not in "\ufffe\uffff"))
