"""Conversion of vectors, guesses and models to protobuf messages."""

from mirage_core.vectors import vector_to_proto
from mirage_encoder.embedder import Spent, TextVector
from mirage_encoder.gate import Guess
from mirage_inference.encoder.model import EncoderModel
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.v1 import image_pb2, model_pb2, timings_pb2


def embedding_to_proto(text: TextVector) -> encoder_pb2.TextEmbedding:
    """Returns the message for a text's vector."""
    return encoder_pb2.TextEmbedding(
        vector=vector_to_proto(text.vector), tokens=text.tokens, truncated=text.truncated, cached=text.cached
    )


def guess_to_proto(guess: Guess) -> image_pb2.ImageGuess:
    """Returns the message for a guess about an image."""
    return image_pb2.ImageGuess(
        kind=image_pb2.ImageKind.ValueType(guess.kind),
        medical_score=guess.medical,
        facets=[
            image_pb2.FacetGuess(
                facet=facet.facet,
                values=[image_pb2.ValueGuess(value=value, probability=share) for value, share in facet.values],
                known=facet.known,
                stated=facet.stated,
            )
            for facet in guess.facets
        ],
    )


def timings_to_proto(spent: Spent, *, cached: bool = False) -> timings_pb2.Timings:
    """Returns the message for a call's times; `cached` if no inference was needed."""
    return timings_pb2.Timings(
        queue_ms=spent.queue_ms,
        inference_ms=spent.inference_ms,
        total_ms=spent.total_ms,
        cached=cached or spent.cached,
    )


def model_to_proto(model: EncoderModel) -> model_pb2.Model:
    """Returns the description of a loaded model."""
    manifest = model.manifest
    return model_pb2.Model(
        name=manifest.name,
        kind=model_pb2.MODEL_KIND_ENCODER,
        fingerprint=manifest.fingerprint,
        source=manifest.source,
        licence=manifest.licence,
        dimension=manifest.dimension,
        context_length=manifest.text.context_length,
        image_size=manifest.image.size,
        engine=model.description,
        precision=model.variant,
        manifest_json=manifest.to_json(),
    )
