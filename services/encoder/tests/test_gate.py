"""Guesses about an image: what a page, a drawing, a brain section and a file that is no image get."""

import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mirage_atlas.readers import open_reader
from mirage_core.errors import Code, MirageError
from mirage_encoder.embedder import Embedder, EmbedderOptions
from mirage_encoder.gate import Gate, Kind, PictureGate
from mirage_inference.bundles import GateFacet, GateValue, ImageGate
from mirage_inference.encoder.picture_statistics import NAMES, picture_statistics
from tests.support.dicom_builder import dicom


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def page_of_text() -> Image.Image:
    picture = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 640, 40), fill=(30, 110, 220))
    for y in range(60, 460, 18):
        draw.rectangle((30, y, 560, y + 6), fill=(20, 20, 20))
    return picture


def coloured_drawing() -> Image.Image:
    picture = Image.new("RGB", (320, 320), (250, 220, 60))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 40, 200, 200), fill=(220, 30, 60))
    draw.rectangle((150, 150, 300, 300), fill=(20, 160, 80))
    return picture


def section(number: int = 0) -> bytes:
    records = [record for record in open_reader("demo").read() if hasattr(record, "read_image")]
    return records[number].read_image()


@pytest.fixture
async def embedder(model) -> AsyncIterator[Embedder]:
    made = Embedder(model, EmbedderOptions())
    await made.warm_up()
    yield made
    await made.close()


def test_statistics_are_finite_and_bounded_for_any_picture() -> None:
    for colour in ("black", "white", (255, 0, 0)):
        values = picture_statistics(Image.new("RGB", (17, 400), colour))
        assert values.shape == (len(NAMES),)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert (np.abs(values) <= 1.001).all()


@pytest.mark.parametrize("make", [page_of_text, coloured_drawing])
def test_pages_and_drawings_are_no_medical_images(make) -> None:
    kind, medical = PictureGate.load().judge(picture_statistics(make()))
    assert kind is Kind.NOT_MEDICAL
    assert 0 <= medical < 0.15


def test_every_fiftieth_section_of_the_atlas_is_let_through() -> None:
    gate = PictureGate.load()
    records = [record for record in open_reader("demo").read() if hasattr(record, "read_image")][::50]
    kinds = [gate.judge(picture_statistics(Image.open(io.BytesIO(each.read_image()))))[0] for each in records]
    assert Kind.NOT_MEDICAL not in kinds


def test_a_picture_gate_for_other_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="other statistics"):
        PictureGate({"statistics": ["colour"]})


def test_a_value_is_known_from_its_bar_on_and_never_without_one() -> None:
    facet = GateFacet(
        temperature=10,
        values={
            "mr": GateValue(prompts=("a",), sure_from=0.5),
            "ct": GateValue(prompts=("b",), sure_from=None),
        },
    )
    rows = {"a": np.array([1, 0], np.float32), "b": np.array([0, 1], np.float32)}
    gate = Gate(ImageGate(facets={"modality": facet}), lambda texts: np.stack([rows[text] for text in texts]))
    medical = picture_statistics(Image.open(io.BytesIO(section())))

    def guess(x: float, y: float):
        [found] = gate.guess(medical, np.array([x, y], np.float32)).facets
        return found.values[0][0], found.known

    assert guess(0.8, 0.6) == ("mr", True)
    assert guess(0.4, 0.1) == ("mr", False)
    assert guess(0.1, 0.99) == ("ct", False)
    [found] = gate.guess(medical, np.array([1, 0], np.float32)).facets
    assert sum(share for _, share in found.values) == pytest.approx(1)


async def test_a_brain_section_is_guessed_to_be_one(embedder: Embedder) -> None:
    guess, _ = await embedder.classify_image(section())
    assert guess.kind is Kind.MEDICAL
    assert 0.7 <= guess.medical <= 1
    best = {facet.facet: facet.values[0][0] for facet in guess.facets}
    assert best == {"modality": "mr", "body_part": "brain"}
    assert all(0 <= share <= 1 for facet in guess.facets for _, share in facet.values)


async def test_a_dicom_header_wins_over_the_model(embedder: Embedder) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(section())).convert("L"), dtype=np.uint16) * 16
    guess, _ = await embedder.classify_image(dicom(pixels, Modality="CT", BodyPartExamined="CHEST"))
    facets = {facet.facet: facet for facet in guess.facets}
    assert (guess.kind, guess.medical) == (Kind.MEDICAL, 1.0)
    assert facets["modality"].values == (("ct", 1.0),)
    assert facets["body_part"].values == (("chest", 1.0),)
    assert all(facets[name].known and facets[name].stated for name in ("modality", "body_part"))
    guess, _ = await embedder.classify_image(dicom(pixels, Modality="CT"))
    facets = {facet.facet: facet for facet in guess.facets}
    assert (facets["modality"].stated, facets["body_part"].stated) == (True, False)
    assert facets["body_part"].values[0][0] == "brain"


async def test_what_is_no_medical_image_gets_no_guess(embedder: Embedder) -> None:
    guess, _ = await embedder.classify_image(png(page_of_text()))
    assert (guess.kind, guess.facets) == (Kind.NOT_MEDICAL, ())


async def test_an_image_that_was_looked_at_is_encoded_at_no_cost(embedder: Embedder) -> None:
    _, looked = await embedder.classify_image(section(3))
    vector, spent = await embedder.encode_image(section(3))
    assert (looked.cached, spent.cached, spent.inference_ms) == (False, True, 0.0)
    alone = Embedder(embedder.model, EmbedderOptions(image_cache_entries=0))
    again, spent = await alone.encode_image(section(3))
    await alone.close()
    assert not spent.cached
    np.testing.assert_allclose(vector, again, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (b"", Code.IMAGE_EMPTY),
        (b"%PDF-1.7 no image", Code.IMAGE_FORMAT_UNSUPPORTED),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, Code.IMAGE_UNREADABLE),
        (b"\xff" * (20 * 2**20 + 1), Code.IMAGE_TOO_LARGE),
        (png(Image.new("L", (8, 300))), Code.IMAGE_TOO_SMALL),
    ],
)
async def test_a_file_that_is_no_image_is_refused_by_name(embedder: Embedder, image: bytes, code: Code) -> None:
    with pytest.raises(MirageError) as caught:
        await embedder.classify_image(image)
    assert caught.value.code == code
    assert (await embedder.classify_image(section()))[0].kind is Kind.MEDICAL
