"""Open_clip checkpoints in the layout of the Hugging Face Hub: the builder's input."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from mirage_models.encoder import grid_trunk  # noqa: F401  # timm is to know its name
from mirage_models.encoder.weights import find_weights, load_into, read_weights
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE = "open_clip_config.json"
KNOWN = (
    "open_clip checkpoints (open_clip_config.json) with a ViT of open_clip or timm for images, and for texts a causal "
    "transformer pooled at the end token or a BERT"
)
_BERT = "bert"
# As first published with BiomedCLIP, before open_clip renamed them.
_OLD_NAMES = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"}


@dataclass(frozen=True)
class Checkpoint:
    """A model in PyTorch fp32, evaluation mode, with the configuration that it came with.

    `model` has `encode_image(float[B, 3, S, S])` and `encode_text(int64[B, context])`, both to `float[B, dimension]`.
    """

    model: torch.nn.Module
    model_cfg: Mapping[str, Any]
    preprocess_cfg: Mapping[str, Any]
    directory: Path

    @property
    def text_cfg(self) -> Mapping[str, Any]:
        """The text tower's part of the configuration."""
        cfg: Mapping[str, Any] = self.model_cfg["text_cfg"]
        return cfg


def read_config(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's and the preprocessing's configuration.

    Raises CheckpointError, and UnknownArchitectureError for a kind that cannot be built.
    """
    try:
        content = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
        model_cfg, preprocess_cfg = dict(content["model_cfg"]), dict(content.get("preprocess_cfg", {}))
        vision, text = dict(model_cfg["vision_cfg"]), dict(model_cfg["text_cfg"])
        model_cfg["embed_dim"] = int(model_cfg["embed_dim"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{CONFIG_FILE} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{CONFIG_FILE} is not the configuration of an open_clip model") from error
    if text.get("hf_model_name"):
        for old, new in _OLD_NAMES.items():
            if old in text:
                text[new] = text.pop(old)
    _check_kind(model_cfg, vision, text)
    return {**model_cfg, "vision_cfg": vision, "text_cfg": text}, preprocess_cfg


def _check_kind(model_cfg: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    if "multimodal_cfg" in model_cfg:
        raise UnknownArchitectureError(f"a CoCa model (multimodal_cfg) was found; known are {KNOWN}")
    if isinstance(vision.get("layers"), list):
        raise UnknownArchitectureError(f"a ResNet image tower was found; known are {KNOWN}")
    trunk = vision.get("timm_model_name")
    # Also keeps out timm's "hf-hub:" names, for which it would call the hub.
    if trunk and not timm.is_model(trunk):
        raise UnknownArchitectureError(
            f"the image tower {str(trunk)[:80]} is not one of timm {timm.__version__}'s models"
        )
    if text.get("tokenizer_mode") or text.get("tokenizer_kwargs", {}).keys() - {"clean", "reduction_mask"}:
        raise UnknownArchitectureError("a tokenizer with a mode or options of its own was found; plain ones are known")


def load_checkpoint(directory: Path) -> Checkpoint:
    """Loads a local folder in the hub's layout (`open_clip_config.json` and weights) without using a network.

    Raises CheckpointError if a file is missing, cannot be read or does not fit the configuration, and
    UnknownArchitectureError for a kind of model that cannot be built.
    """
    model_cfg, preprocess_cfg = read_config(directory)
    weights = find_weights(directory)
    model = make_model(model_cfg, tower=text_tower_config(directory, model_cfg["text_cfg"]))
    load_into(model, read_weights(weights), name=weights.name)
    model.eval().requires_grad_(False)
    cfg = merge_preprocess_dict(asdict(PreprocessCfg()), preprocess_cfg)
    cfg["size"] = model.visual.image_size
    return Checkpoint(model=model, model_cfg=model_cfg, preprocess_cfg=cfg, directory=directory)


def make_model(model_cfg: Mapping[str, Any], *, tower: Mapping[str, Any] | None) -> Any:
    """The model of a configuration with open_clip's random initialisation.

    `tower` configures a Hugging Face text tower.

    Raises CheckpointError for a configuration that open_clip does not accept.
    """
    cfg = {name: value for name, value in model_cfg.items() if name not in ("custom_text", "preprocess_cfg")}
    cfg["vision_cfg"] = {**cfg["vision_cfg"], "timm_model_pretrained": False}
    try:
        if tower is None:
            return CustomTextCLIP(**cfg) if model_cfg.get("custom_text") else CLIP(**cfg)
        with tempfile.TemporaryDirectory() as folder:
            # Open_clip asks for the tower's configuration by its name on the hub; a folder is a name too.
            (Path(folder) / "config.json").write_text(json.dumps(tower), "utf-8")
            cfg["text_cfg"] = {**cfg["text_cfg"], "hf_model_name": folder, "hf_model_pretrained": False}
            return CustomTextCLIP(**cfg)
    except (TypeError, AssertionError, ValueError, KeyError) as error:
        raise CheckpointError(f"{CONFIG_FILE} describes a model that open_clip does not build: {error}") from error


def text_tower_config(directory: Path, text_cfg: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the configuration of a Hugging Face text tower: `config.json` in the checkpoint's folder, else the known
    one of that name.

    None for open_clip's own text tower; raises UnknownArchitectureError for a tower that is not known.
    """
    name = text_cfg.get("hf_model_name")
    if not name:
        return None
    config = _local_config(directory) or _known_config(str(name))
    if config is None:
        known = json.loads(_known_text())["towers"]
        raise UnknownArchitectureError(
            f"the text tower {str(name)[:100]} is not known and no config.json of it lies beside the weights; "
            f"known are {', '.join(known)}"
        )
    if config.get("model_type") != _BERT:
        raise UnknownArchitectureError(
            f"a text tower of type {str(config.get('model_type'))[:40]} was found; known is BERT"
        )
    return config


def _local_config(directory: Path) -> dict[str, Any] | None:
    path = directory / "config.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError("config.json cannot be read") from error
    # Timm's repositories have a config.json of the image tower, without a model type.
    return content if isinstance(content, dict) and "model_type" in content else None


def _known_config(name: str) -> dict[str, Any] | None:
    known = json.loads(_known_text())
    kind = known["towers"].get(name)
    return None if kind is None else dict(known["configs"][kind])


def _known_text() -> str:
    return (resources.files("mirage_models.encoder") / "text_configs.json").read_text("utf-8")
