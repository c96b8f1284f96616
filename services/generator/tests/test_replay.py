"""An image made again from its own file, on real engines and in another process."""

import subprocess
import sys
from pathlib import Path

import pytest

from mirage.provenance import compare, read_provenance
from mirage_api.provenance import Provenance
from mirage_generator.provenance import describe, encode_png
from mirage_inference.engines import EngineKind
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_inference.generator.pipeline import ImageRequest, make_image

BUNDLE = Path(__file__).parent / "tiny_bundle"
KINDS: list[EngineKind] = ["onnxruntime", "openvino"]
REQUEST = ImageRequest(
    "axial T2 of the brain", 4, 1.1 + 0.2, 2**63 - 1, width=128, height=64, negative_prompt="left lesion"
)


def make(request: ImageRequest, kind: EngineKind, *, visible_mark: bool = True) -> bytes:
    """The PNG file of an image, by a model that is loaded for it alone."""
    model = load_model(BUNDLE, engine=kind, options=EngineOptions(threads=1))
    pixels = make_image(model, request).pixels
    model.close()
    return encode_png(pixels, describe(model, request, pixels, threads=1), visible_mark=visible_mark)


def request_in(data: bytes) -> ImageRequest:
    said = read_provenance(data)
    assert isinstance(said, Provenance)
    return ImageRequest(
        said.prompt, said.steps, said.guidance_scale, said.seed, said.width, said.height, said.negative_prompt
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_engine_gives_the_same_pixels_in_another_process(kind: EngineKind, tmp_path: Path) -> None:
    first = make(REQUEST, kind)
    assert request_in(first) == REQUEST
    file, again = tmp_path / "first.png", tmp_path / "again.png"
    file.write_bytes(first)
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_replay as t; "
        "Path(sys.argv[3]).write_bytes(t.make(t.request_in(Path(sys.argv[2]).read_bytes()), sys.argv[4]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(file), str(again), kind]
    subprocess.run(command, check=True, timeout=120)
    result = compare(first, again.read_bytes())
    assert result.same_pixels
    assert result.same_making


def test_another_engine_is_named_and_the_label_does_not_matter() -> None:
    first = make(REQUEST, "onnxruntime")
    assert compare(first, make(REQUEST, "onnxruntime", visible_mark=False)).same_pixels
    result = compare(first, make(REQUEST, "openvino"))
    assert [each.name for each in result.differences] == ["engine"]
    assert not result.same_making
