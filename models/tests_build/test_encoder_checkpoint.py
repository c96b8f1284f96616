"""Checkpoints of encoders that come in other forms, or are not whole, or of a kind that cannot be built."""

import json
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mirage_models.encoder.checkpoint import load_checkpoint
from mirage_models.encoder.inputs import describe_text
from mirage_models.encoder.random_checkpoint import write_random_checkpoint
from mirage_models.encoder.task import EncoderTask
from mirage_models.encoder.weights import find_weights, read_weights
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

WEIGHTS = "open_clip_model.safetensors"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint("openai-vit-b-32", tmp_path_factory.mktemp("clip"), size="small")


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint("biomedclip", tmp_path_factory.mktemp("bert"), size="small")


@pytest.fixture
def clip(clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clip_folder, tmp_path / "clip"))


@pytest.fixture
def bert(bert_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert_folder, tmp_path / "bert"))


def set_config(folder: Path, part: str, **values: object) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][part].update(values)
    path.write_text(json.dumps(config))


def set_weights(folder: Path, **values: torch.Tensor | None) -> None:
    state: dict[str, Any] = load_file(folder / WEIGHTS) | values
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, folder / WEIGHTS)


@pytest.mark.parametrize("form", ["safetensors", "bin", "training"])
def test_the_form_of_the_weights_does_not_matter(form: Any, tmp_path: Path, clip_folder: Path) -> None:
    folder = write_random_checkpoint("openai-vit-b-32", tmp_path / "other", size="small", form=form)
    expected = load_checkpoint(clip_folder).model.state_dict()
    found = load_checkpoint(folder).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_half_precision_weights_are_run_in_float32(tmp_path: Path) -> None:
    folder = write_random_checkpoint("medicat-roco", tmp_path / "half", size="small", half=True)
    assert {tensor.dtype for tensor in read_weights(find_weights(folder)).values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_checkpoint(folder).model.parameters()} == {torch.float32}


def test_the_weights_named_by_open_clip_go_before_others(clip: Path) -> None:
    save_file({"patch_embed.weight": torch.zeros(1)}, clip / "model.safetensors")  # timm's image tower alone
    assert find_weights(clip).name == WEIGHTS


def test_biomedclip_has_the_key_that_newer_libraries_do_not_know(bert_folder: Path) -> None:
    state = torch.load(bert_folder / "open_clip_pytorch_model.bin", weights_only=True)
    assert state["text.transformer.embeddings.position_ids"].shape == (1, 512)
    assert "text.transformer.pooler.dense.weight" not in load_checkpoint(bert_folder).model.state_dict()


def test_older_names_of_the_text_towers_options_are_understood(bert: Path) -> None:
    path = bert / "open_clip_config.json"
    renamed = path.read_text().replace('"hf_proj_type"', '"proj"').replace('"hf_pooler_type"', '"pooler_type"')
    path.write_text(renamed)
    assert len(load_checkpoint(bert).model.text.proj) == 3


def test_a_known_text_tower_needs_no_configuration_of_its_own(bert: Path) -> None:
    (bert / "config.json").unlink()
    with pytest.raises(CheckpointError, match="141 more"):  # by its name it is the large one
        load_checkpoint(bert)


def test_no_network_is_touched(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    describe_text(load_checkpoint(bert))


def test_a_folder_is_recognised_by_its_configuration(clip: Path, tmp_path: Path) -> None:
    assert EncoderTask().recognises(clip)
    assert not EncoderTask().recognises(tmp_path)


INCOMPLETE: dict[str, tuple[Spoil, str]] = {
    "no configuration": (
        lambda folder: (folder / "open_clip_config.json").unlink(),
        "open_clip_config.json is missing",
    ),
    "a configuration that is none": (
        lambda folder: (folder / "open_clip_config.json").write_text("[]"),
        "configuration",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no weights"),
    "weights cut short": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:9999]),
        "read",
    ),
    "a tensor too few": (lambda folder: set_weights(folder, text_projection=None), "lacks text_projection"),
    "a tensor too many": (lambda folder: set_weights(folder, other=torch.zeros(1)), "holds other"),
    "another shape": (
        lambda folder: set_weights(folder, text_projection=torch.zeros(3, 3)),
        "text_projection has shape",
    ),
    "no number": (lambda folder: set_weights(folder, text_projection=torch.full((64, 64), torch.nan)), "not finite"),
    "another size": (lambda folder: set_config(folder, "vision_cfg", image_size=128), "has shape"),
    "an unknown setting": (lambda folder: set_config(folder, "vision_cfg", colour="red"), "does not build"),
}


@pytest.mark.parametrize("spoilt", INCOMPLETE)
def test_a_checkpoint_that_is_not_whole_is_refused(spoilt: str, clip: Path) -> None:
    spoil, message = INCOMPLETE[spoilt]
    spoil(clip)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(clip)


def test_weights_that_would_run_code_are_refused(clip: Path, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (clip / WEIGHTS).unlink()
    (clip / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"a": Code()}, protocol=2))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(clip)
    assert not (tmp_path / "ran").exists()


def test_a_missing_tokenizer_is_named(bert: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (bert / name).unlink()
    with pytest.raises(CheckpointError, match="tokenizer is missing"):
        describe_text(load_checkpoint(bert))


def test_a_spoilt_tokenizer_is_refused(bert: Path) -> None:
    (bert / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer cannot be read"):
        describe_text(load_checkpoint(bert))


UNKNOWN: dict[str, Spoil] = {
    "a ResNet": lambda folder: set_config(folder, "vision_cfg", layers=[3, 4, 6, 3]),
    "an image tower on the hub": lambda folder: set_config(folder, "vision_cfg", timm_model_name="hf-hub:a/b"),
    "a text tower that nobody described": lambda folder: set_config(folder, "text_cfg", hf_model_name="nobody/knows"),
    "a tokenizer with a mode": lambda folder: set_config(folder, "text_cfg", tokenizer_mode="clips"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_kind_that_cannot_be_built_is_named(kind: str, clip: Path) -> None:
    UNKNOWN[kind](clip)
    with pytest.raises(UnknownArchitectureError):
        load_checkpoint(clip)


def test_a_text_tower_of_another_type_is_named(bert: Path) -> None:
    (bert / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UnknownArchitectureError, match="t5"):
        load_checkpoint(bert)
