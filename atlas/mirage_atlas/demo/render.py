"""Render the demonstration atlas: `python -m mirage_atlas.demo.render --out DIR`, or compare with `--check`.

Needs the build environment (nilearn). The same versions of numpy and Pillow give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.demo.captions import AXIS, caption, visible_names
from mirage_atlas.demo.contrast import SEQUENCES, contrast_volume
from mirage_atlas.demo.lesions import BRIGHTNESS, lesion_mask, with_lesion
from mirage_atlas.demo.licence import TEMPLATE_ATTRIBUTION, TEMPLATE_LICENCE, TEMPLATE_SOURCE
from mirage_atlas.demo.plan import Entry, plan
from mirage_atlas.demo.sections import SectionSpec, section
from mirage_atlas.demo.template import Template, load_template

SIDE_PX = 320
QUALITY = 80
DATA = Path(__file__).parent / "data"


class Renderer:
    """Renders sections of one template; the volumes of all contrasts are computed once."""

    def __init__(self, template: Template) -> None:
        self.volumes = {sequence: contrast_volume(template, sequence) for sequence in SEQUENCES}
        self.tissue = (template.grey + template.white).astype(np.float32)

    def picture(self, spec: SectionSpec) -> NDArray[np.float32]:
        """The section with its lesion at 1 mm per pixel: float32 [FIELD_MM, FIELD_MM] 0..1."""
        shown = section(self.volumes[spec.sequence], spec.plane, spec.level_mm)
        if spec.lesion is None:
            return shown
        mask = lesion_mask(spec.lesion, spec.plane, spec.level_mm)
        tissue = section(self.tissue, spec.plane, spec.level_mm)
        return with_lesion(shown, tissue, mask, BRIGHTNESS[(spec.sequence, spec.lesion.signal)])

    def image(self, spec: SectionSpec) -> Image.Image:
        """The section as the atlas stores it before encoding: mode L, SIDE_PX square."""
        pixels = np.round(self.picture(spec) * 255.0).astype(np.uint8)
        return Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)

    def file(self, spec: SectionSpec) -> bytes:
        """The bytes of the WebP file."""
        buffer = io.BytesIO()
        self.image(spec).save(buffer, format="WEBP", quality=QUALITY, method=6)
        return buffer.getvalue()


def row(entry: Entry, data: bytes) -> dict[str, object]:
    """The line of `captions.jsonl` for one rendering."""
    spec = entry.spec
    labels: dict[str, str] = {
        "modality": "mr",
        "plane": spec.plane,
        "body_part": "brain",
        "sequence": spec.sequence,
        "finding": "simulated lesion" if spec.lesion else "none",
        "licence": TEMPLATE_LICENCE,
        "synthetic": "template-rendering",
    }
    if spec.side:
        labels["side"] = spec.side
    original = {
        "level_mm": str(spec.level_mm),
        "level_axis": f"MNI {AXIS[spec.plane]}",
        "structures": "; ".join(visible_names(spec.plane, spec.level_mm)),
        "display": _display(spec),
    }
    if spec.lesion:
        original |= {
            "lesion_lobe": spec.lesion.lobe,
            "lesion_size_mm": str(spec.lesion.size_mm),
            "lesion_signal": spec.lesion.signal,
            "lesion_centre_mm": " ".join(f"{v:.1f}" for v in spec.lesion.centre_mm),
        }
    return {
        "id": entry.id,
        "file": f"images/{entry.id}.webp",
        "caption": caption(spec, entry.generator()),
        "labels": labels,
        "original_labels": original,
        "licence": TEMPLATE_LICENCE,
        "source": TEMPLATE_SOURCE,
        "attribution": TEMPLATE_ATTRIBUTION,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _display(spec: SectionSpec) -> str:
    if spec.plane != "sagittal":
        return "image left is the patient's right"
    return (
        "seen from the right, face to image right" if spec.side == "right" else "seen from the left, face to image left"
    )


def render_all(renderer: Renderer, entries: tuple[Entry, ...], out: Path) -> int:
    """Write `images/*.webp` and `captions.jsonl`; gives the number of bytes written."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    lines, total = [], 0
    for entry in entries:
        data = renderer.file(entry.spec)
        (out / "images" / f"{entry.id}.webp").write_bytes(data)
        lines.append(json.dumps(row(entry, data), ensure_ascii=False, sort_keys=True))
        total += len(data)
    text = "\n".join(lines) + "\n"
    (out / "captions.jsonl").write_text(text, encoding="utf-8")
    return total + len(text.encode())


def differences(renderer: Renderer, entries: tuple[Entry, ...], folder: Path) -> list[str]:
    """Ids whose image bytes or caption line differ from a rendered folder, and files that should not be there."""
    stored = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    lines = {json.loads(line)["id"]: line for line in stored}
    wrong = []
    for entry in entries:
        data = renderer.file(entry.spec)
        path = folder / "images" / f"{entry.id}.webp"
        line = json.dumps(row(entry, data), ensure_ascii=False, sort_keys=True)
        if not path.is_file() or path.read_bytes() != data or lines.pop(entry.id, None) != line:
            wrong.append(entry.id)
    known = {f"{entry.id}.webp" for entry in entries}
    return wrong + sorted(lines) + sorted(p.name for p in (folder / "images").iterdir() if p.name not in known)


def main() -> int:
    """Render or check; exit 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description="Render the demonstration atlas from the MNI152 template.")
    parser.add_argument(
        "--out", type=Path, default=DATA, help="folder to write to, or to check (default: the package's data)"
    )
    parser.add_argument("--check", action="store_true", help="render again and compare bytes instead of writing")
    arguments = parser.parse_args()
    template = load_template()
    renderer, entries = Renderer(template), plan(template)
    if arguments.check:
        wrong = differences(renderer, entries, arguments.out)
        for name in wrong:
            sys.stdout.write(f"differs: {name}\n")
        sys.stdout.write(f"{len(entries)} renderings, {len(wrong)} differ\n")
        return 1 if wrong else 0
    total = render_all(renderer, entries, arguments.out)
    sys.stdout.write(f"{len(entries)} renderings, {total / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
