"""Measure the gate of a bundle on images that it was not fitted on: `python -m mirage_training.mini_clip.classified --help`.

`real` is measured on its dev split, MedPix as a whole or every nth image; both are folders outside of the project. Photographs
are folders of pictures that nothing was trained on; each is taken whole and in two crops, in colour and in grey. Pages, tables
and charts are drawn here, with other code than those of training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mirage_inference.bundles import ImageGate, MedicalHead, load_encoder
from mirage_inference.encoder.picture_statistics import picture_statistics, squared
from mirage_training.mini_clip.encoders import BundleEncoder, Encoder
from mirage_training.mini_clip.heads import FINDINGS, Rows, calibration_error, is_near, probabilities
from mirage_training.mini_clip.items import source_of
from mirage_training.mini_clip.natural import auroc, recall
from mirage_training.picture_gate import crops

Rng = np.random.Generator
REGIONS: dict[str, tuple[str, ...]] = {
    "Head": ("brain", "head", "eye", "teeth"),
    "Thorax": ("chest", "breast", "heart"),
    "Abdomen": ("abdomen",),
    "Spine and Muscles": ("lumbar spine", "spine", "shoulder", "neck", "hand", "lower leg"),
    "Reproductive and Urinary System": (),
}
"""MedPix's location categories, and the body parts that count for them; of the last nothing was trained on."""
PAIRS = {
    "pneumonia against normal, children": ("kermany", "pneumonia", "none"),
    "pneumonia against no finding, adults": ("nih", "pneumonia", "none"),
    "breast lesion malignant against benign": ("busi", "malignant breast lesion", "benign breast lesion"),
    "melanoma against nevus": ("isic", "melanoma", "melanocytic nevus"),
}


@dataclass(frozen=True)
class Read:
    """A gate's answers to images: probability of a medical one [N], and for each facet values and shares [N, values], and if
    the image lies near places of the best value [N].
    """

    medical: Rows
    head: MedicalHead
    facets: dict[str, tuple[list[str], Rows]]
    known_from: dict[str, dict[str, float]]
    near: dict[str, NDArray[np.bool_]]

    def best(self, facet: str) -> tuple[NDArray[np.str_], Rows, NDArray[np.bool_]]:
        """Best value, its probability, and if it is known."""
        values, shares = self.facets[facet]
        best = np.array(values)[shares.argmax(axis=1)]
        sure = shares.max(axis=1)
        bars = np.array([self.known_from[facet].get(value, 2.0) for value in best])
        return best, sure, (sure >= bars) & self.near[facet] & (self.medical >= self.head.medical_from)

    def kinds(self) -> dict[str, float]:
        """Shares of images that are declined, unsure and let through as medical."""
        declined, medical = self.medical < self.head.decline_below, self.medical >= self.head.medical_from
        shares = {"declined": declined, "unsure": ~declined & ~medical, "medical": medical}
        return {name: round(float(each.mean()), 4) for name, each in shares.items()} | {"images": len(self.medical)}


def read(gate: ImageGate, vectors: Rows, statistics: Rows) -> Read:
    """Reads unit vectors and picture statistics, as the encoder service does."""
    if gate.medical is None:
        raise ValueError("the gate has no fitted heads")
    row = gate.medical.row
    wide = np.stack([squared(each) for each in statistics])
    logits = vectors @ row.matrix() + wide @ np.array(gate.medical.statistics) + row.bias
    facets = {name: probabilities(head, vectors) for name, head in gate.heads.items()}
    known = {name: dict(head.known_from) for name, head in gate.heads.items()}
    near = {
        name: is_near(gate.heads[name], vectors, np.array(values)[shares.argmax(axis=1)])
        for name, (values, shares) in facets.items()
    }
    return Read(1 / (1 + np.exp(-logits)), gate.medical, facets, known, near)


def on_dev(found: Read, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the dev split of `real`."""
    figures: dict[str, Any] = {"gate": found.kinds()}
    sources = np.array([source_of(each) for each in rows])
    coloured = np.isin(sources, ["isic", "chula", "bccd", "chase"])
    kept = found.medical >= found.head.decline_below
    figures["kept, in colour and grey"] = [
        round(float(kept[coloured].mean()), 4),
        round(float(kept[~coloured].mean()), 4),
    ]
    for facet in ("modality", "body_part", "plane"):
        figures[facet] = facet_figures(found, facet, [each["labels"].get(facet) for each in rows])
    figures["finding"] = facet_figures(
        found, "finding", [each["labels"]["finding"] if source_of(each) in FINDINGS else None for each in rows]
    )
    elsewhere = ~np.isin(sources, list(FINDINGS))
    figures["finding known, sources without findings to tell apart"] = {
        "known": round(float(found.best("finding")[2][elsewhere].mean()), 4),
        "images": int(elsewhere.sum()),
    }
    values, shares = found.facets["finding"]
    for name, (source, positive, negative) in PAIRS.items():
        mine = [
            n
            for n, each in enumerate(rows)
            if source_of(each) == source and {positive, negative} & set(each["labels"]["finding"])
        ]
        yes = np.array([positive in rows[n]["labels"]["finding"] for n in mine])
        pair = np.log(np.maximum(shares[mine][:, [values.index(positive), values.index(negative)]], 1e-9))
        score = pair[:, 0] - pair[:, 1]
        figures[name] = {"auroc": _interval(score, yes), "images": [int(yes.sum()), int((~yes).sum())]}
    tumours = [values.index(each) for each in FINDINGS["brain-tumor"]]
    mine = [n for n, source in enumerate(sources) if source == "brain-tumor"]
    best = [values[tumours[i]] for i in shares[mine][:, tumours].argmax(axis=1)]
    right = [each in rows[n]["labels"]["finding"] for each, n in zip(best, mine, strict=True)]
    figures["brain tumour type of three"] = {"right": round(float(np.mean(right)), 4), "images": len(mine)}
    return figures


def facet_figures(found: Read, facet: str, truth: Sequence[Any]) -> dict[str, Any]:
    """Measures how often the best value is right, how sure it is, and the same of those that are known; None is not asked."""
    best, sure, known = found.best(facet)
    asked = np.array([each is not None and each != [] for each in truth])
    right = np.array(
        [value == each or (isinstance(each, list) and value in each) for value, each in zip(best, truth, strict=True)]
    )
    return {
        "right": round(float(right[asked].mean()), 4),
        "calibration_error": round(calibration_error(sure[asked], right[asked]), 4),
        "known": round(float(known[asked].mean()), 4),
        "right_of_known": round(float(right[asked & known].mean()), 4) if (asked & known).any() else None,
        "images": int(asked.sum()),
    }


def _interval(score: Rows, yes: NDArray[np.bool_]) -> list[float]:
    """AUROC with a 95 % interval of 1,000 seeded draws."""
    rng = np.random.default_rng(3)
    drawn = []
    for _ in range(1000):
        up, down = score[yes], score[~yes]
        drawn.append(auroc(rng.choice(up, len(up)), rng.choice(down, len(down))))
    return [round(float(each), 4) for each in (auroc(score[yes], score[~yes]), *np.quantile(drawn, [0.025, 0.975]))]


def on_medpix(found: Read, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of MedPix, of which nothing was trained on."""
    figures: dict[str, Any] = {"gate": found.kinds()}
    values, shares = found.facets["modality"]
    names = [str(each["labels"]["modality"]).lower() for each in rows]
    truth = np.array(["ct" if "ct" in name else "mr" if "mr" in name else "" for name in names])
    stated = truth != ""
    pair = np.where(shares[:, values.index("ct")] > shares[:, values.index("mr")], "ct", "mr")
    best, _, known = found.best("modality")
    figures["CT against MR"] = {"right": round(float((pair == truth)[stated].mean()), 4), "images": int(stated.sum())}
    figures["modality known"] = _known(known & stated, best == truth)
    values, shares = found.facets["body_part"]
    regions = list(REGIONS)
    sums = np.stack(
        [shares[:, [n for n, v in enumerate(values) if v in REGIONS[region]]].sum(axis=1) for region in regions]
    )
    guessed = np.array(regions)[sums.argmax(axis=0)]
    category = np.array([str(each["labels"].get("location_category", "")) for each in rows])
    asked = np.isin(category, regions)
    figures["body region of five"] = {
        "right": round(float((guessed == category)[asked].mean()), 4),
        "images": int(asked.sum()),
        "by region": {
            each: round(float((guessed == each)[category == each].mean()), 4) for each in regions if each in category
        },
    }
    best, _, known = found.best("body_part")
    right = np.array([value in REGIONS.get(each, ()) for value, each in zip(best, category, strict=True)])
    figures["body part known"] = _known(known & asked, right)
    figures["finding known"] = round(float(found.best("finding")[2].mean()), 4)
    return figures


def _known(known: NDArray[np.bool_], right: NDArray[np.bool_]) -> dict[str, float]:
    return {"known": round(float(known.mean()), 4), "right_of_known": round(float(right[known].mean()), 4)}


def by_caption(
    encoder: Encoder, vectors: Rows, rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any]
) -> Any:
    """Recall at 10 by caption with chance, for each source."""
    captions = encoder.texts([each["caption"] for each in rows])
    groups: dict[str, list[int]] = defaultdict(list)
    for n, each in enumerate(rows):
        groups[source_of(each)].append(n)
    return {name: recall(captions[ns], vectors[ns], [key(rows[n]) for n in ns]) for name, ns in sorted(groups.items())}


def text_page(rng: Rng) -> Image.Image:
    """Columns of words in a font, dark or light."""
    dark, (width, height) = rng.random() < 0.3, (int(side) for side in rng.integers(500, 1100, 2))
    picture = Image.new("RGB", (width, height), (28, 30, 34) if dark else (255, 255, int(rng.integers(235, 256))))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=int(rng.integers(11, 26)))
    columns = int(rng.integers(1, 3))
    for column in range(columns):
        for y in range(30, height - 40, int(font.size * 1.5)):  # type: ignore[union-attr]  # a FreeType font
            line = " ".join(WORDS[int(i)] for i in rng.integers(0, len(WORDS), int(rng.integers(1, 9))))
            left = 30 + column * (width - 60) // columns
            draw.text((left, y), line[: int(width / columns / 8)], font=font, fill=(225,) * 3 if dark else (20,) * 3)
    return picture


def table(rng: Rng) -> Image.Image:
    """Rows of names and numbers under a coloured head."""
    width, height = int(rng.integers(400, 900)), int(rng.integers(300, 700))
    lines, columns = int(rng.integers(4, 14)), int(rng.integers(3, 8))
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    draw.rectangle((0, 0, width, height / lines), fill=_colour(rng))
    for line in range(lines):
        draw.line((0, line * height / lines, width, line * height / lines), fill=(150,) * 3)
        for column in range(columns):
            text = WORDS[int(rng.integers(len(WORDS)))] if line * column == 0 else f"{rng.normal(50, 20):.1f}"
            draw.text((column * width / columns + 6, line * height / lines + 6), text, font=font, fill=0)
    return picture


def chart(rng: Rng) -> Image.Image:
    """A scatter plot, a pie or an area under a curve, with a grid and a title."""
    picture = Image.new("RGB", (640, 480), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for line in range(6):
        draw.line((60, 40 + line * 80, 620, 40 + line * 80), fill=(220,) * 3)
        draw.text((20, 33 + line * 80), f"{100 - 20 * line}", font=font, fill=0)
    kind = int(rng.integers(3))
    for _ in range(int(rng.integers(1, 4))):
        colour = _colour(rng)
        if kind == 0:
            for x, y in rng.normal((300, 240), (120, 80), (60, 2)):
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
        elif kind == 1:
            begin = 0.0
            for end in np.cumsum(rng.dirichlet(np.ones(5))) * 360:
                draw.pieslice((150, 60, 470, 380), begin, float(end), fill=_colour(rng))
                begin = float(end)
        else:
            curve = [(60.0 + 28 * i, 440 - float(abs(rng.normal(160, 70)))) for i in range(20)]
            draw.polygon([(60.0, 440.0), *curve, (592.0, 440.0)], fill=colour)
    draw.text(
        (200, 10), "Figure 1. " + " ".join(WORDS[int(i)] for i in rng.integers(0, len(WORDS), 4)), font=font, fill=0
    )
    return picture


WORDS = (__doc__ or "").split()


def _colour(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 220, 3).tolist()
    return red, green, blue


def photographs(folders: Sequence[Path], rng: Rng) -> list[Image.Image]:
    """The pictures of folders, at most 512 pixels, each whole and in two crops."""
    made = []
    for path in sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".jpg", ".png", ".webp")
    ):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((512, 512))
        made += [picture, *crops(picture, 2, rng)]
    return made


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.classified", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="folder of real images with captions.jsonl")
    parser.add_argument("--medpix", type=Path, help="folder of MedPix with captions.jsonl")
    parser.add_argument("--every", type=int, default=1, help="measure every nth image of MedPix")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    encoder = BundleEncoder(arguments.bundle, threads=arguments.threads)
    gate = load_encoder(arguments.bundle).gate or ImageGate()
    figures: dict[str, Any] = {}

    def look(images: list[Image.Image]) -> tuple[Rows, Read]:
        vectors = encoder.images(images)
        return vectors, read(gate, vectors, np.stack([picture_statistics(image) for image in images]))

    def folder(path: Path, split: str, every: int) -> tuple[list[dict[str, Any]], Rows, Read]:
        rows = [json.loads(line) for line in (path / "captions.jsonl").read_text("utf-8").splitlines()]
        rows = [each for each in rows if split in ("", each["split"])][::every]
        return rows, *look([Image.open(path / each["file"]).convert("RGB") for each in rows])

    rng = np.random.default_rng(20261129)
    drawn = [make(rng) for make in (text_page, table, chart) for _ in range(40)]
    figures["pages, tables and charts"] = look(drawn)[1].kinds()
    if arguments.photos:
        coloured = photographs(arguments.photos, rng)
        figures["photographs in colour"] = look(coloured)[1].kinds()
        figures["photographs in grey"] = look([each.convert("L").convert("RGB") for each in coloured])[1].kinds()
    if arguments.real:
        rows, vectors, found = folder(arguments.real, "dev", 1)
        figures["real, dev"] = on_dev(found, rows)
        figures["real, recall at 10 by caption"] = by_caption(
            encoder, vectors, rows, lambda each: (tuple(sorted(each["labels"]["finding"])), each["labels"]["body_part"])
        )
    if arguments.medpix:
        rows, vectors, found = folder(arguments.medpix, "", arguments.every)
        figures["MedPix"] = on_medpix(found, rows)
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
