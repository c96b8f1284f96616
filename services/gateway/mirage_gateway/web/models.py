"""Models in use, as JSON. The types are the schemas of /openapi.json."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

from mirage_protos.v1 import model_pb2


class ModelDocument(TypedDict):
    """A model in use; manifest is its bundle's, whole."""

    name: str
    task: str
    fingerprint: str
    source: str
    licence: str
    dimension: int
    context_length: int
    image_size: int
    engine: str
    precision: str
    manifest: dict[str, Any]


class ModelsDocument(TypedDict):
    """The models, one a task."""

    models: list[ModelDocument]


# The names of the kinds in the API and in manifests.
_TASKS: Mapping[int, str] = {
    model_pb2.MODEL_KIND_ENCODER: "encode",
    model_pb2.MODEL_KIND_LLM: "describe",
    model_pb2.MODEL_KIND_GENERATOR: "generate",
}


def models_document(models: Sequence[model_pb2.Model]) -> ModelsDocument:
    """The models, with their manifests."""
    return {
        "models": [
            {
                "name": model.name,
                "task": _TASKS[model.kind],
                "fingerprint": model.fingerprint,
                "source": model.source,
                "licence": model.licence,
                "dimension": model.dimension,
                "context_length": model.context_length,
                "image_size": model.image_size,
                "engine": model.engine,
                "precision": model.precision,
                "manifest": _manifest(model.manifest_json),
            }
            for model in models
        ]
    }


def _manifest(text: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}
