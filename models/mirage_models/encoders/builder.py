"""From an open_clip checkpoint to a bundle: export, quantise, compare with the original, write only what passes."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import open_clip
from open_clip.tokenizer import SimpleTokenizer

from mirage_core.bundles import (
    MANIFEST_FILE,
    EncoderManifest,
    EncoderVariant,
    ImageInput,
    MatchThresholds,
    Parity,
    TextInput,
    describe_file,
)
from mirage_encoder.engines.base import EngineOptions
from mirage_encoder.engines.onnxruntime import OnnxRuntimeEngine
from mirage_encoder.preprocessing import preprocess
from mirage_encoder.tokenizer import TextTokenizer, pad_batch
from mirage_models.encoders.calibration import CalibrationSet, make_calibration, read_calibration, spaced
from mirage_models.encoders.checkpoint import load_checkpoint
from mirage_models.encoders.clip_tokenizer import clip_tokenizer_json
from mirage_models.encoders.export import OPSET, export_image_tower, export_text_tower
from mirage_models.encoders.original import Original
from mirage_models.encoders.parity import measure, overlap
from mirage_models.encoders.quantise import RECIPES, quantise
from mirage_models.encoders.references import References, save_references
from mirage_models.encoders.towers import CausalTextTower, ImageTower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from mirage_models.encoders.checkpoint import Checkpoint

    Vectors = npt.NDArray[np.float32]

_log = logging.getLogger("mirage_models.build")

TOKENIZER_FILE = "tokenizer.json"
REFERENCE_FILE = "reference.npz"
FP32_COSINE = 0.9999
_REFERENCE_ITEMS = 4
_CALIBRATION_BATCHES = 96


class ParityError(Exception):
    """The bundle is too far from the original; nothing was written."""


@dataclass(frozen=True)
class BuildOptions:
    """What to build. `variants` in order of preference: the first is the default; bars below which nothing is written.

    Of several recipes the closest is kept. A large image tower runs several times faster with `static` alone.
    """

    name: str
    source: str
    licence: str
    variants: tuple[str, ...] = ("int8",)
    text_recipes: tuple[str, ...] = tuple(RECIPES)
    image_recipes: tuple[str, ...] = tuple(RECIPES)
    calibration: Path | None = None
    calibration_items: int = 1024
    match: Path | None = None
    replace: bool = False
    int8_overlap: float = 0.9
    int8_cosine: float = 0.95
    threads: int = 2


@dataclass(frozen=True)
class _Tower:
    path: Path
    vectors: Vectors
    parity: Parity
    quantisation: str
    mixes_batch: bool


class _Builder:
    """One build: what its steps share."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, options: BuildOptions) -> None:
        self.checkpoint, self.folder, self.options = checkpoint, folder, options
        self.text_input, self.image_input = describe_inputs(checkpoint)
        (folder / TOKENIZER_FILE).write_text(clip_tokenizer_json(_simple_tokenizer(checkpoint)), "utf-8")
        self.calibration = (
            read_calibration(options.calibration, items=options.calibration_items)
            if options.calibration
            else make_calibration()
        )
        original = Original(checkpoint)
        _log.info("running the original on %d captions and images", len(self.calibration))
        self.original = {
            "text": original.encode_texts(self.calibration.captions),
            "image": original.encode_images(self.calibration.images),
        }
        tokenizer = TextTokenizer(folder / TOKENIZER_FILE, self.text_input)
        tokens = [tokenizer.tokenize(caption).ids for caption in self.calibration.captions]
        # One item at a time: a dynamic range must not be that of a batch that no query will ever be in.
        self.inputs: dict[str, list[npt.NDArray[Any]]] = {
            "text": [pad_batch([ids], self.text_input.pad_id) for ids in tokens],
            "image": [preprocess(image, self.image_input)[None] for image in self.calibration.images],
        }
        self.input_names = {"text": self.text_input.input_name, "image": self.image_input.input_name}
        self.engine = OnnxRuntimeEngine(EngineOptions(threads=options.threads))

    def export(self) -> dict[str, _Tower]:
        """Both towers in float32; raises ParityError below a cosine of 0.9999."""
        model: Any = self.checkpoint.model
        towers = {}
        for role in ("text", "image"):
            _log.info("exporting the %s tower", role)
            proto = (
                export_text_tower(CausalTextTower(model), context_length=self.text_input.context_length)
                if role == "text"
                else export_image_tower(ImageTower(model), image_size=self.image_input.size)
            )
            path = self.folder / f"{role}.fp32.onnx"
            onnx.save(proto, path)
            del proto
            towers[role] = self._measured(role, path, "float32", mixes_batch=False)
            if towers[role].parity.cosine_min < FP32_COSINE:
                raise ParityError(f"{role} tower in float32: cosine {towers[role].parity.cosine_min} < {FP32_COSINE}")
        return towers

    def quantise(self, full: Mapping[str, _Tower]) -> dict[str, _Tower]:
        """Both towers in int8, each by the recipe that comes closest to the original; raises ParityError below the bar."""
        return {role: self._best_quantised(role, full[role].path) for role in ("text", "image")}

    def _best_quantised(self, role: str, source: Path) -> _Tower:
        candidates = []
        for name in self.options.text_recipes if role == "text" else self.options.image_recipes:
            recipe = RECIPES[name]
            _log.info("quantising the %s tower: %s", role, name)
            path = self.folder / f"{role}.{name}.onnx"
            batches = spaced(self.inputs[role], _CALIBRATION_BATCHES)
            quantise(source, path, recipe, input_name=self.input_names[role], batches=batches)
            candidates.append(self._measured(role, path, recipe.description, mixes_batch=recipe.mixes_batch))
            _log.info("  %s", candidates[-1].parity)
        best = max(candidates, key=lambda each: (each.parity.overlap_at_10 or 0.0, each.parity.cosine_mean))
        for candidate in candidates:
            if candidate is not best:
                candidate.path.unlink()
        final = best.path.rename(self.folder / f"{role}.int8.onnx")
        return _Tower(final, best.vectors, best.parity, best.quantisation, best.mixes_batch)

    def _measured(self, role: str, path: Path, quantisation: str, *, mixes_batch: bool) -> _Tower:
        session = self.engine.load(path, input_name=self.input_names[role], output_name="unit_vector")
        vectors = np.concatenate([session.run(batch) for batch in self.inputs[role]])
        session.close()
        parity = measure(vectors, self.original[role], overlap_at_10=self._overlap(**{role: vectors}))
        return _Tower(path, vectors, parity, quantisation, mixes_batch)

    def _overlap(self, *, text: Vectors | None = None, image: Vectors | None = None) -> float | None:
        if not self.calibration.paired:
            return None
        original = self.original["text"], self.original["image"]
        queries = original[0] if text is None else text
        return overlap(queries, original[1] if image is None else image, against=original)

    def variant(self, towers: Mapping[str, _Tower]) -> EncoderVariant:
        """The manifest's description of two towers."""
        together = self._overlap(text=towers["text"].vectors, image=towers["image"].vectors)
        return EncoderVariant(
            files={role: tower.path.name for role, tower in towers.items()},
            quantisation={role: tower.quantisation for role, tower in towers.items()},
            mixes_batch={role: tower.mixes_batch for role, tower in towers.items()},
            parity={role: tower.parity for role, tower in towers.items()},
            overlap_at_10=None if together is None else round(together, 4),
        )

    def check_int8(self, variant: EncoderVariant) -> None:
        """Raises ParityError below the bar: overlap where there is a calibration set, else the cosine."""
        options = self.options
        if variant.overlap_at_10 is not None and variant.overlap_at_10 < options.int8_overlap:
            raise ParityError(f"int8: top-10 overlap {variant.overlap_at_10} < {options.int8_overlap}")
        for role, parity in variant.parity.items():
            if parity.cosine_mean < options.int8_cosine:
                raise ParityError(f"{role} tower in int8: cosine {parity.cosine_mean} < {options.int8_cosine}")

    def references(self) -> None:
        """Write the reference file."""
        chosen = spaced(range(len(self.calibration)), _REFERENCE_ITEMS)
        save_references(self.folder / REFERENCE_FILE, _references(self.calibration, self.original, chosen))


def _references(calibration: CalibrationSet, original: Mapping[str, Vectors], chosen: Sequence[int]) -> References:
    return References(
        texts=tuple(calibration.captions[index] for index in chosen),
        images=tuple(np.asarray(calibration.images[index]) for index in chosen),
        text_vectors=original["text"][list(chosen)],
        image_vectors=original["image"][list(chosen)],
    )


def _simple_tokenizer(checkpoint: Checkpoint) -> SimpleTokenizer:
    tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint.directory}")
    if not isinstance(tokenizer, SimpleTokenizer) or tokenizer.reduction_fn is not None:
        raise ValueError("only CLIP's own byte-pair tokenizer, cut at the end, can be built so far")
    return tokenizer


def describe_inputs(checkpoint: Checkpoint) -> tuple[TextInput, ImageInput]:
    """Tokenisation and preprocessing of a checkpoint as a manifest states them; raises ValueError for what it cannot."""
    tokenizer = _simple_tokenizer(checkpoint)
    text = TextInput(
        tokenizer=TOKENIZER_FILE,
        cleaning=checkpoint.text_cfg.get("tokenizer_kwargs", {}).get("clean", "lower"),
        context_length=tokenizer.context_length,
        start_id=tokenizer.sot_token_id,
        end_id=tokenizer.eot_token_id,
        pad_id=0,
    )
    cfg = checkpoint.preprocess_cfg
    sides = cfg["size"] if isinstance(cfg["size"], list | tuple) else (cfg["size"], cfg["size"])
    if sides[0] != sides[1]:
        raise ValueError("the image tower's input is not square")
    image = ImageInput(
        size=sides[0],
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        resize_mode=cfg["resize_mode"],
        interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        fill_color=cfg["fill_color"],
    )
    return text, image


def build(source: Path, out: Path, options: BuildOptions) -> EncoderManifest:
    """Build the bundle of a checkpoint directory at `out`, which appears whole or not at all.

    Raises ParityError where a tower is too far from the original, FileExistsError where `out` is there and not to be
    replaced, and ValueError for a checkpoint of a kind that cannot be built.
    """
    if out.exists() and not options.replace:
        raise FileExistsError(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.building-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        manifest = _build_in(folder, load_checkpoint(source), options)
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        folder.rename(out)
    return manifest


def _build_in(folder: Path, checkpoint: Checkpoint, options: BuildOptions) -> EncoderManifest:
    builder = _Builder(checkpoint, folder, options)
    full = builder.export()
    variants: dict[str, EncoderVariant] = {}
    for name in options.variants:
        if name == "fp32":
            variants[name] = builder.variant(full)
        else:
            variants[name] = builder.variant(builder.quantise(full))
            builder.check_int8(variants[name])
    if "fp32" not in variants:
        for tower in full.values():
            tower.path.unlink()
    builder.references()
    paths = sorted(path.name for path in folder.iterdir())
    manifest = EncoderManifest(
        name=options.name,
        task="encode",
        source=options.source,
        licence=options.licence,
        opset=OPSET,
        variants=variants,
        default_variant=options.variants[0],
        reference=REFERENCE_FILE,
        files=tuple(describe_file(folder, path) for path in paths),
        dimension=builder.original["text"].shape[1],
        text=builder.text_input,
        image=builder.image_input,
        match=_read_match(options.match),
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), "utf-8")
    return manifest


def _read_match(path: Path | None) -> MatchThresholds | None:
    return None if path is None else MatchThresholds.model_validate(json.loads(path.read_text("utf-8")))
