"""A bundle of random weights that the generator service runs on in tests: real sessions, no torch, 200 kB.

`python -m mirage_models.generator.tiny_bundle --out services/generator/tests/tiny_bundle`, with the same files each
time. A step takes milliseconds at 64 x 64, and a good part of a second at 768 x 768 for tests that need a long job.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mirage_inference.bundles import (
    GeneratorManifest,
    GeneratorParity,
    GeneratorVariant,
    LcmSchedule,
    PromptInput,
    Range,
    describe_file,
)

OPSET = 18
CONTEXT, WIDTH, CHANNELS, LAYERS, SCALE = 16, 16, 64, 24, 8
WORDS = (
    *("<start>", "<end>", "<unknown>", "a", "and", "axial", "brain", "coronal", "ct", "in", "kidney", "left", "lesion"),
    *(
        "liver",
        "no",
        "of",
        "right",
        "sagittal",
        "section",
        "showing",
        "t1",
        "t2",
        "the",
        "thalamus",
        "weighted",
        "with",
    ),
)
ROLES = ("text", "unet", "decoder")


def write_tiny_bundle(out: Path, *, seed: int = 0) -> None:
    """Write the bundle's files into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    _write_tokenizer(out / "tokenizer.json")
    onnx.save(_text(draw), out / "text.onnx")
    onnx.save(_unet(draw), out / "unet.onnx")
    onnx.save(_decoder(draw), out / "decoder.onnx")
    np.savez(out / "reference.npz", seed=np.array(seed))
    files = {role: f"{role}.onnx" for role in ROLES}
    manifest = GeneratorManifest(
        name="tiny-generator",
        task="generate",
        source="random weights of this project",
        licence="Apache-2.0",
        opset=OPSET,
        variants={
            "fp32": GeneratorVariant(
                files=files,
                quantisation=dict.fromkeys(ROLES, "float32"),
                parity=GeneratorParity(images=1, latents=(1.0,), ssim=1.0),
            )
        },
        default_variant="fp32",
        reference="reference.npz",
        files=tuple(describe_file(out, name) for name in (*files.values(), "reference.npz", "tokenizer.json")),
        prompt=PromptInput(tokenizer="tokenizer.json", context_length=CONTEXT, start_id=0, end_id=1, pad_id=1),
        schedule=LcmSchedule(
            train_timesteps=1000,
            original_steps=50,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction="epsilon",
            timestep_scaling=10.0,
        ),
        guidance_input="unconditional",
        guidance=Range(least=1, most=2, default=1),
        steps=Range(least=1, most=10, default=4),
        side=Range(least=64, most=768, default=64),
        latent_channels=4,
        latent_scale=SCALE,
        preview=((0.2, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.2), (0.1, 0.1, 0.1), (0.5, 0.5, 0.5)),
        safety_checker="absent: random weights",
    )
    (out / "manifest.json").write_text(manifest.to_json() + "\n", "utf-8")


def _write_tokenizer(path: Path) -> None:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[2]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def _text(draw: np.random.Generator) -> Any:
    table = draw.standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "tokens"], ["hidden"])]
    return _model(nodes, {"table": table}, {"tokens": (TensorProto.INT64, [1, CONTEXT])}, "hidden", [1, CONTEXT, WIDTH])


def _unet(draw: np.random.Generator) -> Any:
    weights = {
        "axes": np.array([1], dtype=np.int64),
        "shape": np.array([1, CHANNELS, 1, 1], dtype=np.int64),
        "project": draw.standard_normal((WIDTH, CHANNELS)).astype(np.float32),
        "time": np.array(1e-3, dtype=np.float32),
        "first": _kernel(draw, CHANNELS, 4),
        "middle": _kernel(draw, CHANNELS, CHANNELS),
        "last": _kernel(draw, 4, CHANNELS),
    }
    nodes = [
        helper.make_node("ReduceMean", ["prompt", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "project"], ["projected"]),
        helper.make_node("Reshape", ["projected", "shape"], ["condition"]),
        helper.make_node("Cast", ["timestep"], ["when"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["when", "time"], ["scaled"]),
        helper.make_node("Add", ["condition", "scaled"], ["context"]),
        _convolution("sample", "first", "x0"),
    ]
    # One kernel many times: small in the repository, and as slow as a test needs it.
    for layer in range(LAYERS):
        nodes += [
            helper.make_node("Add", [f"x{layer}", "context"], [f"added{layer}"]),
            helper.make_node("Tanh", [f"added{layer}"], [f"bent{layer}"]),
            _convolution(f"bent{layer}", "middle", f"x{layer + 1}"),
        ]
    nodes += [_convolution(f"x{LAYERS}", "last", "bias"), helper.make_node("Add", ["sample", "bias"], ["prediction"])]
    latents = [1, 4, "height", "width"]
    inputs = {
        "sample": (TensorProto.FLOAT, latents),
        "timestep": (TensorProto.INT64, [1]),
        "prompt": (TensorProto.FLOAT, [1, CONTEXT, WIDTH]),
    }
    return _model(nodes, weights, inputs, "prediction", latents)


def _decoder(draw: np.random.Generator) -> Any:
    weights = {
        "colours": draw.standard_normal((3, 4, 1, 1)).astype(np.float32),
        "none": np.array([], dtype=np.float32),
        "scales": np.array([1, 1, SCALE, SCALE], dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["latents", "colours"], ["mixed"]),
        helper.make_node("Sigmoid", ["mixed"], ["bounded"]),
        helper.make_node("Resize", ["bounded", "none", "scales"], ["image"], mode="linear"),
    ]
    inputs = {"latents": (TensorProto.FLOAT, ["batch", 4, "height", "width"])}
    return _model(nodes, weights, inputs, "image", ["batch", 3, "rows", "columns"])


def _kernel(draw: np.random.Generator, outputs: int, inputs: int) -> Any:
    return (draw.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)).astype(np.float32)


def _convolution(source: str, weight: str, target: str) -> Any:
    return helper.make_node("Conv", [source, weight], [target], pads=[1, 1, 1, 1])


def _model(nodes: Any, weights: Any, inputs: Any, output: str, shape: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, dimensions) for name, (kind, dimensions) in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    write_tiny_bundle(parser.parse_args().out)
