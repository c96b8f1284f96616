"""A checkpoint of any language model that can be built: its sizes, and how it is written and run.

The architecture is found in `config.json` or in the metadata of a GGUF file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from mirage_inference.llm.decoder import DecoderShape
from mirage_models.llm.architecture import CONFIG_FILE, read_config, read_json
from mirage_models.llm.gguf_file import GgufFile, find_gguf
from mirage_models.llm.gguf_tokenizer import write_gguf_tokenizer
from mirage_models.llm.graph import write_decoder
from mirage_models.llm.heads import head_layout
from mirage_models.llm.layout import Layout, config_from_gguf, config_from_json, layout_of
from mirage_models.llm.layout_graph import write_layout_decoder
from mirage_models.llm.layout_original import run_layout
from mirage_models.llm.tensors import Tensors
from mirage_models.llm.tokens import Format, complete_tokenizer, format_of
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mirage_models.llm.parity import Predictions
    from mirage_models.llm.smoothing import Peaks
    from mirage_models.llm.texts import ParityText
    from mirage_models.llm.weights import Form

Architecture: TypeAlias = Literal["gpt_neox"] | Layout


class GraphWriting(Protocol):
    """Writes a graph to `path`, and its weights to a file next to it; see `graph.write_decoder`."""

    def __call__(self, path: Path, form: Form, peaks: Peaks | None = None, /) -> object:
        """Writes them."""
        ...


@dataclass(frozen=True)
class DecoderSource:
    """An opened checkpoint. `write`, `run` and `save_tokenizer` raise CheckpointError if it is not whole."""

    architecture: Architecture
    shape: DecoderShape
    end_ids: tuple[int, ...]
    write: GraphWriting
    run: Callable[[Sequence[ParityText]], list[Predictions]]
    save_tokenizer: Callable[[Path], None]

    def write_tokenizer(self, target: Path) -> Format:
        """Writes `tokenizer.json`; returns the format of prompts that it is made for."""
        self.save_tokenizer(target)
        return format_of(target, vocabulary=self.shape.vocabulary, end_ids=self.end_ids)


def open_source(source: Path, *, threads: int) -> DecoderSource:
    """Opens the checkpoint in a folder, or a GGUF file.

    Raises CheckpointError and UnknownArchitectureError.
    """
    if (source / CONFIG_FILE).is_file():
        raw = read_json(source / CONFIG_FILE)
        layout = layout_of(raw)
        return _neox(source, threads) if layout is None else _folder(source, raw, layout, threads)
    if (path := find_gguf(source)) is not None:
        return _gguf(path, threads)
    return _neox(source, threads)


def builds_without_torch(source: Path) -> bool:
    """True if the checkpoint there is a GGUF file, or safetensors of a layout that it can be built from."""
    if not source.exists():
        return False
    if not (source / CONFIG_FILE).is_file():
        return find_gguf(source) is not None
    try:
        known = layout_of(read_json(source / CONFIG_FILE)) is not None
    except CheckpointError:
        return False
    return known and any(source.glob("*.safetensors"))


def _neox(source: Path, threads: int) -> DecoderSource:
    config, tensors = read_config(source), Tensors(source)

    def run(texts: Sequence[ParityText]) -> list[Predictions]:
        # Imported here: it needs torch, and a build that continues after this stage does not.
        from mirage_models.llm.original import run_original

        return run_original(source, tensors, config, texts, threads=threads)

    return DecoderSource(
        "gpt_neox",
        DecoderShape(config.vocabulary, config.layers, config.heads, head_layout(config).size, config.context),
        (config.end_id,),
        lambda path, form, peaks=None: write_decoder(tensors, config, path, form, peaks=peaks, threads=threads),
        run,
        lambda target: complete_tokenizer(source, target, vocabulary=config.vocabulary),
    )


def _folder(source: Path, raw: dict[str, Any], layout: Layout, threads: int) -> DecoderSource:
    config, tensors = config_from_json(raw, layout), Tensors(source)
    return DecoderSource(
        layout,
        DecoderShape(config.vocabulary, config.layers, config.key_heads, config.head, config.context),
        config.end_ids,
        lambda path, form, peaks=None: write_layout_decoder(tensors, config, path, form, peaks=peaks, threads=threads),
        lambda texts: run_layout(tensors, config, texts),
        lambda target: complete_tokenizer(source, target, vocabulary=config.vocabulary),
    )


def _gguf(path: Path, threads: int) -> DecoderSource:
    file = GgufFile(path)
    config = config_from_gguf(file.fields, tied=file.tied, factors=file.rotary_factors, name=path.name)
    return DecoderSource(
        config.layout,
        DecoderShape(config.vocabulary, config.layers, config.key_heads, config.head, config.context),
        config.end_ids,
        lambda target, form, peaks=None: write_layout_decoder(file, config, target, form, peaks=peaks, threads=threads),
        lambda texts: run_layout(file, config, texts),
        lambda target: write_gguf_tokenizer(file.fields, target, name=path.name),
    )
