"""Checks generated images against their prompts with the encoder: what the prompt asks for, and what is seen.

An aspect of a prompt has a few possible values, such as planes. The encoder compares the image with a text for each of
them, and the nearest is what is seen (zero-shot classification: Radford et al. 2021, "Learning Transferable Visual Models
From Natural Language Supervision"). How often that is right is measured in docs/evaluation.md.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image

from mirage_core import telemetry
from mirage_core.channels import invoke, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.vectors import Array, vector_from_proto
from mirage_generator.jobs import AspectCheck
from mirage_inference.generator.pipeline import Pixels
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc

_SERVICE = "mirage.encoder.v1.EncoderService"
_TIMEOUT_S = 5.0
# A value's texts by its name; and of an aspect, the value that is asked for.
Texts: TypeAlias = dict[str, tuple[str, ...]]
Asked: TypeAlias = dict[str, tuple[str, Texts]]
_log = telemetry.get_logger()


@dataclass(frozen=True)
class _Value:
    """A value of an aspect: the words that ask for it, and the texts that an image of it is near to."""

    name: str
    words: str
    texts: tuple[str, ...]


_ASPECTS: dict[str, tuple[_Value, ...]] = {
    "modality": (
        _Value("x-ray", r"x-?\s?rays?|radiographs?", ("X-ray", "radiograph")),
        _Value("ct", r"ct|computed tomography", ("CT", "CT scan")),
        _Value("mr", r"mri?|magnetic resonance", ("MRI", "MRI scan")),
        _Value("us", r"ultrasound|sonogram|ultrasonography", ("ultrasound", "ultrasound image")),
    ),
    "plane": (
        _Value("axial", r"axial|transverse|transversal|transaxial|horizontal|ax", ("axial", "axial section", "transverse")),
        _Value("coronal", r"coronal|cor", ("coronal", "coronal section")),
        _Value("sagittal", r"(?:mid|para)?-?sagittal|sag", ("sagittal", "sagittal section")),
    ),
    "sequence": (
        _Value("flair", r"(?:t2.)?flair|fluid.attenuated(?: inversion recovery)?", ("FLAIR", "FLAIR sequence")),
        _Value("t1", r"t1(?:w|wi|.?weighted)?", ("T1", "T1-weighted")),
        _Value("t2", r"t2(?:w|wi|.?weighted)?", ("T2", "T2-weighted")),
    ),
}  # fmt: skip
_SIDES = {"left": "right", "right": "left"}
_LESION = re.compile(r"\blesions?\b")
_NO_LESION = re.compile(r"\b(?:no|without)\b[^.;,]{0,30}\blesions?\b|\bnormal\b|\bhealthy\b|\blesion-free\b")


class AgreementCheck:
    """Compares images with their prompts, at the encoder of `address`. Not to be called from two threads; `close` it."""

    def __init__(self, address: str) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._open(address))

    async def _open(self, address: str) -> None:
        self._channel = open_channel(address, idempotent={_SERVICE: ["EncodeText", "EncodeImage"]})
        self._encoder = encoder_pb2_grpc.EncoderServiceStub(self._channel)

    def look(self, pixels: Pixels, prompt: str) -> tuple[AspectCheck, ...] | None:
        """Returns a check of each aspect that the prompt names; None if the encoder does not answer, which is logged.

        `pixels` are RGB uint8[height, width, 3], without a visible mark.
        """
        asked = texts_of(prompt)
        if not asked:
            return ()
        texts = list(dict.fromkeys(text for _, values in asked.values() for each in values.values() for text in each))
        try:
            image, vectors = self._runner.run(self._encode(pixels, texts))
            likeness = {text: float(vector @ image) for text, vector in zip(texts, vectors, strict=True)}
        except MirageError as error:
            _log.warning("image not checked", code=error.code)
            return None
        except ValueError:
            # Vectors of two models, or too few of them: an encoder that is being replaced.
            _log.warning("image not checked", code=Code.DEPENDENCY_UNAVAILABLE)
            return None
        return tuple(
            AspectCheck(aspect, value, max(values, key=lambda name: max(likeness[text] for text in values[name])))
            for aspect, (value, values) in asked.items()
        )

    async def _encode(self, pixels: Pixels, texts: Sequence[str]) -> tuple[Array, list[Array]]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        image = encoder_pb2.EncodeImageRequest(image=buffer.getvalue())
        shown, said = await asyncio.gather(
            invoke(self._encoder.EncodeImage, image, timeout_s=_TIMEOUT_S),
            invoke(self._encoder.EncodeText, encoder_pb2.EncodeTextRequest(texts=texts), timeout_s=_TIMEOUT_S),
        )
        return vector_from_proto(shown.vector), [vector_from_proto(each.vector) for each in said.embeddings]

    def close(self) -> None:
        """Closes the connection."""
        self._runner.run(self._channel.close())
        self._runner.close()


def texts_of(prompt: str) -> Asked:
    """Returns the aspects of which a prompt names one value: that value, and the texts of each possible value."""
    text = " ".join(prompt.lower().split())
    found: Asked = {}
    for aspect, values in _ASPECTS.items():
        named, rest = [], text
        for value in values:
            rest, count = re.subn(rf"\b(?:{value.words})\b", " ", rest)
            named += [value.name] if count else []
        if len(named) == 1:
            found[aspect] = (named[0], {value.name: value.texts for value in values})
    context = " ".join(found[aspect][1][found[aspect][0]][0] for aspect in ("plane", "sequence") if aspect in found)
    if lesion := _lesion(text, context):
        found["lesion"] = lesion
    if side := _side(text):
        found["side"] = side
    return found


def _lesion(text: str, context: str) -> tuple[str, Texts] | None:
    absent = _NO_LESION.search(text)
    if not absent and not _LESION.search(text):
        return None
    return "no" if absent else "yes", {
        "yes": (f"{context} with a hyperintense lesion".strip(), f"{context} with a hypointense lesion".strip()),
        "no": (f"{context}, no lesion".strip(" ,"), f"normal {context}".strip()),
    }


def _side(text: str) -> tuple[str, Texts] | None:
    """A side that is the only one: the prompt itself, and the prompt with the other side."""
    named = {side for side in _SIDES if re.search(rf"\b{side}\b", text)}
    if len(named) != 1:
        return None
    (asked,) = named
    other = _SIDES[asked]
    return asked, {asked: (text,), other: (re.sub(rf"\b{asked}\b", other, text),)}
