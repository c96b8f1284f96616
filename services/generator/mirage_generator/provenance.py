"""PNG files of generated images, which state their origin in texts, in the IPTC's terms and as a visible mark."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from PIL import Image, PngImagePlugin

from mirage_api.provenance import XMP_KEYWORD, Provenance, digest
from mirage_core.cpus import cpu_kind
from mirage_core.synthetic_label import draw_label
from mirage_inference.generator.pipeline import ImageRequest, Pixels

if TYPE_CHECKING:
    from mirage_inference.generator.model import GeneratorModel

SOFTWARE = f"MIRAGE {version('mirage-generator')}"


def describe(
    model: "GeneratorModel",
    request: ImageRequest,
    pixels: Pixels,
    *,
    threads: int,
    job_id: str = "",
    made: datetime | None = None,
) -> Provenance:
    """Returns the provenance of pixels uint8[height, width, 3] that `model` made from `request`.

    `made` defaults to now.
    """
    return Provenance(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        steps=request.steps,
        guidance_scale=float(request.guidance),
        width=request.width,
        height=request.height,
        bundle=model.manifest.name,
        fingerprint=model.manifest.fingerprint,
        variant=model.variant,
        decoder="tiny" if request.tiny_decoder else "full",
        engine=model.description,
        threads=threads,
        cpu=cpu_kind(),
        software=SOFTWARE,
        job_id=job_id,
        create_time=(made or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        pixels_sha256=digest(pixels.tobytes()),
    )


def encode_png(pixels: Pixels, provenance: Provenance, *, visible_mark: bool) -> bytes:
    """The PNG file of an image uint8[height, width, 3]; the same bytes for the same pixels and provenance.

    With `visible_mark` the label covers the lower edge of the picture, and the file says so. Raises ValueError for
    pixels that the provenance does not belong to.
    """
    if pixels.shape != (provenance.height, provenance.width, 3) or digest(pixels.tobytes()) != provenance.pixels_sha256:
        raise ValueError("the provenance is of other pixels")
    provenance = replace(provenance, visible_mark=visible_mark)
    said = PngImagePlugin.PngInfo()
    for keyword, text in provenance.texts().items():
        if text.isascii():
            said.add_text(keyword, text)
        else:
            said.add_itxt(keyword, text)
    said.add_itxt(XMP_KEYWORD, provenance.xmp())
    buffer = io.BytesIO()
    shown = draw_label(pixels) if visible_mark else pixels
    Image.fromarray(shown).save(buffer, "PNG", compress_level=6, pnginfo=said)
    return buffer.getvalue()
