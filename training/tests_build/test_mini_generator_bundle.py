"""Bundles of small generators: weights stored in int8, ranges of their own, and the mini generator's folder completed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import Draws, GeneratorManifest, verify_files
from mirage_inference.engines import make_engine
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_inference.generator.pipeline import default_request, make_image
from mirage_models.generator.stored import store_weights
from mirage_models.generator.task import GeneratorTask
from mirage_models.generator.whole_folder import lacks_tokenizer
from mirage_models.paths import bundles_folder
from mirage_models.tasks import BuildError, BuildRequest
from mirage_models.workspace import open_workspace
from mirage_training.mini_generator.folder import write_trained
from mirage_training.mini_generator.networks import make_autoencoder, make_unet
from mirage_training.mini_generator.recipe import Recipe

OPTIONS = {
    "unet_recipes": ["weights"],
    "decoder_recipes": ["weights"],
    "text_recipes": ["weights"],
    "guidance": 2,
    "guidance_range": [1, 4],
    "side_range": [160, 160],
    "parity_prompts": 1,
    "calibration_prompts": 1,
    "steps": 2,
}
SMALL = Recipe(
    vae_channels=(8, 8, 8, 8), unet_channels=(16, 32), unet_attention=(False, True), unet_heads=2, unet_groups=8
)

DRAWS = Draws(about="nothing yet", words=frozenset({"axial", "brain", "lobe"}), only_with={"lobe": ("brain",)})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained mini generator, as the repository holds one."""
    out = tmp_path_factory.mktemp("mini-generator") / "checkpoint"
    autoencoder, unet = make_autoencoder(SMALL), make_unet(SMALL, guided=True)
    write_trained(out, autoencoder=autoencoder, unet=unet, recipe=SMALL, draws=DRAWS)
    return out


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GeneratorManifest]:
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    request = BuildRequest(checkpoint, "mini", "untrained", "Apache-2.0", options=OPTIONS)
    with open_workspace(out, identity={"test": "mini"}) as workspace:
        manifest = GeneratorTask().build(request, workspace)
        workspace.seal(manifest, out, replace=False)
    return out, manifest


def test_stored_weights_are_a_quarter_of_the_size_and_as_exact(bundle: tuple[Path, GeneratorManifest]) -> None:
    folder, manifest = bundle
    variant = manifest.variants["int8"]
    assert set(variant.quantisation.values()) == {"int8 weights per channel, computed in float32"}
    assert min(variant.parity.latents) > 0.999
    assert variant.parity.ssim > 0.98
    assert sum(path.stat().st_size for path in folder.glob("text*")) < 8_500_000
    verify_files(folder, manifest)


def test_the_manifest_says_what_the_checkpoint_draws(bundle: tuple[Path, GeneratorManifest]) -> None:
    assert bundle[1].draws == DRAWS


def test_sides_are_multiples_of_what_the_unet_can_halve(bundle: tuple[Path, GeneratorManifest]) -> None:
    assert (len(SMALL.unet_channels), bundle[1].side_multiple) == (2, 16)
    shipped = load_model(bundles_folder() / "generator" / "bundle", options=EngineOptions(threads=1))
    try:
        assert (shipped.manifest.side_multiple, shipped.manifest.side.default) == (32, 160)
    finally:
        shipped.close()


def test_the_bundle_makes_images_within_its_own_ranges(bundle: tuple[Path, GeneratorManifest]) -> None:
    model = load_model(bundle[0], options=EngineOptions(threads=1))
    try:
        request = default_request(model.manifest, "axial T1")
        assert (request.width, request.guidance) == (160, 2)
        assert make_image(model, request).pixels.shape == (160, 160, 3)
        for change in ({"width": 192}, {"guidance": 5.0}):
            with pytest.raises(MirageError) as caught:
                make_image(model, replace(request, **change))
            assert caught.value.code is Code.OPTION_OUT_OF_RANGE
    finally:
        model.close()


def test_only_the_repositorys_folder_lacks_a_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    assert lacks_tokenizer(checkpoint)
    assert not lacks_tokenizer(tmp_path)
    (tmp_path / "model_index.json").write_text("{", "utf-8")
    assert not lacks_tokenizer(tmp_path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_table_and_a_layer_give_nearly_what_they_gave(tmp_path: Path, engine: str) -> None:
    random = np.random.default_rng(1)
    table, weight = (random.standard_normal(shape, dtype=np.float32) for shape in ((500, 64), (64, 80)))
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"], axis=0),
        helper.make_node("MatMul", ["rows", "weight"], ["hidden"]),
    ]
    graph = helper.make_graph(
        nodes,
        "text",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["b", "t"])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["b", "t", 80])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "a.onnx")
    store_weights(tmp_path / "a.onnx", tmp_path / "b.onnx", name="text")
    tokens = np.array([[3, 499, 0]], dtype=np.int64)
    session = make_engine(engine, EngineOptions(threads=1)).load(
        tmp_path / "b.onnx", inputs=("tokens",), output="hidden"
    )
    made, expected = session.run({"tokens": tokens}), table[tokens] @ weight
    session.close()
    assert np.abs(made - expected).max() < 0.03 * np.abs(expected).max()
    stored = {each.name: each.data_type for each in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert stored["table.int8"] == stored["weight.int8"] == TensorProto.INT8


def test_a_recipe_that_the_text_tower_has_not_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    request = BuildRequest(checkpoint, "mini", "untrained", "Apache-2.0", options={"text_recipes": ["full"]})
    with (
        open_workspace(tmp_path / "out", identity={"test": "refused"}) as workspace,
        pytest.raises(BuildError) as caught,
    ):
        GeneratorTask().build(request, workspace)
    assert "text_recipes: no recipe full" in str(caught.value)
