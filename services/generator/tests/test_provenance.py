"""Files of made images: what they say, and that they say the same again."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from mirage.png import read_picture
from mirage.provenance import compare, read_provenance
from mirage_api.provenance import SOURCE_TYPE, Provenance
from mirage_core.synthetic import is_marked
from mirage_core.synthetic_label import draw_label, shows_label
from mirage_generator.provenance import describe, encode_png
from mirage_inference.generator.model import GeneratorModel
from mirage_inference.generator.pipeline import ImageRequest, Pixels, make_image
from tests.support.oracle_generator import SCHEDULE, SIDE

REQUEST = ImageRequest("axial brain <&> Zöliakie 脳", steps=4, guidance=1.0, seed=5, width=SIDE, height=SIDE)
SHORTER = SCHEDULE.model_copy(update={"original_steps": 40})
MADE = datetime(2026, 11, 24, tzinfo=UTC)
MakeModel = Callable[..., GeneratorModel]


def make(model: GeneratorModel, request: ImageRequest = REQUEST) -> tuple[Pixels, Provenance]:
    pixels = make_image(model, request).pixels
    return pixels, describe(model, request, pixels, threads=2, job_id="j1", made=MADE)


@pytest.mark.parametrize("visible_mark", [True, False])
def test_a_file_says_what_made_it(make_model: MakeModel, visible_mark: bool) -> None:
    pixels, provenance = make(make_model())
    data = encode_png(pixels, provenance, visible_mark=visible_mark)
    assert read_provenance(data) == replace(provenance, visible_mark=visible_mark)
    shown = draw_label(pixels) if visible_mark else pixels
    assert read_picture(data).rgb == shown.tobytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), shown)
    assert is_marked(data)
    assert shows_label(Image.open(io.BytesIO(data))) == visible_mark


def test_any_tool_reads_the_texts(make_model: MakeModel) -> None:
    pixels, provenance = make(make_model())
    texts = PngImageFile(io.BytesIO(encode_png(pixels, provenance, visible_mark=True))).text
    assert texts["ai_generated"] == "true"
    assert texts["prompt"] == REQUEST.prompt
    assert (texts["seed"], texts["steps"], texts["guidance_scale"]) == ("5", "4", "1.0")
    assert texts["create_time"] == "2026-11-24T00:00:00+00:00"
    assert len(texts["fingerprint"]) == 64


def test_the_xmp_packet_says_in_the_iptcs_words_what_it_is(make_model: MakeModel) -> None:
    pixels, provenance = make(
        make_model(guidance={"least": 1, "most": 2, "default": 1}), replace(REQUEST, prompt="\x0b<a>")
    )
    image = PngImageFile(io.BytesIO(encode_png(pixels, provenance, visible_mark=False)))
    tree = ET.fromstring(image.text["XML:com.adobe.xmp"])
    said = {element.tag.rpartition("}")[2]: element.text for element in tree.iter()}
    assert said["DigitalSourceType"] == SOURCE_TYPE
    assert said["AIPromptInformation"] == "<a>"
    assert said["AISystemUsed"] == f"{provenance.software}, oracle"


def test_no_host_person_or_path_is_in_a_file(make_model: MakeModel) -> None:
    provenance = make(make_model())[1]
    asked = {"prompt", "negative_prompt", "seed", "steps", "guidance_scale", "width", "height"}
    making = {
        "bundle",
        "fingerprint",
        "variant",
        "decoder",
        "engine",
        "threads",
        "cpu",
        "software",
        "job_id",
        "create_time",
    }
    result = {"pixels_sha256", "visible_mark", "ai_generated", "Software", "Disclaimer"}
    assert set(provenance.texts()) == asked | making | result


def test_the_same_making_gives_the_same_file(make_model: MakeModel) -> None:
    first, second = (encode_png(*make(make_model()), visible_mark=True) for _ in range(2))
    assert first == second


def test_a_replay_is_the_same_to_the_bit_and_another_bundle_is_named(make_model: MakeModel) -> None:
    first = encode_png(*make(make_model()), visible_mark=True)
    asked = read_provenance(first)
    assert asked is not None
    again = ImageRequest(
        asked.prompt, asked.steps, asked.guidance_scale, asked.seed, asked.width, asked.height, asked.negative_prompt
    )
    for visible_mark in (True, False):
        result = compare(first, encode_png(*make(make_model(), again), visible_mark=visible_mark))
        assert result.same_pixels
        assert result.same_making
    differing = compare(first, encode_png(*make(make_model(schedule=SHORTER), again), visible_mark=True))
    assert [each.name for each in differing.differences] == ["fingerprint"]


def test_a_file_is_not_written_for_other_pixels(make_model: MakeModel) -> None:
    pixels, provenance = make(make_model())
    with pytest.raises(ValueError, match="other pixels"):
        encode_png(255 - pixels, provenance, visible_mark=True)
    with pytest.raises(ValueError, match="other pixels"):
        encode_png(pixels[:32], provenance, visible_mark=True)
