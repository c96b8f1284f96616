"""The manifest of an encoder."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Base64Bytes, Field, model_validator

from mirage_inference.bundles.manifest import Frozen, Manifest, RelativePath, Share, ShortText, TokenId, Unit, Variant

Colour = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class GateValue(Frozen):
    """One value of a facet: texts whose mean embedding represents it, and the least cosine of a sure guess.

    `sure_from` was set so that such guesses are right in at least 95 of 100 calibration images; None: never sure.
    """

    prompts: tuple[ShortText, ...] = Field(min_length=1, max_length=32)
    sure_from: float | None = Field(None, ge=-1, le=1)


class GateFacet(Frozen):
    """The values of one facet; probabilities are the softmax of `temperature` times the cosines."""

    temperature: float = Field(gt=0, le=1000)
    values: Mapping[ShortText, GateValue] = Field(min_length=2, max_length=64)


class GateRow(Frozen):
    """A linear reader of an image's unit vector: `scale` times the product with `weights`, plus `bias`.

    `weights` are int8 in base64, one for each component. Rows of a head with one `value` add up to its probability; a row
    without a value is for everything that the head was not made for.
    """

    value: str = Field("", max_length=500)
    scale: float = Field(ge=0, le=1e6)
    bias: float = Field(ge=-1e6, le=1e6)
    weights: Base64Bytes = Field(max_length=2**16)

    def matrix(self) -> NDArray[np.float32]:
        """The scaled weights: float32 [dimension]."""
        return np.frombuffer(self.weights, np.int8).astype(np.float32) * np.float32(self.scale)


class GatePlace(GateRow):
    """Where images of a value lie: `scale` times `weights` is their mean, a unit vector. `near_from` is the least cosine with it
    of an image that is like them.
    """

    near_from: Unit


class GateHead(Frozen):
    """A facet's values as a softmax of rows, fitted on labelled images.

    `known_from` has the least probability of a value that counts as known; a value that is not in it never is. With `places`, an
    image must also lie near one of its value's places: so one that is unlike all training images is not known.
    """

    rows: tuple[GateRow, ...] = Field(min_length=2, max_length=128)
    known_from: Mapping[ShortText, Share] = Field(default_factory=dict)
    places: tuple[GatePlace, ...] = Field((), max_length=256)

    @model_validator(mode="after")
    def _about_its_values(self) -> Self:
        values = {row.value for row in self.rows}
        if not set(self.known_from) <= values:
            raise ValueError("known_from must name values of the rows")
        if not {place.value for place in self.places} <= values:
            raise ValueError("places must be of values of the rows")
        return self

    def is_near(self, value: str, vector: NDArray[np.float32]) -> bool:
        """If a unit vector lies near one of the value's places; true of a head without places."""
        mine = [place for place in self.places if place.value == value]
        return not self.places or any(float(place.matrix() @ vector) >= place.near_from for place in mine)


class MedicalHead(Frozen):
    """The probability of a medical image: what `row` reads, plus `statistics` times the picture statistics and their squares."""

    row: GateRow
    statistics: tuple[Weight, ...] = Field(min_length=24, max_length=24)
    decline_below: Share
    medical_from: Share


class ImageGate(Frozen):
    """Guesses about an image, and what was measured when they were calibrated.

    `facets` are zero-shot (Radford et al. 2021), `heads` fitted; both by facet. Without `medical` the picture statistics
    alone say if an image is medical.
    """

    facets: Mapping[ShortText, GateFacet] = Field(default_factory=dict, max_length=8)
    heads: Mapping[ShortText, GateHead] = Field(default_factory=dict, max_length=8)
    medical: MedicalHead | None = None
    measured: Mapping[str, Any] = Field(default_factory=dict)

    def all_rows(self) -> list[GateRow]:
        """Every row and place of the heads."""
        of_heads = [row for head in self.heads.values() for row in (*head.rows, *head.places)]
        return of_heads + ([self.medical.row] if self.medical else [])


class Parity(Frozen):
    """Agreement of a tower with the PyTorch fp32 original, as measured by the builder on `items` inputs.

    Cosines between its vectors and the original's; `overlap_at_10` is the share of the ten nearest calibration images
    of a caption that stays the same when this tower alone replaces the original's, None without a calibration set.
    """

    items: int = Field(ge=1)
    cosine_min: Unit
    cosine_mean: Unit
    overlap_at_10: Share | None = None


class EncoderVariant(Variant):
    """Both towers at one precision: role ("text", "image") to ONNX file, and to its parity.

    `mixes_batch` is true for a role whose items, when they share an inference, change each other's vectors (activations
    quantised with one range). `overlap_at_10` is as in Parity, with both towers replaced at once.
    """

    mixes_batch: Mapping[str, bool]
    parity: Mapping[str, Parity]
    overlap_at_10: Share | None = None

    def summary(self) -> str:
        """Precision of each tower and its least cosine to the original."""
        return "; ".join(
            f"{role}: {self.quantisation[role]}, cosine to the original at least {parity.cosine_min:.4f}"
            for role, parity in self.parity.items()
        )


class TextInput(Frozen):
    """Tokenisation of a text for the text tower.

    `cleaning` is named as in open_clip; then come the tokenizer's ids between `start_id` and `end_id`, cut so that
    `end_id` is the last of at most `context_length`; a batch is padded with `pad_id`.
    """

    tokenizer: RelativePath
    cleaning: Literal["lower", "whitespace", "canonicalize"]
    context_length: int = Field(ge=3, le=4096)
    start_id: TokenId
    end_id: TokenId
    pad_id: TokenId
    input_name: ShortText = "tokens"


class ImageInput(Frozen):
    """Preprocessing of an RGB image for the image tower: resize, crop or pad to a square, normalise.

    Sizes in pixels; `mean` and `std` for channels scaled to 0..1; modes as in open_clip's `PreprocessCfg`.
    """

    size: int = Field(ge=16, le=1024)
    mean: tuple[Colour, Colour, Colour]
    std: tuple[Deviation, Deviation, Deviation]
    resize_mode: Literal["shortest", "longest", "squash"]
    interpolation: Literal["bicubic", "bilinear"]
    fill_color: int = Field(0, ge=0, le=255)
    input_name: ShortText = "pixels"


class EncoderManifest(Manifest):
    """A model that turns texts and images into unit vectors of `dimension` components."""

    task: Literal["encode"]
    variants: Mapping[str, EncoderVariant] = Field(min_length=1, max_length=8)
    dimension: int = Field(ge=1, le=8192)
    text: TextInput
    image: ImageInput
    output_name: ShortText = "unit_vector"
    gate: ImageGate | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_thresholds(cls, fields: Any) -> Any:
        # Manifests of older builds have thresholds of a match, which the collection's calibration has replaced.
        return (
            {name: value for name, value in fields.items() if name != "match"} if isinstance(fields, dict) else fields
        )

    @model_validator(mode="after")
    def _both_towers(self) -> Self:
        for name, variant in self.variants.items():
            for part in (variant.files, variant.quantisation, variant.mixes_batch, variant.parity):
                if set(part) != {"text", "image"}:
                    raise ValueError(f"variant {name} needs a text and an image tower, each fully described")
        return self

    @model_validator(mode="after")
    def _gate_reads_these_vectors(self) -> Self:
        if self.gate and any(len(row.weights) != self.dimension for row in self.gate.all_rows()):
            raise ValueError(f"a row of the gate must have {self.dimension} weights")
        return self

    def named_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().named_paths() | {self.text.tokenizer}

    def numeric_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().numeric_paths() | {self.text.tokenizer}

    def numbers(self) -> Mapping[str, Any]:
        """As in Manifest, and tokenisation, preprocessing and dimension."""
        return {
            **super().numbers(),
            "dimension": self.dimension,
            "text": self.text.model_dump(mode="json"),
            "image": self.image.model_dump(mode="json"),
        }

    def summary(self) -> Mapping[str, str]:
        """Dimension, context and image size."""
        return {
            "dimension": str(self.dimension),
            "context": f"{self.text.context_length} tokens",
            "image": f"{self.image.size} px",
        }
