"""From a checkpoint to a language model's bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from mirage_inference.bundles import Learnt, LlmManifest, describe_file
from mirage_inference.bundles.llm import DECODER, PROMPT, ChatFormat, LlmParity, LlmVariant, PromptGraph
from mirage_inference.llm.glossary import reviewed
from mirage_inference.llm.learnt import known_share, perplexity
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeDecoder, OnnxRuntimeEngine
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_models.llm.architecture import KNOWN
from mirage_models.llm.decoder_source import open_source
from mirage_models.llm.parity import compare, run_decoder, run_prompts
from mirage_models.llm.references import References, load_references, save_references
from mirage_models.llm.smoothing import measure_peaks
from mirage_models.llm.texts import SENTENCES, ParityText, parity_texts, read_captions
from mirage_models.llm.tokens import TOKENIZER_FILE, Format
from mirage_models.llm.weights import BLOCK, OPSET, Precision
from mirage_models.tasks import UNSHOWN, BuildError, ParityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mirage_inference.bundles import Task as TaskName
    from mirage_models.tasks import BuildRequest
    from mirage_models.workspace import Workspace

REFERENCE_FILE = "reference.npz"
VOCABULARY_FILE, ANSWERS_FILE = "vocabulary.txt", "answers.txt"
LEARNT_WORDS, LEARNT_PROMPTS, LEARNT_ANSWERS = "learnt_words.txt", "learnt_prompts.jsonl", "learnt_answers.json"
"""Files of a checkpoint that has learnt captions of one kind only: its words, the captions of held-out prompts, and, if it
copies, the `words` that it writes beyond its captions' and how much `copying` is favoured, in nats a token.
"""
VARIANTS: tuple[str, ...] = get_args(Precision)
# Bars: the least share of next tokens that are the original's, and the most perplexity relative to the original's.
BARS: dict[str, tuple[float, float]] = {"fp32": (0.999, 1.001), "int8": (0.97, 1.02), "int4": (0.9, 1.1)}
# The same for the decoder after a prompt that the other graph has read, relative to the decoder alone.
PROMPT_BAR = (0.85, 1.03)
PROMPT_OPTION = "prompt_graph"
_QUANTISATION = {
    "fp32": "float32 weights",
    "int8": f"int8 weights in blocks of {BLOCK['int8']}, int8 activations by block; embeddings in 16 bits",
    "int4": f"int4 weights in blocks of {BLOCK['int4']}, int8 activations by block; embeddings in 16 bits",
    PROMPT: "int8 weights with one scale for each column, int8 activations by row; embeddings in 16 bits",
}
_PARITY_TOKENS = 2048
_REFERENCE_TOKENS = 256
_PEAK_TOKENS = 1024


class LlmTask:
    """Builds language models. See `mirage_models.tasks.Task`."""

    name: TaskName = "describe"
    knows = KNOWN

    def build(self, request: BuildRequest, workspace: Workspace) -> LlmManifest:
        """See Task.build; raises CheckpointError, UnknownArchitectureError, ParityError, BuildError."""
        return _Build(request, workspace).run()


class _Build:
    """One build: what its stages share. Between them, files pass what is large."""

    def __init__(self, request: BuildRequest, workspace: Workspace) -> None:
        self.request, self.workspace = request, workspace
        self.variants = request.variants or ("int4",)
        if unknown := set(self.variants) - set(VARIANTS):
            raise BuildError(
                f"a language model has no variant {', '.join(sorted(unknown))}; it has {', '.join(VARIANTS)}"
            )
        if unknown := set(request.options) - {PROMPT_OPTION}:
            raise BuildError(f"a language model has no option {', '.join(sorted(unknown))}")
        self.source = open_source(request.source, threads=request.threads)
        self.shape = self.source.shape
        self.missed: list[str] = []
        self.original_file = workspace.scratch / "original.npz"

    def run(self) -> LlmManifest:
        """All stages in order."""
        stage = self.workspace.stage
        written = stage("tokenizer", self._tokenizer)
        chat = written["chat"] and ChatFormat.model_validate(written["chat"])
        form = Format(written["format"], tuple(written["end_ids"]), chat)
        stage("original", lambda: self._original(form))
        stage("references", self._references)
        variants: dict[str, LlmVariant] = {}
        for name in self.variants:
            stage(f"write {name}", self._writing(cast("Precision", name)))
            measured = stage(f"compare {name}", self._comparing(name))
            prompt = self._prompt_graph(name) if self.request.options.get(PROMPT_OPTION) else None
            roles = {DECODER: self._path(name), **({PROMPT: self._path(name, PROMPT)} if prompt else {})}
            variants[name] = LlmVariant(
                files={role: path.name for role, path in roles.items()},
                data=tuple(path.with_suffix(".data").name for path in roles.values()),
                quantisation={role: _QUANTISATION[PROMPT if role == PROMPT else name] for role in roles},
                parity=LlmParity.model_validate(measured["parity"]),
                reference=LlmParity.model_validate(measured["reference"]),
                prompt=prompt,
            )
            self._judge(name, variants[name].parity, BARS[name], "the original's")
        learnt = stage("learnt", self._learnt) if (self.request.source / LEARNT_WORDS).is_file() else None
        return self._manifest(form, variants, Learnt.model_validate(learnt) if learnt else None)

    def _learnt(self) -> dict[str, Any]:
        """Measures what captions of held-out prompts reach, with the default variant."""
        source, folder = self.request.source, self.workspace.folder
        words = (source / LEARNT_WORDS).read_text("utf-8").split()
        (folder / VOCABULARY_FILE).write_text("\n".join(words) + "\n", "utf-8")
        written: dict[str, Any] = {}
        if (source / LEARNT_ANSWERS).is_file():
            answers = json.loads((source / LEARNT_ANSWERS).read_text("utf-8"))
            (folder / ANSWERS_FILE).write_text("\n".join(answers["words"]) + "\n", "utf-8")
            written = {"answers": ANSWERS_FILE, "copying": float(answers["copying"])}
        prompts = [json.loads(line) for line in (source / LEARNT_PROMPTS).read_text("utf-8").splitlines()]
        tokenizer = LlmTokenizer(folder / TOKENIZER_FILE, vocabulary=self.shape.vocabulary)
        decoder = self._load(self.variants[0])
        shares = [known_share(captions, frozenset(words)) for captions in prompts]
        perplexities = [perplexity(decoder, tokenizer, captions) for captions in prompts]
        decoder.close()
        # One prompt in a hundred of the model's own kind may be beyond each bar.
        known, most = np.percentile(shares, 1), np.percentile(perplexities, 99)
        measured = {"known": round(float(known), 3), "perplexity": round(float(most), 1)}
        return {"vocabulary": VOCABULARY_FILE, **measured, **written}

    def _tokenizer(self) -> dict[str, Any]:
        form = self.source.write_tokenizer(self.workspace.folder / TOKENIZER_FILE)
        chat = form.chat and form.chat.model_dump(mode="json")
        return {"format": form.name, "end_ids": form.end_ids, "chat": chat}

    def _texts(self, form: Format) -> list[ParityText]:
        tokenizer = LlmTokenizer(self.workspace.folder / TOKENIZER_FILE, vocabulary=self.shape.vocabulary)
        captions = list(SENTENCES)
        if self.request.calibration is not None:
            try:
                captions = read_captions(self.request.calibration, items=self.request.calibration_items)
            except ValueError as error:
                raise BuildError(str(error)) from error
        try:
            return parity_texts(
                tokenizer,
                captions,
                form=form.prompt,
                context=self.shape.context_length,
                tokens=_PARITY_TOKENS,
            )
        except ValueError as error:
            raise BuildError(str(error)) from error

    def _original(self, form: Format) -> dict[str, Any]:
        texts = self._texts(form)
        found = self.source.run(texts)
        save_references(self.original_file, References(tuple(texts), tuple(found)))
        return {"texts": len(texts), "tokens": sum(text.predicted for text in texts)}

    def _references(self) -> dict[str, Any]:
        chosen = self._compared().first(_REFERENCE_TOKENS)
        save_references(self.workspace.folder / REFERENCE_FILE, chosen)
        return {"texts": len(chosen.texts)}

    def _compared(self) -> References:
        return load_references(self.original_file, vocabulary=self.shape.vocabulary, context=self.shape.context_length)

    def _path(self, name: str, role: str = DECODER) -> Path:
        return self.workspace.folder / f"{role}.{name}.onnx"

    def _writing(self, name: Precision) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            self.source.write(self._path(name), name)
            return {"bytes": self._path(name).with_suffix(".data").stat().st_size}

        return make

    def _load(self, name: str, prompt: Path | None = None) -> OnnxRuntimeDecoder:
        return OnnxRuntimeEngine().load_file(self._path(name), self.shape, threads=self.request.threads, prompt=prompt)

    def _facts(self) -> list[int]:
        """Ids of the reviewed facts, a text that nothing is compared on."""
        tokenizer = LlmTokenizer(self.workspace.folder / TOKENIZER_FILE, vocabulary=self.shape.vocabulary)
        return tokenizer.encode("\n".join(fact.sentence for fact in reviewed()))[:_PEAK_TOKENS]

    def _prompt_graph(self, name: str) -> PromptGraph:
        """Writes the graph that reads prompts for a variant, and compares the decoder after it with the decoder alone."""
        path = self._path(name, PROMPT)

        def write() -> dict[str, Any]:
            peaks = measure_peaks(self._path(name), self.shape, [self._facts()], threads=self.request.threads)
            self.source.write(path, PROMPT, peaks)
            return {"bytes": path.with_suffix(".data").stat().st_size}

        def measure() -> dict[str, Any]:
            texts = self._compared().texts
            decoder = self._load(name)
            alone = run_decoder(decoder, texts)
            decoder.close()
            decoder = self._load(name, path)
            after = run_prompts(decoder, texts)
            decoder.close()
            few = len(self._compared().first(_REFERENCE_TOKENS).texts)
            parity, reference = compare(after, alone), compare(after[:few], alone[:few])
            return {"parity": parity.model_dump(mode="json"), "reference": reference.model_dump(mode="json")}

        written = self.workspace.stage(f"write {name} {PROMPT}", write)
        measured = self.workspace.stage(f"compare {name} {PROMPT}", measure)
        graph = PromptGraph.model_validate({**measured, "memory_bytes": written["bytes"]})
        self._judge(f"prompts of {name}", graph.parity, PROMPT_BAR, "the decoder's alone")
        return graph

    def _comparing(self, name: str) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            everything = self._compared()
            decoder = self._load(name)
            found = run_decoder(decoder, everything.texts)
            decoder.close()
            few = len(everything.first(_REFERENCE_TOKENS).texts)
            parity = compare(found, everything.original)
            reference = compare(found[:few], everything.original[:few])
            return {"parity": parity.model_dump(mode="json"), "reference": reference.model_dump(mode="json")}

        return make

    def _judge(self, name: str, parity: LlmParity, bar: tuple[float, float], whose: str) -> None:
        agreement, ratio = bar
        if parity.agreement < agreement:
            self._miss(f"{name}: {parity.agreement} of next tokens are {whose}, the bar is {agreement}")
        if parity.perplexity_ratio > ratio:
            self._miss(f"{name}: perplexity {parity.perplexity_ratio} times {whose}, the bar is {ratio}")

    def _miss(self, message: str) -> None:
        if not self.request.allow_parity_miss:
            raise ParityError(message)
        self.missed.append(message)

    def _manifest(self, form: Format, variants: dict[str, LlmVariant], learnt: Learnt | None) -> LlmManifest:
        folder, shape = self.workspace.folder, self.shape
        unshown = self.request.calibration is None and set(self.variants) != {"fp32"}
        return LlmManifest(
            name=self.request.name,
            task="describe",
            source=self.request.origin,
            licence=self.request.licence,
            opset=OPSET,
            variants=variants,
            default_variant=self.variants[0],
            reference=REFERENCE_FILE,
            files=tuple(describe_file(folder, path) for path in sorted(path.name for path in folder.iterdir())),
            parity_missed=tuple(self.missed),
            remarks=(UNSHOWN,) if unshown else (),
            architecture=self.source.architecture,
            tokenizer=TOKENIZER_FILE,
            prompt_format=form.name,
            chat=form.chat,
            vocabulary=shape.vocabulary,
            layers=shape.layers,
            heads=shape.heads,
            head_size=shape.head_size,
            context_length=shape.context_length,
            end_ids=form.end_ids,
            learnt=learnt,
        )
