"""From a Stable Diffusion 1.x folder to a bundle: run the original, export, calibrate, quantise, compare."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from mirage_inference.bundles import TINY_DECODER, GeneratorManifest, GeneratorParity, GeneratorVariant, PromptInput
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import GeneratorModel, load_sessions
from mirage_inference.generator.tokenizer import PromptTokenizer
from mirage_models.generator.calibrate import calibrate_decoder, calibrate_unet, fit_preview
from mirage_models.generator.checkpoint import (
    INDEX_FILE,
    load_text,
    load_tiny,
    load_unet,
    load_vae,
    read_checkpoint,
)
from mirage_models.generator.compare import compare, decoded_ssim, least
from mirage_models.generator.description import describe_files, draft_manifest, make_manifest, ranges
from mirage_models.generator.export import export_decoder, export_text, export_unet
from mirage_models.generator.network_file import data_path, read_network
from mirage_models.generator.options import DEFAULTS, FLOAT32, MANY_STEPS, check_request
from mirage_models.generator.original import Original, decode_tiny
from mirage_models.generator.prompts import read_prompts
from mirage_models.generator.quantise import RECIPES, Span, layers, network_files, quantise
from mirage_models.generator.references import REFERENCE_FILE, load_references, save_references
from mirage_models.generator.stored import DESCRIPTION, STORED, store_weights
from mirage_models.generator.tokenizer import write_tokenizer
from mirage_models.generator.whole_folder import complete, lacks_tokenizer
from mirage_models.tasks import UNSHOWN, BuildError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mirage_inference.bundles import Task as TaskName
    from mirage_inference.engines import EngineKind
    from mirage_models.generator.checkpoint import Checkpoint
    from mirage_models.tasks import BuildRequest
    from mirage_models.workspace import Workspace

T = TypeVar("T")

FP32_LATENTS, FP32_SSIM = 0.9999, 0.99
INT8_LATENTS, INT8_SSIM = 0.95, 0.80
INT8_DECODER_SSIM = 0.95
"""Of the decoder alone, on the original's latents."""
_TINY_IMAGES = "tiny.npy"


class GeneratorTask:
    """See Task: Stable Diffusion 1.x, plain or with an LCM-LoRA, or a native latent consistency model.

    Extras: "lora" (an LCM-LoRA, fused), "tiny_decoder" (an AutoencoderTiny). Options: `sampler` (of a plain one:
    "dpm-solver++" or "ddim", if not what its scheduler's configuration names), `steps`, `guidance` and `side` (defaults
    of the bundle, at which parity is measured), `guidance_range` and `side_range` (least and most),
    `unet_recipes` and `decoder_recipes` (in order of preference: the first that reaches its bar is kept),
    `text_recipes` (one: "float32" or "weights"), `calibration_prompts`, `parity_prompts`.
    """

    @property
    def name(self) -> TaskName:
        """See Task.name."""
        return "generate"

    @property
    def knows(self) -> str:
        """See Task.knows."""
        return f"a folder with {INDEX_FILE}: Stable Diffusion 1.x, plain or with an LCM-LoRA, or a latent consistency model"

    def recognises(self, source: Path) -> bool:
        """See Task.recognises."""
        return (source / INDEX_FILE).is_file()

    def build(self, request: BuildRequest, workspace: Workspace) -> GeneratorManifest:
        """See Task.build."""
        return _Build(request, workspace).run()


class _Build:
    """One build: what its stages share, which is only what can be had again from files."""

    def __init__(self, request: BuildRequest, workspace: Workspace) -> None:
        self.request, self.workspace = request, workspace
        self.variants = request.variants or ("int8",)
        check_request(request, self.variants)
        self.checkpoint: Checkpoint = read_checkpoint(
            _whole(request.source, workspace.scratch),
            lora=request.extras.get("lora"),
            tiny=request.extras.get(TINY_DECODER),
            sampler=request.options.get("sampler"),
        )
        usual = DEFAULTS if self.checkpoint.sampler is None else MANY_STEPS
        self.options = {**usual, **request.options}
        try:
            self.ranges = ranges(self.checkpoint, request.options)
        except ValueError as error:
            raise BuildError(f"steps, guidance or side is outside of what this model can: {error}") from error
        self.missed: list[str] = []

    def run(self) -> GeneratorManifest:
        stage, folder = self._stage, self.workspace.folder
        self.prompt = PromptInput.model_validate(
            stage("tokenizer", lambda: write_tokenizer(self.checkpoint, folder).model_dump(mode="json"))
        )
        stage("run the original", self._original)
        stage("export text tower", self._export_text)
        stage("export unet", self._export_unet)
        stage("export decoder", self._export_decoders)
        self.draft = draft_manifest(self.checkpoint, self.request, self.prompt)
        built: dict[str, GeneratorVariant] = {}
        # The full precision is measured in any case: an int8 network is made of it.
        full = stage("compare fp32", lambda: self._measure(self._full_files(), reduced=False))
        self._gate("fp32", GeneratorParity.model_validate(full), FP32_LATENTS, FP32_SSIM)
        if self.checkpoint.tiny is not None:
            self._gate_tiny(stage("compare tiny decoder", self._measure_tiny))
        if "int8" in self.variants:
            unet_spans = stage("calibrate unet", self._calibrate_unet)
            calibrated = stage("calibrate decoder", self._calibrate_decoder)
            preview: list[list[float]] = calibrated["preview"]
            built["int8"] = self._int8(unet_spans, calibrated["spans"])
        else:
            # Nothing is calibrated: the original's images do.
            preview = stage("fit preview", self._fit_preview)
        if "fp32" in self.variants:
            built["fp32"] = self._variant(self._full_files(), {}, GeneratorParity.model_validate(full), reduced=False)
        return make_manifest(
            self.checkpoint,
            self.request,
            self.prompt,
            variants={name: built[name] for name in self.variants},
            files=describe_files(folder),
            preview=[(row[0], row[1], row[2]) for row in preview],
            missed=self.missed,
            remarks=[UNSHOWN] if "int8" in built and self.request.calibration is None else [],
        )

    def _stage(self, name: str, make: Callable[[], T]) -> T:
        result = self.workspace.stage(name, make)
        _give_back_memory()
        return result

    # Files

    def _home(self, role: str) -> Path:
        as_it_is = role == TINY_DECODER or (role == "text" and self._text_recipe == FLOAT32)
        keep = as_it_is or "fp32" in self.variants
        return self.workspace.folder if keep else self.workspace.scratch

    def _full_files(self) -> dict[str, Path]:
        roles = ["text", "unet", "decoder", *([TINY_DECODER] if self.checkpoint.tiny else [])]
        files = {}
        for role in roles:
            path = self._home(role) / f"{role}.fp32.onnx"
            kept = self.workspace.folder / path.name  # a decoder that stayed in float32 was moved there
            files[role] = path if path.is_file() else kept
        return files

    @property
    def _text_recipe(self) -> str:
        return str(self.options["text_recipes"][0])

    def _keep(self, path: Path) -> Path:
        for name in (data_path(path).name, path.name):
            if (path.parent / name).is_file() and path.parent != self.workspace.folder:
                (path.parent / name).rename(self.workspace.folder / name)
        return self.workspace.folder / path.name

    # Stages

    def _original(self) -> int:
        wanted = int(self.options["parity_prompts"])
        prompts = self._prompts()[:wanted]
        original = Original(self.checkpoint)
        references = original.make(
            prompts,
            steps=int(self.ranges["steps"].default),
            guidance=self.ranges["guidance"].default,
            side=int(self.ranges["side"].default),
        )
        save_references(self.workspace.folder / REFERENCE_FILE, references)
        if self.checkpoint.tiny is not None:
            images = decode_tiny(load_tiny(self.checkpoint.tiny), references.latents[:, -1])
            np.save(self.workspace.scratch / _TINY_IMAGES, images)
        return len(prompts)

    def _prompts(self) -> tuple[str, ...]:
        """Parity's first, then calibration's: what ranges were taken from is not what is measured on."""
        count = int(self.options["parity_prompts"]) + int(self.options["calibration_prompts"])
        return read_prompts(self.request.calibration, count=count)

    def _export_text(self) -> None:
        export_text(
            load_text(self.checkpoint), self._home("text") / "text.fp32.onnx", context=self.prompt.context_length
        )

    def _export_unet(self) -> None:
        unet = load_unet(self.checkpoint)
        export_unet(unet, self._home("unet") / "unet.fp32.onnx", context=self.prompt.context_length)

    def _export_decoders(self) -> None:
        export_decoder(load_vae(self.checkpoint), self._home("decoder") / "decoder.fp32.onnx")
        if self.checkpoint.tiny is not None:
            export_decoder(load_tiny(self.checkpoint.tiny), self._home(TINY_DECODER) / f"{TINY_DECODER}.fp32.onnx")

    def _calibrate_unet(self) -> dict[str, list[float]]:
        files = self._full_files()
        prompts = self._prompts()
        taken = prompts[int(self.options["parity_prompts"]) :] or prompts
        names = {layer.activation for layer in _layers(files["unet"], "full")}
        spans, latents = calibrate_unet(
            files, names, self._model, prompts=taken, ranges=self.ranges, threads=self.request.threads
        )
        np.save(self.workspace.scratch / "latents.npy", latents)
        return {name: [span.least, span.most] for name, span in spans.items()}

    def _calibrate_decoder(self) -> dict[str, Any]:
        path = self._full_files()["decoder"]
        names = {layer.activation for layer in _layers(path, "full")}
        latents = np.load(self.workspace.scratch / "latents.npy")
        spans, preview = calibrate_decoder(path, names, latents, threads=self.request.threads)
        return {"spans": {name: [span.least, span.most] for name, span in spans.items()}, "preview": preview}

    def _fit_preview(self) -> list[list[float]]:
        references = load_references(self.workspace.folder / REFERENCE_FILE)
        images = [np.asarray(image.transpose(2, 0, 1) / np.float32(255)) for image in references.images]
        return fit_preview(references.latents[:, -1], images)

    def _int8(
        self, unet_spans: Mapping[str, list[float]], decoder_spans: Mapping[str, list[float]]
    ) -> GeneratorVariant:
        files, words = self._full_files(), {}
        if self._text_recipe != FLOAT32:
            self._stage(f"text: {self._text_recipe}", lambda: self._quantised("text", self._text_recipe, {}).name)
            files["text"], words["text"] = self._made("text", self._text_recipe), _words(self._text_recipe)
        for number, recipe in enumerate(self.options["decoder_recipes"]):
            ssim = self._stage(f"decoder: {recipe}", partial(self._try_decoder, recipe, decoder_spans))
            if ssim >= INT8_DECODER_SSIM or number == len(self.options["decoder_recipes"]) - 1:
                break
        files["decoder"] = self._made("decoder", recipe)
        words["decoder"] = _words(recipe)
        tried: dict[str, GeneratorParity] = {}
        for recipe in self.options["unet_recipes"]:
            found = self._stage(f"unet: {recipe}", partial(self._try_unet, recipe, unet_spans, files))
            tried[recipe] = GeneratorParity.model_validate(found)
            if min(tried[recipe].latents) >= INT8_LATENTS and tried[recipe].ssim >= INT8_SSIM:
                break
        best = max(tried, key=lambda each: (_passes(tried[each]), min(tried[each].latents)))
        self._gate("int8", tried[best], INT8_LATENTS, INT8_SSIM)
        files["unet"] = self._made("unet", best)
        words["unet"] = _words(best)
        kept = {role: self._keep(path) for role, path in files.items()}
        return self._variant(kept, words, tried[best], reduced=True)

    def _made(self, role: str, recipe: str) -> Path:
        if recipe == FLOAT32:
            return self._full_files()[role]
        path = self.workspace.scratch / f"{role}.int8-{recipe}.onnx"
        return path if path.is_file() else self.workspace.folder / path.name

    def _quantised(self, role: str, recipe: str, spans: Mapping[str, list[float]]) -> Path:
        if recipe == FLOAT32:
            return self._full_files()[role]
        source, target = self._full_files()[role], self.workspace.scratch / f"{role}.int8-{recipe}.onnx"
        if recipe == STORED:
            store_weights(source, target, name=role)
            return target
        known = {name: Span(least, most) for name, (least, most) in spans.items()}
        quantise(source, target, _layers(source, recipe), known, name=role)
        return target

    def _try_decoder(self, recipe: str, spans: Mapping[str, list[float]]) -> float:
        path = self._quantised("decoder", recipe, spans)
        return self._decoded(
            path, "decoder", load_references(self.workspace.folder / REFERENCE_FILE).images, reduced=True
        )

    def _try_unet(self, recipe: str, spans: Mapping[str, list[float]], files: Mapping[str, Path]) -> dict[str, Any]:
        return self._measure({**files, "unet": self._quantised("unet", recipe, spans)}, reduced=True)

    # Measuring

    def _measure(self, files: Mapping[str, Path], *, reduced: bool) -> dict[str, Any]:
        references = load_references(self.workspace.folder / REFERENCE_FILE)
        used = {role: path for role, path in files.items() if role != TINY_DECODER}
        found = []
        for kind in _engines():
            model = self._model(used, kind, reduced=reduced)
            try:
                found.append(compare(model, references))
            finally:
                model.close()
        # The same images on each engine.
        measured = least(found).model_copy(update={"images": len(references.prompts)})
        return measured.model_dump(mode="json")

    def _model(
        self, files: Mapping[str, Path], kind: EngineKind = "onnxruntime", *, reduced: bool = False
    ) -> GeneratorModel:
        options = EngineOptions(threads=self.request.threads, reduced_precision=reduced)
        sessions, described = load_sessions(files, guided=self.checkpoint.native, engine=kind, options=options)
        tokenizer = PromptTokenizer(self.workspace.folder / self.prompt.tokenizer, self.prompt)
        return GeneratorModel(self.draft, "draft", tokenizer, sessions, described)

    def _measure_tiny(self) -> float:
        images = np.load(self.workspace.scratch / _TINY_IMAGES)
        return self._decoded(self._full_files()[TINY_DECODER], TINY_DECODER, images, reduced=False)

    def _decoded(self, path: Path, role: str, images: Any, *, reduced: bool) -> float:
        latents = load_references(self.workspace.folder / REFERENCE_FILE).latents[:, -1]
        found = []
        for kind in _engines():
            model = self._model({role: path}, kind, reduced=reduced)
            try:
                found.append(decoded_ssim(model, latents, images, tiny=role == TINY_DECODER))
            finally:
                model.close()
        return round(min(found), 4)

    def _gate(self, variant: str, parity: GeneratorParity, latents: float, ssim: float) -> None:
        for what, measured, bar in (
            ("cosine of the latents", min(parity.latents), latents),
            ("SSIM of the image", parity.ssim, ssim),
        ):
            self._require(f"{variant}: {what}", measured, bar)

    def _gate_tiny(self, ssim: float) -> None:
        self._require("tiny decoder: SSIM with its original", ssim, FP32_SSIM)

    def _require(self, what: str, measured: float, bar: float) -> None:
        if measured >= bar:
            return
        miss = f"{what} {measured} < {bar}"
        if not self.request.allow_parity_miss:
            raise ParityError(miss)
        self.missed.append(miss)

    def _variant(
        self, files: Mapping[str, Path], words: Mapping[str, str], parity: GeneratorParity, *, reduced: bool
    ) -> GeneratorVariant:
        data = [name for path in files.values() for name in network_files(path)[1:]]
        return GeneratorVariant(
            files={role: path.name for role, path in files.items()},
            data=tuple(sorted(data)),
            quantisation={role: words.get(role, FLOAT32) for role in files},
            parity=parity,
            reduced_precision=reduced,
        )


def _whole(source: Path, scratch: Path) -> Path:
    """Returns the checkpoint's folder; the mini generator's is completed with CLIP's tokenizer first."""
    if not lacks_tokenizer(source):
        return source
    whole = scratch / "checkpoint"
    shutil.rmtree(whole, ignore_errors=True)  # a build that was stopped may have left half of it
    return complete(source, whole)


def _give_back_memory() -> None:
    """Gives a stage's memory back to the system: a network's gigabytes would add up over the stages."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _layers(path: Path, recipe: str) -> list[Any]:
    return layers(read_network(path), RECIPES[recipe], keep=("prompt",))


def _words(recipe: str) -> str:
    if recipe == STORED:
        return DESCRIPTION
    return FLOAT32 if recipe == FLOAT32 else RECIPES[recipe].description


def _passes(parity: GeneratorParity) -> bool:
    return min(parity.latents) >= INT8_LATENTS and parity.ssim >= INT8_SSIM


def _engines() -> tuple[Literal["onnxruntime", "openvino"], ...]:
    return ("onnxruntime", "openvino") if find_spec("openvino") is not None else ("onnxruntime",)
