"""Images on one sheet, each with the visible mark of synthetic ones and the caption that it was made of."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mirage_core.synthetic_label import draw_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COLUMNS, ROWS = 6, 4
_SCALE, _MARGIN, _LINES, _LINE_PX, _CHARACTERS = 1, 6, 7, 10, 32


def contact_sheet(images: NDArray[np.uint8], captions: Sequence[str]) -> Image.Image:
    """The first images uint8 [N, side, side, 3], COLUMNS in a row, their captions below; white between them."""
    count = min(len(images), COLUMNS * ROWS)
    side = int(images.shape[1]) * _SCALE
    width, height = side + _MARGIN, side + _LINES * _LINE_PX + _MARGIN
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (min(count, COLUMNS) * width + _MARGIN, rows * height + _MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=8)
    for place in range(count):
        left = _MARGIN + place % COLUMNS * width
        top = _MARGIN + place // COLUMNS * height
        shown = Image.fromarray(draw_label(images[place]))
        sheet.paste(shown.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        lines = textwrap.wrap(captions[place], _CHARACTERS)[:_LINES]
        draw.multiline_text((left, top + side + 1), "\n".join(lines), fill="black", font=font, spacing=1)
    return sheet
