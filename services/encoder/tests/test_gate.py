"""Guesses about an image: what a page, a drawing, a brain section and a file that is no image get."""

import base64
import importlib.resources
import io
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mirage_atlas.readers import open_reader
from mirage_core.errors import Code, MirageError
from mirage_encoder.embedder import Embedder, EmbedderOptions
from mirage_encoder.gate import FacetGuess, Gate, Kind, PictureGate
from mirage_inference.bundles import GateFacet, GateHead, GatePlace, GateRow, GateValue, ImageGate, MedicalHead
from mirage_inference.encoder.model import EncoderModel
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
async def embedder(model: EncoderModel) -> AsyncIterator[Embedder]:
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
def test_pages_and_drawings_are_no_medical_images(make: Callable[[], Image.Image]) -> None:
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

    def guess(x: float, y: float) -> tuple[str, bool]:
        [found] = gate.guess(medical, np.array([x, y], np.float32)).facets
        return found.values[0][0], found.known

    assert guess(0.8, 0.6) == ("mr", True)
    assert guess(0.4, 0.1) == ("mr", False)
    assert guess(0.1, 0.99) == ("ct", False)
    [found] = gate.guess(medical, np.array([1, 0], np.float32)).facets
    assert sum(share for _, share in found.values) == pytest.approx(1)


def row(value: str, *weights: int, bias: float = 0.0) -> GateRow:
    data = base64.b64encode(np.array(weights, np.int8).tobytes())
    return GateRow(value=value, scale=0.1, bias=bias, weights=data)


def no_texts(texts: Sequence[str]) -> np.ndarray:
    raise AssertionError("fitted heads need no texts")


HEAD = GateHead(
    rows=(row("none", 100, 0), row("none", 0, 100), row("pneumonia", -100, 0), row("", 0, -100)),
    known_from={"none": 0.9},
)


def test_rows_of_one_value_add_up_and_the_rest_belongs_to_nothing() -> None:
    gate = Gate(ImageGate(heads={"finding": HEAD}), no_texts)
    medical = picture_statistics(Image.open(io.BytesIO(section())))

    def finding(x: float, y: float) -> FacetGuess:
        [found] = gate.guess(medical, np.array([x, y], np.float32)).facets
        return found

    both = finding(0.7, 0.7)
    assert [value for value, _ in both.values] == ["none", "pneumonia"]
    assert both.values[0][1] > 0.99
    assert both.known
    # Half-way between two values, and a value that is never known however likely it is.
    assert not finding(0.0, 0.0).known
    likely: tuple[str, Any] = ("pneumonia", pytest.approx(1.0, abs=0.01))
    assert finding(-1.0, 0.0).values[0] == likely
    assert not finding(-1.0, 0.0).known
    elsewhere = finding(0.0, -1.0)
    assert sum(share for _, share in elsewhere.values) < 0.01
    assert not elsewhere.known


def test_a_value_is_known_only_near_a_place_of_it_however_likely_it_is() -> None:
    def place(value: str, near_from: float, *weights: int) -> GatePlace:
        return GatePlace(**row(value, *weights).model_dump() | {"value": value, "scale": 0.01, "near_from": near_from})

    medical = picture_statistics(Image.open(io.BytesIO(section())))
    rows = (row("ct", 100, 0, 0), row("mr", -100, 0, 0), row("", 0, 0, -100))

    def known(places: tuple[GatePlace, ...], *vector: float) -> bool:
        head = GateHead(rows=rows, known_from={"ct": 0.9, "mr": 0.9}, places=places)
        [found] = (
            Gate(ImageGate(heads={"modality": head}), no_texts).guess(medical, np.array(vector, np.float32)).facets
        )
        return found.known

    near, far = (0.96, 0.28, 0.0), (0.6, 0.8, 0.0)
    assert known((), *near)
    assert known((), *far)
    places = (place("ct", 0.9, 100, 0, 0), place("mr", 0.5, 0, 100, 0))
    assert known(places, *near)
    # Near a place of another value is not enough, and each place has its own limit.
    assert not known(places, *far)
    assert known((*places, place("ct", 0.7, 0, 100, 0)), *far)
    assert not known(places[1:], *near)


def test_model_and_statistics_decide_together_if_an_image_is_medical() -> None:
    colour = NAMES.index("chroma_mean")
    head = MedicalHead(
        row=row("", 30, 0), statistics=[-20.0 * (n == colour) for n in range(24)], decline_below=0.2, medical_from=0.6
    )
    gate = Gate(ImageGate(heads={"finding": HEAD}, medical=head), no_texts)
    grey = picture_statistics(Image.open(io.BytesIO(section())))
    away = np.array([-1, 0], np.float32)
    assert gate.guess(grey, -away).kind is Kind.MEDICAL
    assert (gate.guess(grey, away).kind, gate.guess(grey, away).facets) == (Kind.NOT_MEDICAL, ())
    unlike = picture_statistics(coloured_drawing())
    assert gate.guess(unlike, -away).medical < gate.guess(grey, -away).medical
    assert gate.guess(unlike, away).medical < gate.guess(grey, away).medical


def test_a_facet_is_not_known_while_it_is_unsure_that_the_image_is_medical() -> None:
    head = MedicalHead(row=row("", 0, 0, bias=0.0), statistics=[0.0] * 24, decline_below=0.2, medical_from=0.6)
    gate = Gate(ImageGate(heads={"finding": HEAD}, medical=head), no_texts)
    guess = gate.guess(picture_statistics(page_of_text()), np.array([1, 0], np.float32))
    assert (guess.kind, guess.medical) == (Kind.UNSURE, 0.5)
    assert guess.facets[0].values[0][0] == "none"
    assert not guess.facets[0].known


async def test_a_brain_section_is_guessed_to_be_one(embedder: Embedder) -> None:
    guess, _ = await embedder.classify_image(section())
    assert guess.kind is Kind.MEDICAL
    assert 0.7 <= guess.medical <= 1
    best = {facet.facet: facet.values[0][0] for facet in guess.facets}
    assert (best["modality"], best["body_part"]) == ("mr", "brain")
    assert all(0 <= share <= 1 for facet in guess.facets for _, share in facet.values)


async def test_modality_and_part_of_the_atlas_sections_are_known_and_right(embedder: Embedder) -> None:
    known = 0
    for number in range(0, 300, 50):
        guess, _ = await embedder.classify_image(section(number))
        facets = {facet.facet: facet for facet in guess.facets}
        assert set(facets) == {"modality", "body_part", "plane", "finding"}
        assert facets["modality"].values[0][0] == "mr"
        assert facets["body_part"].values[0][0] == "brain"
        # Its lesions are none of the findings that the head was made for.
        assert not facets["finding"].known
        known += facets["modality"].known + facets["body_part"].known
    assert known >= 6


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
async def test_photographs_are_declined_in_colour_and_in_grey(embedder: Embedder, name: str, mode: str) -> None:
    with (importlib.resources.files("sklearn.datasets.images") / name).open("rb") as file:
        photograph = Image.open(file).convert(mode).convert("RGB")
    guess, _ = await embedder.classify_image(png(photograph))
    assert (guess.kind, guess.facets) == (Kind.NOT_MEDICAL, ())


def test_the_bundle_has_the_fitted_gate(model: EncoderModel) -> None:
    fitted = Path(__file__).parents[3] / "models/mini/clip/gate.json"
    assert model.manifest.gate == ImageGate.model_validate_json(fitted.read_text("utf-8"))


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
