"""Colours to sRGB: ICC profiles, PNG's gamma, and transparency on white."""

import io
from functools import lru_cache
from typing import Any

from PIL import Image, ImageChops, ImageCms

from mirage_core.imaging.sizes import PROFILE_BYTES

WHITE = 255
# sRGB's transfer function is close to this gamma; a file that states it (0.45455 in gAMA) needs no change.
_GAMMA = 1 / 2.2
_GAMMA_SAME = 0.02
_GAMMAS = (0.1, 2.0)
# Rows that are converted at a time.
_ROWS = 256
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# A profile whose colours differ by no more than this from sRGB's counts as sRGB.
_SAME = 2


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Returns an image of mode L, RGB or CMYK with its ICC profile applied, in mode L or RGB.

    A profile that is damaged, larger than 2 MiB, for another colour space than the image's, or the same as sRGB changes
    nothing. The rendering intent is relative colorimetric with black point compensation.
    """
    transform = _transform(profile, image.mode) if profile and len(profile) <= PROFILE_BYTES else None
    if transform is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        result.paste(transform.apply(image.crop(box)), box)
    return result


def is_srgb(profile: bytes | None, mode: str) -> bool:
    """True if `to_srgb` leaves an image of this mode (L or RGB) as it is."""
    return not profile or len(profile) > PROFILE_BYTES or _transform(profile, mode) is None


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(str(source.profile.xcolor_space).ljust(4)) != mode:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "CMYK":
            return transform
        samples = _samples(mode)
        changed = ImageChops.difference(transform.apply(samples), samples.convert("RGB"))
        largest = max(changed.tobytes())
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if largest > _SAME else None


def _samples(mode: str) -> Image.Image:
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    steps = range(0, 256, 17)
    return Image.frombytes("RGB", (256, 16), bytes(v for r in steps for g in steps for b in steps for v in (r, g, b)))


def apply_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Returns an image of mode L or RGB whose samples have PNG's gAMA as sRGB's.

    Close to 1/2.2, or absurd, nothing changes.
    """
    if abs(gamma - _GAMMA) <= _GAMMA_SAME or not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        return image
    table = [round(255 * _srgb((value / 255) ** (1 / gamma))) for value in range(256)]
    return image.point(table * len(image.getbands()))


def _srgb(light: float) -> float:
    return 12.92 * light if light <= 0.0031308 else 1.055 * float(light ** (1 / 2.4)) - 0.055


def on_white(image: Image.Image) -> Image.Image:
    """Returns an LA or RGBA image on white, as L or RGB; fully transparent pixels become white."""
    mode = image.mode[:-1]
    result = Image.new(mode, image.size, WHITE if mode == "L" else (WHITE, WHITE, WHITE))
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        strip = image.crop(box)
        result.paste(strip.convert(mode), box, strip.getchannel("A"))
    return result


def to_grey_if_grey(image: Image.Image) -> Image.Image:
    """Returns an RGB image as L if its three channels are equal everywhere; else the image itself."""
    for top in range(0, image.height, _ROWS):
        red, green, blue = image.crop((0, top, image.width, min(top + _ROWS, image.height))).split()
        if not (first := red.tobytes()) == green.tobytes() == blue.tobytes():
            return image
        del first
    return image.getchannel("R")
