"""Measure an encoder on phrasings that people wrote and on real images: `python -m mirage_training.mini_clip.natural --help`.

Phrasings are in `phrasings/`, real images in folders outside of the project (`captions.jsonl` and images). Nothing here was
trained on, except where the report says so. Every figure has its number of queries or images, and chance where it has one.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.demo.demonstration import Demonstration
from mirage_atlas.demo.sources import sources_of
from mirage_atlas.records import AtlasRecord
from mirage_core.imaging import clean_image, decode_image
from mirage_training.mini_clip.encoders import BundleEncoder, Encoder, OriginalEncoder, Vectors
from mirage_training.mini_clip.items import HELD_OUT_CASE, source_of

_PLANES = {"a": "axial", "c": "coronal", "s": "sagittal", "-": ""}
_SEQUENCES = {"1": "t1", "2": "t2", "f": "flair", "-": ""}
FIRST = 10
Scores = NDArray[np.float32]
PROMPTS: dict[str, dict[str, tuple[str, ...]]] = {
    "modality": {
        "x-ray": ("X-ray", "radiograph", "plain film", "chest X-ray", "X-ray of the hand", "panoramic dental X-ray"),
        "ct": ("CT", "CT scan", "computed tomography", "CT of the chest", "CT of the abdomen", "CT of the head"),
        "mr": ("MRI", "magnetic resonance image", "brain MRI", "breast MRI", "T1-weighted MRI", "MRI of the spine"),
        "us": ("ultrasound", "sonogram", "breast ultrasound", "ultrasound of the heart"),
        "microscopy": ("microscopy", "blood smear", "micrograph of blood cells"),
        "dermoscopy": ("dermoscopy", "dermoscopic image of the skin"),
        "fundus": ("fundus photograph", "retinal photograph"),
        "histology": ("histology", "tissue section stained with H&E"),
    },
    "body_part": {
        "brain": ("brain", "brain MRI", "MRI of the brain", "glioma of the brain"),
        "head": ("CT of the head", "head CT", "CT of the skull"),
        "chest": ("chest", "chest X-ray", "CT of the chest", "lungs"),
        "abdomen": ("abdomen", "CT of the abdomen", "MRI of the abdomen"),
        "breast": ("breast", "breast ultrasound", "breast MRI"),
        "blood": ("blood smear", "blood cells"),
        "teeth": ("teeth", "panoramic dental X-ray", "jaw"),
        "skin": ("skin", "dermoscopy of a mole"),
        "hand": ("hand", "X-ray of the hand"),
        "lumbar spine": ("lumbar spine", "MRI of the lumbar spine"),
        "eye": ("eye", "fundus photograph"),
    },
}
PAIRS = {
    "pneumonia against normal, children": ("kermany", "pneumonia", ("chest X-ray with pneumonia", "pneumonia in a child"),
                                           ("normal chest X-ray", "chest X-ray of a healthy child")),
    "finding against none, adults": ("nih", "", ("chest X-ray with findings", "pneumonia", "abnormal chest X-ray", "effusion"),
                                     ("normal chest X-ray", "chest X-ray without findings")),
    "breast lesion malignant against benign": ("busi", "malignant breast lesion", ("malignant breast lesion", "breast cancer"),
                                               ("benign breast lesion", "benign breast lump")),
    "melanoma against nevus": ("isic", "melanoma", ("melanoma", "dermoscopy of a melanoma"),
                               ("melanocytic nevus", "dermoscopy of a nevus")),
}  # fmt: skip
TUMOURS = ("glioma", "meningioma", "pituitary tumor")
STRUCTURES = (
    "liver", "spleen", "stomach", "right kidney", "left kidney", "gallbladder", "pancreas", "aorta", "inferior vena cava",
    "colon",
    "small intestine", "urinary bladder", "sacrum", "left hip bone", "right hip bone", "left femur", "right femur",
    "left gluteus maximus", "right iliopsoas", "heart",
)  # fmt: skip
"""Twenty of the larger structures of the CT of abdomen and pelvis."""


def lines(name: str) -> list[str]:
    """Phrasings of a file."""
    text = (importlib.resources.files("mirage_training.mini_clip.phrasings") / name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def brain_phrasings() -> list[tuple[str, str, str]]:
    """Plane and contrast ("" if not said) and text."""
    return [(_PLANES[line[0]], _SEQUENCES[line[1]], line[3:]) for line in lines("brain.txt")]


def demonstration_phrasings() -> list[tuple[frozenset[tuple[str, str]], str]]:
    """Facets that a right image has, and text."""
    found = []
    for line in lines("demonstration.txt"):
        facts, _, text = line.partition("|")
        facets = frozenset(
            (name.replace("body", "body_part"), value.replace("_", " "))
            for name, _, value in (fact.partition(":") for fact in facts.split())
        )
        found.append((facets, text.strip()))
    return found


def demonstration(archives: Path) -> tuple[list[AtlasRecord], list[Image.Image]]:
    """All records of the demonstration, with their pictures as they are shown."""
    run = Demonstration(sources_of("standard"), [archives], offline=True)
    records = [row for row in run.read() if isinstance(row, AtlasRecord)]
    pictures = []
    for record in records:
        data = record.read_image()
        shown = clean_image(data, pixels=record.pixels).data if record.pixels else data
        pictures.append(decode_image(shown).image)
    return records, pictures


def auroc(inside: Scores, outside: Scores) -> float:
    """The chance that one of `inside` is greater than one of `outside`."""
    order = np.concatenate([outside, inside]).argsort().argsort() + 1.0
    ranks = float(order[len(outside) :].sum())
    return (ranks - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside))


def share(values: Iterable[float]) -> dict[str, Any]:
    """Mean and number."""
    listed = list(values)
    return {"right": round(float(np.mean(listed)), 4), "queries": len(listed)}


def on_demonstration(encoder: Encoder, archives: Path) -> dict[str, Any]:
    """Figures of the phrasings on the demonstration."""
    records, pictures = demonstration(archives)
    gallery = encoder.images(pictures)
    labels = [{(name, value) for name, values in record.labels.items() for value in values} for record in records]
    is_brain = np.array([record.id.startswith("demo-") for record in records])

    def right(*facets: tuple[str, str]) -> NDArray[np.bool_]:
        return np.array([all(facet in each for facet in facets if facet[1]) for each in labels])

    brain = brain_phrasings()
    scores = encoder.texts([text for _, _, text in brain]) @ gallery.T
    shares, lists = [], []
    for (plane, sequence, text), row in zip(brain, scores, strict=True):
        good = right(("plane", plane), ("sequence", sequence), ("body_part", "brain"), ("modality", "mr"))
        shares.append(float(good[np.argsort(-row)[:FIRST]].mean()))
        lists.append((shares[-1], text))
    found: dict[str, Any] = {
        "plane and contrast of the first ten, natural phrasings": {
            **share(shares),
            "chance": round(float(np.mean([right(("plane", p), ("sequence", s)).mean() for p, s, _ in brain])), 4),
        },
        "worst": [f"{value:.1f} {text}" for value, text in sorted(lists)[:12]],
        "brain records": int(is_brain.sum()),
        "records": len(records),
    }
    others = demonstration_phrasings()
    rows = encoder.texts([text for _, text in others]) @ gallery.T
    tops = [bool(right(*facets)[row.argmax()]) for (facets, _), row in zip(others, rows, strict=True)]
    found["first result, other images"] = share(tops)
    found["wrong"] = [text for (_, text), top in zip(others, tops, strict=True) if not top]
    inside = np.concatenate([scores.max(axis=1), rows.max(axis=1)])
    outside = (encoder.texts(lines("unanswered.txt")) @ gallery.T).max(axis=1)
    bar = float(np.quantile(outside, 0.98))
    found["answered against unanswered texts"] = {
        "auroc": round(auroc(inside, outside), 4),
        "answered above what 2 % of the unanswered reach": round(float((inside > bar).mean()), 4),
        "unanswered above what 95 % of the answered reach": round(
            float((outside > np.quantile(inside, 0.05)).mean()), 4
        ),
        "texts": [len(inside), len(outside)],
    }
    found |= structures(encoder, records, gallery, labels)
    return found


def structures(
    encoder: Encoder, records: list[AtlasRecord], gallery: Vectors, labels: list[set[tuple[str, str]]]
) -> dict[str, Any]:
    """Sections among the first ten that show a structure: of the volume that was held out, and of the chest CT, trained on."""
    found: dict[str, Any] = {}
    for name, case in (("held out", HELD_OUT_CASE), ("trained on", "chest-ct")):
        rows = [n for n, record in enumerate(records) if record.case_id == case]
        if not rows:
            continue
        values = [{v for f, v in labels[n] if f == "structure"} for n in rows]
        present = Counter(v for each in values for v in each)
        asked = (
            [s for s in STRUCTURES if present[s]] if case == HELD_OUT_CASE else [s for s, _ in present.most_common(20)]
        )
        scores = encoder.texts([f"CT showing the {s}" for s in asked]) @ gallery[rows].T
        hits = [
            np.mean([s in values[i] for i in np.argsort(-row)[:FIRST]]) for s, row in zip(asked, scores, strict=True)
        ]
        found[f"structures among the first ten, {name} ({case})"] = {
            **share(map(float, hits)), "chance": round(float(np.mean([present[s] / len(rows) for s in asked])), 4),
        }  # fmt: skip
        planes = [next(v for f, v in labels[n] if f == "plane") for n in rows]
        asked_planes = [
            f"{p} {w}" for p in sorted(set(planes)) for w in ("CT", "CT of the abdomen", "computed tomography section")
        ]
        scores = encoder.texts(asked_planes) @ gallery[rows].T
        right = [
            np.mean([planes[i] == text.split()[0] for i in np.argsort(-row)[:FIRST]])
            for text, row in zip(asked_planes, scores, strict=True)
        ]
        found[f"plane among the first ten, {name} ({case})"] = share(map(float, right))
    return found


def prototypes(encoder: Encoder, prompts: dict[str, tuple[str, ...]]) -> Vectors:
    """Mean vector of each value's prompts."""
    means = np.stack([encoder.texts(list(each)).mean(axis=0) for each in prompts.values()])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def on_real(encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Figures of the dev split of `real`."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == "dev"]
    vectors = encoder.images([Image.open(folder / row["file"]).convert("RGB") for row in rows])
    found: dict[str, Any] = {"images": len(rows)}
    for facet, prompts in PROMPTS.items():
        best = (vectors @ prototypes(encoder, prompts).T).argmax(axis=1)
        guesses = [list(prompts)[i] for i in best]
        found[facet] = share(g == row["labels"][facet] for g, row in zip(guesses, rows, strict=True))
    found |= findings(encoder, rows, vectors)
    by_source: dict[str, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        by_source[source_of(row)].append(n)
    captions = encoder.texts([row["caption"] for row in rows])
    found["caption to image, recall at 10"] = {
        source: recall(
            captions[ns],
            vectors[ns],
            [(tuple(sorted(rows[n]["labels"]["finding"])), rows[n]["labels"]["body_part"]) for n in ns],
        )
        for source, ns in sorted(by_source.items())
    }
    return found


def findings(encoder: Encoder, rows: list[dict[str, Any]], vectors: Vectors) -> dict[str, Any]:
    """Returns figures of the findings that these rows' sources distinguish, by texts alone; none if one side has no image."""
    found: dict[str, Any] = {}
    sources = [source_of(row) for row in rows]
    for name, (source, finding, positive, negative) in PAIRS.items():
        if source not in sources:
            continue
        pair = prototypes(encoder, {"yes": positive, "no": negative})
        chosen = [n for n, each in enumerate(sources) if each == source and rows[n]["labels"]["finding"]]
        if source == "busi":
            chosen = [n for n in chosen if rows[n]["labels"]["finding"] != ["none"]]
        truth = np.array(
            [
                finding in rows[n]["labels"]["finding"] if finding else rows[n]["labels"]["finding"] != ["none"]
                for n in chosen
            ]
        )
        if truth.all() or not truth.any():
            continue
        score = vectors[chosen] @ (pair[0] - pair[1])
        found[name] = {
            "auroc": round(auroc(score[truth], score[~truth]), 4),
            "images": [int(truth.sum()), int((~truth).sum())],
        }
    chosen = [n for n, each in enumerate(sources) if each == "brain-tumor"]
    if chosen:
        tumours = prototypes(
            encoder, {t: (f"{t} on a brain MRI", t, f"contrast-enhanced T1 MRI with {t}") for t in TUMOURS}
        )
        best = (vectors[chosen] @ tumours.T).argmax(axis=1)
        found["brain tumour type of three"] = share(
            TUMOURS[b] in rows[n]["labels"]["finding"] for b, n in zip(best, chosen, strict=True)
        )
    return found


def recall(texts: Vectors, images: Vectors, keys: list[Any]) -> dict[str, float]:
    """Share of texts with an image of the same key among the first ten, and chance."""
    order = np.argsort(-(texts @ images.T), axis=1)[:, :FIRST]
    hits = [any(keys[i] == key for i in row) for key, row in zip(keys, order, strict=True)]
    total = len(keys)
    counts = Counter(keys)
    chance = []
    for key in keys:
        miss = 1.0
        for drawn in range(min(FIRST, total)):
            miss *= max(0.0, (total - counts[key] - drawn) / (total - drawn))
        chance.append(1 - miss)
    return {"right": round(float(np.mean(hits)), 4), "chance": round(float(np.mean(chance)), 4), "queries": total}


def on_medpix(encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Figures of MedPix, which is never trained on: modality of two, recall by caption."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    vectors = encoder.images([Image.open(folder / row["file"]).convert("RGB") for row in rows])
    pair = prototypes(encoder, {name: PROMPTS["modality"][name] for name in ("ct", "mr")})
    names = [str(row["labels"].get("modality", "")).lower() for row in rows]
    truth = [0 if "ct" in each else 1 if "mr" in each else -1 for each in names]
    best = (vectors @ pair.T).argmax(axis=1)
    found: dict[str, Any] = {
        "images": len(rows),
        "CT against MR": share(b == t for b, t in zip(best, truth, strict=True) if t >= 0),
    }
    categories = [row["labels"].get("location_category", "") for row in rows]
    counts = Counter(categories)
    found["location categories"] = dict(counts)
    prompts = {name: words for name, words in REGION_PROMPTS.items() if name in counts}
    if prompts:
        chosen = [n for n, each in enumerate(categories) if each in prompts]
        best = (vectors[chosen] @ prototypes(encoder, prompts).T).argmax(axis=1)
        found["body region of five"] = share(
            list(prompts)[b] == categories[n] for b, n in zip(best, chosen, strict=True)
        )
    captioned = [n for n, row in enumerate(rows) if row.get("caption")]
    found["caption to image, recall at 10"] = recall(
        encoder.texts([rows[n]["caption"] for n in captioned]), vectors[captioned],
        [rows[n].get("case_id", rows[n]["id"]) for n in captioned],
    )  # fmt: skip
    return found


REGION_PROMPTS: dict[str, tuple[str, ...]] = {
    "Head": ("brain MRI", "CT of the head", "head", "brain"),
    "Thorax": ("CT of the chest", "chest", "thorax"),
    "Abdomen": ("CT of the abdomen", "abdomen", "MRI of the abdomen", "liver", "kidney"),
    "Spine and Muscles": ("MRI of the spine", "lumbar spine", "spine", "knee", "shoulder MRI", "hip"),
    "Reproductive and Urinary System": ("pelvis", "urinary bladder", "uterus", "MRI of the pelvis", "prostate"),
}


def report(encoder: Encoder, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures for which there is data."""
    parts: dict[str, tuple[Path | None, Callable[[Encoder, Path], dict[str, Any]]]] = {
        "demonstration": (arguments.archives, on_demonstration),
        "real, dev": (arguments.real, on_real),
        "MedPix": (arguments.medpix, on_medpix),
    }
    return {name: measure(encoder, folder) for name, (folder, measure) in parts.items() if folder is not None}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.natural", description=__doc__)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="an open_clip checkpoint folder")
    model.add_argument("--bundle", type=Path, help="a bundle folder, run with ONNX Runtime")
    parser.add_argument("--archives", type=Path, help="folder with the demonstration's archives")
    parser.add_argument("--real", type=Path, help="folder of real images with captions.jsonl")
    parser.add_argument("--medpix", type=Path, help="folder of MedPix with captions.jsonl")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    encoder: Encoder = (
        BundleEncoder(arguments.bundle, threads=arguments.threads)
        if arguments.bundle
        else OriginalEncoder(arguments.checkpoint, threads=arguments.threads)
    )
    text = json.dumps(report(encoder, arguments), indent=2, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
