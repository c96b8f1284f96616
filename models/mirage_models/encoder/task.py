"""From an open_clip checkpoint to an encoder's bundle: export, quantise, compare with the original."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from mirage_inference.bundles import (
    EncoderManifest,
    EncoderVariant,
    ImageInput,
    Parity,
    TextInput,
    describe_file,
)
from mirage_inference.encoder.model import select_engine
from mirage_models.encoder.calibration import spaced
from mirage_models.encoder.checkpoint import CONFIG_FILE, KNOWN, load_checkpoint
from mirage_models.encoder.compare import ROLES, Comparison
from mirage_models.encoder.export import OPSET, export_image_tower, export_text_tower
from mirage_models.encoder.inputs import write_inputs
from mirage_models.encoder.original import Original
from mirage_models.encoder.quantise import RECIPES, quantise
from mirage_models.encoder.references import References, save_references
from mirage_models.encoder.towers import ImageTower, text_tower
from mirage_models.tasks import UNSHOWN, BuildError, ParityError, UnknownArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mirage_inference.bundles import Task as TaskName
    from mirage_models.encoder.checkpoint import Checkpoint
    from mirage_models.encoder.compare import Role
    from mirage_models.tasks import BuildRequest
    from mirage_models.workspace import Workspace

REFERENCE_FILE = "reference.npz"
FP32, INT8 = "fp32", "int8"
VARIANTS = (INT8, FP32)
FP32_COSINE = 0.9999
INT8_OVERLAP = 0.9
INT8_COSINE = 0.95
_REFERENCE_ITEMS = 4
_CALIBRATION_BATCHES = 96
_ONNX_BYTES = 2**31 - 2**20  # an ONNX file without external data is one protobuf message


@dataclass(frozen=True)
class EncoderOptions:
    """The options of this task.

    `text_recipes` and `image_recipes` name ways to int8 to try; the closest is kept (a large image tower runs several
    times faster with `static` alone; `convolutions` is for a convolutional one). Bars of int8: top-10 overlap if there
    are captioned images, and mean cosine.
    `architecture` names the configuration in `configs/` of a checkpoint that comes without one.
    """

    text_recipes: tuple[str, ...] = ("dynamic", "static")
    image_recipes: tuple[str, ...] = ("dynamic", "static")
    int8_overlap: float = INT8_OVERLAP
    int8_cosine: float = INT8_COSINE
    architecture: str | None = None

    @classmethod
    def of(cls, request: BuildRequest) -> EncoderOptions:
        """The options of a request; raises BuildError for one that is not known or has an unknown value."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in request.options.items()
        }
        if unknown := given.keys() - cls.__dataclass_fields__.keys():
            raise BuildError(f"an encoder has no option {', '.join(sorted(unknown))}")
        options = cls(**given)
        for recipes in (options.text_recipes, options.image_recipes):
            if not recipes or set(recipes) - RECIPES.keys():
                raise BuildError(f"recipes are any of {', '.join(RECIPES)}")
        return options

    def recipes(self, role: Role) -> tuple[str, ...]:
        """The ways to int8 to try for one tower."""
        return self.text_recipes if role == "text" else self.image_recipes


@dataclass(frozen=True)
class _Tower:
    """One tower at one precision: the names of its file and of its vectors in the scratch folder, and what was
    measured.
    """

    name: str
    vectors: str
    quantisation: str
    mixes_batch: bool
    parity: Parity


class EncoderTask:
    """Builds encoders. See `mirage_models.tasks.Task`."""

    name: TaskName = "encode"
    knows = KNOWN

    def recognises(self, source: Path) -> bool:
        """See Task.recognises."""
        return (source / CONFIG_FILE).is_file()

    def build(self, request: BuildRequest, workspace: Workspace) -> EncoderManifest:
        """See Task.build; raises CheckpointError, UnknownArchitectureError, ParityError, BuildError."""
        return _Build(request, workspace).run()


class _Build:
    """One build: what its stages share. Between them, files pass what is large."""

    def __init__(self, request: BuildRequest, workspace: Workspace) -> None:
        self.request, self.workspace = request, workspace
        self.options = EncoderOptions.of(request)
        self.variants = request.variants or (INT8,)
        if unknown := set(self.variants) - set(VARIANTS):
            raise BuildError(f"an encoder has no variant {', '.join(sorted(unknown))}; it has {', '.join(VARIANTS)}")
        self.missed: list[str] = []
        self._checkpoint: Checkpoint | None = None
        self._original: Original | None = None

    def run(self) -> EncoderManifest:
        """All stages in order."""
        stated = self.workspace.stage("tokenizer and preprocessing", self._inputs)
        text, image = TextInput.model_validate(stated["text"]), ImageInput.model_validate(stated["image"])
        self.comparison = Comparison(self.request, self.workspace, text, image)
        self.comparison.run_original(self._original_once)
        full: dict[Role, _Tower] = {}
        for role in ROLES:
            self.workspace.stage(f"export {role}", self._exporting(role, text, image))
            full[role] = self._measured(role, FP32, "float32", mixes_batch=False)
            if full[role].parity.cosine_min < FP32_COSINE:
                self._miss(f"{role} tower in float32: cosine {full[role].parity.cosine_min}, the bar is {FP32_COSINE}")
        self._checkpoint = self._original = None  # gigabytes, which quantising can use
        towers = {FP32: full}
        if INT8 in self.variants:
            towers[INT8] = {role: self._best_int8(role, text, image) for role in ROLES}
        variants = {name: self._variant(name, towers[name]) for name in self.variants}
        if INT8 in variants:
            self._judge(variants[INT8])
        self.workspace.stage("references", self._references)
        self.workspace.stage("assemble", self._assembling(towers))
        return self._manifest(text, image, variants)

    def _checkpoint_once(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = load_checkpoint(self._source())
        return self._checkpoint

    def _source(self) -> Path:
        """Returns the checkpoint's folder, or a second folder with weights and configuration if the first lacks the
        configuration.
        """
        source, name = self.request.source, self.options.architecture
        if name is None or (source / CONFIG_FILE).exists():
            return source
        whole = self.workspace.scratch / "checkpoint"
        whole.mkdir(exist_ok=True)
        for path in source.iterdir():
            link = whole / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        config = resources.files("mirage_models.encoder") / "configs" / f"{name}.json"
        try:
            (whole / CONFIG_FILE).write_text(config.read_text("utf-8"), "utf-8")
        except FileNotFoundError as error:
            raise BuildError(f"there is no architecture {name[:80]}") from error
        return whole

    def _original_once(self) -> Original:
        if self._original is None:
            self._original = Original(self._checkpoint_once())
        return self._original

    def _inputs(self) -> dict[str, Any]:
        checkpoint = self._checkpoint_once()
        text_tower(checkpoint.model)  # a kind that cannot be built is said at once, not after the original has run
        text, image = write_inputs(checkpoint, self.workspace.folder)
        return {"text": text.model_dump(mode="json"), "image": image.model_dump(mode="json")}

    def _exporting(self, role: Role, text: TextInput, image: ImageInput) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            model = self._checkpoint_once().model
            proto = (
                export_text_tower(text_tower(model), context_length=text.context_length)
                if role == "text"
                else export_image_tower(ImageTower(model), image_size=image.size)
            )
            if proto.ByteSize() > _ONNX_BYTES:
                raise UnknownArchitectureError(f"the {role} tower is larger than the 2 GiB that an ONNX file can hold")
            onnx.save(proto, self._path(role, FP32))
            return {"bytes": proto.ByteSize()}

        return make

    def _path(self, role: Role, name: str) -> Path:
        return self.workspace.scratch / f"{role}.{name}.onnx"

    def _measured(self, role: Role, name: str, quantisation: str, *, mixes_batch: bool) -> _Tower:
        parity = self.comparison.run_tower(role, self._path(role, name), name)
        return _Tower(name, name, quantisation, mixes_batch, parity)

    def _as_served(self, role: Role, tower: _Tower) -> _Tower:
        # Engines compute int8 each in their own way, and not always well: what is recorded is the worse of ONNX
        # Runtime,
        # which serves anywhere, and the engine that serves this tower on this machine.
        path = self._path(role, tower.name)
        engine = select_engine("auto", path, mixes_batch=tower.mixes_batch)
        if engine == "onnxruntime":
            return tower
        name = f"{tower.name}.{engine}"
        parity = self.comparison.run_tower(role, path, name, engine=engine)
        return replace(tower, vectors=name, parity=parity) if _rank(parity) < _rank(tower.parity) else tower

    def _best_int8(self, role: Role, text: TextInput, image: ImageInput) -> _Tower:
        candidates = []
        input_name = text.input_name if role == "text" else image.input_name
        for name in self.options.recipes(role):
            recipe = RECIPES[name]

            def make(name: str = name) -> dict[str, Any]:
                chosen = spaced(range(len(self.comparison.calibration)), _CALIBRATION_BATCHES)
                batches = self.comparison.batches(role, chosen)
                source, target = self._path(role, FP32), self._path(role, name)
                quantise(source, target, RECIPES[name], input_name=input_name, batches=batches)
                return {"bytes": target.stat().st_size}

            self.workspace.stage(f"quantise {role} {name}", make)
            measured = self._measured(role, name, recipe.description, mixes_batch=recipe.mixes_batch)
            candidates.append(self._as_served(role, measured))
        return max(candidates, key=lambda each: _rank(each.parity))

    def _variant(self, name: str, towers: Mapping[Role, _Tower]) -> EncoderVariant:
        together = self.comparison.overlap(text=towers["text"].vectors, image=towers["image"].vectors)
        return EncoderVariant(
            files={role: f"{role}.{name}.onnx" for role in ROLES},
            quantisation={role: tower.quantisation for role, tower in towers.items()},
            mixes_batch={role: tower.mixes_batch for role, tower in towers.items()},
            parity={role: tower.parity for role, tower in towers.items()},
            overlap_at_10=None if together is None else round(together, 4),
        )

    def _judge(self, variant: EncoderVariant) -> None:
        overlap, bar = variant.overlap_at_10, self.options.int8_overlap
        if overlap is not None and overlap < bar:
            self._miss(f"int8: top-10 overlap {overlap}, the bar is {bar}")
        for role, parity in variant.parity.items():
            if parity.cosine_mean < self.options.int8_cosine:
                self._miss(f"{role} tower in int8: cosine {parity.cosine_mean}, the bar is {self.options.int8_cosine}")

    def _miss(self, what: str) -> None:
        if not self.request.allow_parity_miss:
            raise ParityError(what)
        self.missed.append(what)

    def _references(self) -> dict[str, Any]:
        calibration = self.comparison.calibration
        chosen = spaced(range(len(calibration)), _REFERENCE_ITEMS)
        references = References(
            texts=tuple(calibration.captions[index] for index in chosen),
            images=tuple(np.asarray(calibration.images[index]) for index in chosen),
            text_vectors=self.comparison.vectors("text", "original")[chosen],
            image_vectors=self.comparison.vectors("image", "original")[chosen],
        )
        save_references(self.workspace.folder / REFERENCE_FILE, references)
        return {"items": len(chosen)}

    def _assembling(self, towers: Mapping[str, Mapping[Role, _Tower]]) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            moved = []
            for variant in self.variants:
                for role, tower in towers[variant].items():
                    source, target = self._path(role, tower.name), self.workspace.folder / f"{role}.{variant}.onnx"
                    if source.exists():  # else an attempt that was killed here had moved it
                        source.replace(target)
                    moved.append(target.name)
            return {"files": moved}

        return make

    def _manifest(self, text: TextInput, image: ImageInput, variants: Mapping[str, EncoderVariant]) -> EncoderManifest:
        folder, request = self.workspace.folder, self.request
        return EncoderManifest(
            name=request.name,
            task="encode",
            source=request.origin,
            licence=request.licence,
            opset=OPSET,
            variants=variants,
            default_variant=self.variants[0],
            reference=REFERENCE_FILE,
            files=tuple(describe_file(folder, name) for name in _names(folder.iterdir())),
            parity_missed=tuple(self.missed),
            remarks=(UNSHOWN,) if INT8 in variants and request.calibration is None else (),
            dimension=self.comparison.vectors("text", "original").shape[1],
            text=text,
            image=image,
        )


def _rank(parity: Parity) -> tuple[float, float]:
    return parity.overlap_at_10 or 0.0, parity.cosine_mean


def _names(paths: Iterable[Path]) -> list[str]:
    return sorted(path.name for path in paths)
