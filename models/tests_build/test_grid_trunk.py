"""The image trunk that keeps places: it exports as it is, most of its convolutions become int8, and places count."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mirage_models.encoder.checkpoint import make_model
from mirage_models.encoder.export import export_image_tower
from mirage_models.encoder.grid_trunk import NAME, SIDE, GridTrunk
from mirage_models.encoder.quantise import CONVOLUTIONS, quantise
from mirage_models.encoder.towers import ImageTower

SIDE_PX = 192


@pytest.fixture(scope="module")
def tower() -> ImageTower:
    torch.manual_seed(0)
    vision = {"timm_model_name": NAME, "timm_pool": "", "timm_proj": "linear", "image_size": SIDE_PX}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    cfg = {"embed_dim": 16, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    model = make_model(cfg, tower=None)
    with torch.no_grad():
        # Statistics of its own instead of none: without them, numbers die out on the way through random weights.
        model.visual(torch.randn(4, 3, SIDE_PX, SIDE_PX))
    return ImageTower(model).eval()


@pytest.fixture(scope="module")
def exported(tower: ImageTower, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tower") / "image.onnx"
    onnx.save(export_image_tower(tower, image_size=SIDE_PX), path)
    return path


def vectors(path: Path, pixels: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(path).run(None, {"pixels": pixels})[0]
    return found


def test_the_exported_tower_gives_the_same_vectors(tower: ImageTower, exported: Path) -> None:
    pixels = torch.randn(3, 3, SIDE_PX, SIDE_PX)
    with torch.no_grad():
        expected = tower(pixels).numpy()
    np.testing.assert_allclose((vectors(exported, pixels.numpy()) * expected).sum(axis=1), 1, atol=1e-4)


def test_most_convolutions_become_int8_and_the_vectors_stay(exported: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    batches = [random.standard_normal((1, 3, SIDE_PX, SIDE_PX), dtype=np.float32) for _ in range(6)]
    smaller = tmp_path / "image.int8.onnx"
    quantise(exported, smaller, CONVOLUTIONS, input_name="pixels", batches=batches[:4])
    graph = onnx.load(smaller).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    whole = [kinds.get(node.input[1]) == onnx.TensorProto.FLOAT for node in convolutions]
    fifth = len(convolutions) // 5
    assert whole == [True] * fifth + [False] * (len(convolutions) - fifth - 1) + [True]
    assert all(
        kinds[made[node.input[1]].input[0]] == onnx.TensorProto.INT8
        for node, kept in zip(convolutions, whole, strict=True)
        if not kept
    )
    assert smaller.stat().st_size < 0.5 * exported.stat().st_size
    pixels = np.concatenate(batches[4:])
    assert (vectors(smaller, pixels) * vectors(exported, pixels)).sum(axis=1).min() > 0.9


def test_where_something_is_changes_the_vector_and_the_average_alone_does_not() -> None:
    trunk = GridTrunk().eval()
    hidden = torch.zeros(2, 1280, SIDE, SIDE)
    hidden[0, :, 1, 1] = hidden[1, :, 1, 4] = 1.0
    with torch.no_grad():
        left, right = trunk.join(hidden)
    assert left.shape == (GridTrunk.num_features,)
    assert torch.equal(left[:1280], right[:1280])
    assert not torch.allclose(left[1280:], right[1280:])
