"""Bundles: a directory that a service loads with nothing else, described and sealed by its `manifest.json`.

A manifest is not trusted: sizes are bounded, paths stay inside the directory, and every file has the length and the SHA-256
that the manifest states. A graph reads no other files than those. What changes the numbers is summed up in the fingerprint.
"""

from mirage_inference.bundles.encoder import (
    EncoderManifest,
    EncoderVariant,
    GateFacet,
    GateHead,
    GatePlace,
    GateRow,
    GateValue,
    ImageGate,
    ImageInput,
    MedicalHead,
    Parity,
    TextInput,
)
from mirage_inference.bundles.files import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    TASKS,
    describe_file,
    load_encoder,
    load_generator,
    load_llm,
    load_manifest,
    sha256_of,
    verify_files,
)
from mirage_inference.bundles.generator import (
    TINY_DECODER,
    DiffusionSchedule,
    Draws,
    GeneratorManifest,
    GeneratorParity,
    GeneratorVariant,
    LcmSchedule,
    PromptInput,
    Range,
    SamplerName,
    Schedule,
)
from mirage_inference.bundles.llm import Learnt, LlmManifest
from mirage_inference.bundles.manifest import BundleFile, Manifest, Task, Variant

__all__ = [
    "MANIFEST_FILE",
    "SCHEMA_VERSION",
    "TASKS",
    "TINY_DECODER",
    "BundleFile",
    "DiffusionSchedule",
    "Draws",
    "EncoderManifest",
    "EncoderVariant",
    "GateFacet",
    "GateHead",
    "GatePlace",
    "GateRow",
    "GateValue",
    "GeneratorManifest",
    "GeneratorParity",
    "GeneratorVariant",
    "ImageGate",
    "ImageInput",
    "LcmSchedule",
    "Learnt",
    "LlmManifest",
    "Manifest",
    "MedicalHead",
    "Parity",
    "PromptInput",
    "Range",
    "SamplerName",
    "Schedule",
    "Task",
    "TextInput",
    "Variant",
    "describe_file",
    "load_encoder",
    "load_generator",
    "load_llm",
    "load_manifest",
    "sha256_of",
    "verify_files",
]
