import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import MANIFEST_FILE, describe_file, load_encoder, load_manifest, verify_files


def varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def graph(name: str, *nodes_and_tensors: bytes) -> bytes:
    """An ONNX model (opset import, then its graph) that holds so much that a walk over it has something to pass over."""
    return b"\x08\x0a" + field(8, b"\x10\x17") + field(7, field(2, name.encode()) + b"".join(nodes_and_tensors))


def outside(location: str) -> bytes:
    """A tensor whose data is in another file: name, raw type, entries, and where its data is."""
    entries = {"location": location, "offset": "0", "length": "4"}.items()
    kept = b"".join(field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in entries)
    return field(8, b"weight") + b"\x10\x01" + kept + b"\x70\x01"


FILES = {
    "text.onnx": graph("text"),
    "image.onnx": graph("image", field(5, outside("image.data"))),
    "image.data": b"1234",
    "tokenizer.json": b"{}",
    "reference.npz": b"npz",
}
PARITY = {"items": 8, "cosine_min": 0.999, "cosine_mean": 0.9995}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose manifest is sound; what its files hold does not matter here."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    write(folder, manifest(folder))
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": "tiny",
        "task": "encode",
        "source": "a test",
        "licence": "Apache-2.0",
        "opset": 23,
        "variants": {
            "int8": {
                "files": {"text": "text.onnx", "image": "image.onnx"},
                "data": ["image.data"],
                "quantisation": {"text": "int8", "image": "int8"},
                "mixes_batch": {"text": True, "image": False},
                "parity": {"text": PARITY, "image": PARITY},
            }
        },
        "default_variant": "int8",
        "reference": "reference.npz",
        "files": [describe_file(folder, name).model_dump() for name in FILES],
        "dimension": 128,
        "text": {
            "tokenizer": "tokenizer.json",
            "cleaning": "lower",
            "context_length": 77,
            "start_id": 49406,
            "end_id": 49407,
            "pad_id": 0,
        },
        "image": {
            "size": 96,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "resize_mode": "shortest",
            "interpolation": "bicubic",
        },
    }


def write(folder: Path, content: object) -> None:
    (folder / MANIFEST_FILE).write_text(json.dumps(content))


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = manifest(folder)
    change(content)
    write(folder, content)


def reason(error: pytest.ExceptionInfo[MirageError]) -> str:
    assert error.value.code is Code.BUNDLE_INVALID
    return error.value.metadata["reason"]


def test_a_manifest_survives_being_written_and_read(bundle: Path) -> None:
    first = load_manifest(bundle)
    (bundle / MANIFEST_FILE).write_text(first.to_json())
    assert load_manifest(bundle) == first


def test_sound_files_are_accepted(bundle: Path) -> None:
    verify_files(bundle, load_manifest(bundle))


def test_a_folder_without_a_manifest_is_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(MirageError) as error:
        load_manifest(tmp_path)
    assert error.value.code is Code.BUNDLE_MISSING


@pytest.mark.parametrize("name", list(FILES))
def test_a_changed_byte_is_found_in_every_file(bundle: Path, name: str) -> None:
    content = bytearray(FILES[name])
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert f"{name} is not the file" in reason(error)


def test_only_the_files_asked_for_are_read(bundle: Path) -> None:
    (bundle / "image.onnx").unlink()
    verify_files(bundle, load_manifest(bundle), only=["text.onnx"])


def test_weights_outside_of_a_graph_that_is_asked_for_are_read_too(bundle: Path) -> None:
    (bundle / "image.data").write_bytes(b"1235")
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle), only=["image.onnx"])
    assert "image.data is not the file" in reason(error)


# Where an ONNX graph can hold a tensor.
PLACES = {
    "an initializer": lambda tensor: field(5, tensor),
    "a sparse initializer": lambda tensor: field(15, field(1, tensor)),
    "a node": lambda tensor: field(1, field(5, field(5, tensor))),
    "a node's list": lambda tensor: field(1, field(5, field(10, tensor))),
    "a branch of a node": lambda tensor: field(1, field(5, field(6, field(5, tensor)))),
    "a sparse tensor of a node": lambda tensor: field(1, field(5, field(22, field(2, tensor)))),
}


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize(
    "location",
    [
        "extra.data",
        "../image.data",
        "/etc/hostname",
        "./image.data/../extra.data",
        "sub/image.data",
        "image.onnx.data",
        "IMAGE.DATA",
        "",
        "*/_ORT_MEM_ADDR_/*",
        "..\\extra.data",
    ],
)
def test_a_graph_that_reads_a_file_which_no_manifest_lists_is_refused(bundle: Path, place: str, location: str) -> None:
    (bundle / "extra.data").write_bytes(b"1234")
    (bundle / "text.onnx").write_bytes(graph("text", PLACES[place](outside(location))))
    write(bundle, manifest(bundle))
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert "text.onnx reads the file" in reason(error)


def test_weights_of_a_function_or_of_training_are_found_too(bundle: Path) -> None:
    tensor = field(1, field(5, field(5, outside("extra.data"))))
    for model in (field(25, field(7, tensor[2:])), field(20, field(2, tensor))):
        (bundle / "text.onnx").write_bytes(graph("text") + model)
        write(bundle, manifest(bundle))
        with pytest.raises(MirageError) as error:
            verify_files(bundle, load_manifest(bundle))
        assert "text.onnx reads the file" in reason(error)


def test_weights_in_a_folder_are_next_to_their_graph(bundle: Path) -> None:
    (bundle / "towers").mkdir()
    (bundle / "towers" / "text.onnx").write_bytes(graph("text", field(5, outside("text.data"))))
    (bundle / "towers" / "text.data").write_bytes(b"1234")
    content = manifest(bundle)
    content["variants"]["int8"]["files"]["text"] = "towers/text.onnx"
    content["files"] += [describe_file(bundle, name).model_dump() for name in ("towers/text.onnx", "towers/text.data")]
    write(bundle, content)
    verify_files(bundle, load_manifest(bundle))
    (bundle / "towers" / "text.data").rename(bundle / "text.data")
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert reason(error) == "towers/text.data is missing"


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4", b"<net></net>", graph("text")[:-1], b"\x08\x0a", b"\xff" * 40, b"\x0b\x0c"]
)
def test_a_file_that_is_not_a_graph_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "text.onnx").write_bytes(content)
    write(bundle, manifest(bundle))
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert reason(error) == "text.onnx is not an ONNX graph"


def test_a_graph_of_another_format_is_refused_by_its_name(bundle: Path) -> None:
    (bundle / "text.onnx").rename(bundle / "text.xml")
    content = json.loads((bundle / MANIFEST_FILE).read_text().replace("text.onnx", "text.xml"))
    write(bundle, content)
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert "must end in .onnx" in reason(error)


def test_an_absent_file_is_named(bundle: Path) -> None:
    (bundle / "image.onnx").unlink()
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert reason(error) == "image.onnx is missing"


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(FILES["text.onnx"])
    (bundle / "text.onnx").unlink()
    (bundle / "text.onnx").symlink_to(outside)
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert "leads out" in reason(error)


def test_weights_that_are_a_link_out_of_the_bundle_are_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "image.data").rename(tmp_path / "image.data")
    (bundle / "image.data").symlink_to(tmp_path / "image.data")
    with pytest.raises(MirageError) as error:
        verify_files(bundle, load_manifest(bundle))
    assert "image.data leads out" in reason(error)


@pytest.mark.parametrize("path", ["../text.onnx", "/etc/passwd", "a/../../b", "", ".hidden", "a//b", "a\\b", "x" * 300])
def test_a_path_that_could_leave_the_bundle_is_refused(bundle: Path, path: str) -> None:
    changed(bundle, lambda content: content["variants"]["int8"]["files"].update(text=path))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert "variants.int8.files.text" in reason(error)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("schema_version", 2),
        ("task", "sing"),
        ("name", "Has Spaces"),
        ("dimension", 0),
        ("dimension", 10**9),
        ("opset", 3),
        ("default_variant", "fp64"),
        ("variants", {}),
        ("reference", "elsewhere.npz"),
        ("files", []),
        ("surprise", 1),
    ],
)
def test_what_the_schema_does_not_allow_is_refused(bundle: Path, place: str, value: object) -> None:
    changed(bundle, lambda content: content.update({place: value}))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert reason(error)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("text", "context_length", 10**7),
        ("text", "cleaning", "none"),
        ("image", "size", 100_000),
        ("image", "std", [0.2, 0.2, 0.0]),
        ("image", "mean", [0.5, 0.5]),
        ("image", "resize_mode", "stretch"),
    ],
)
def test_absurd_inputs_are_refused_with_their_place(bundle: Path, section: str, field: str, value: object) -> None:
    changed(bundle, lambda content: content[section].update({field: value}))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert f"{section}.{field}" in reason(error)


ROW = {"value": "ct", "scale": 0.1, "bias": 0.0, "weights": base64.b64encode(bytes(128)).decode()}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": base64.b64encode(bytes(127)).decode()}, "128 weights"),
        ({"weights": "not base64!"}, "weights"),
        ({"scale": float("nan")}, "scale"),
        ({"bias": float("inf")}, "bias"),
        ({"value": "x" * 501}, "value"),
    ],
)
def test_a_gate_that_cannot_read_the_vectors_is_refused(bundle: Path, changes: dict[str, Any], why: str) -> None:
    changed(bundle, lambda content: content.update(gate={"heads": {"modality": {"rows": [ROW, {**ROW, "value": ""}]}}}))
    assert load_encoder(bundle).gate is not None
    changed(bundle, lambda content: content.update(gate={"heads": {"modality": {"rows": [ROW, {**ROW, **changes}]}}}))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert why in reason(error)


def test_what_may_be_known_must_be_a_value_of_the_head(bundle: Path) -> None:
    head = {"rows": [ROW, {**ROW, "value": ""}], "known_from": {"mr": 0.5}}
    changed(bundle, lambda content: content.update(gate={"heads": {"modality": head}}))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert "known_from" in reason(error)


PLACE = {**ROW, "near_from": 0.8}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"value": "mr"}, "places must be of values"),
        ({"weights": base64.b64encode(bytes(127)).decode()}, "128 weights"),
        ({"near_from": 1.5}, "near_from"),
        ({"near_from": None}, "near_from"),
        ({"near_from": float("nan")}, "near_from"),
    ],
)
def test_a_place_that_cannot_be_compared_is_refused(bundle: Path, changes: dict[str, Any], why: str) -> None:
    head = {"rows": [ROW, {**ROW, "value": ""}], "places": [PLACE]}
    changed(bundle, lambda content: content.update(gate={"heads": {"modality": head}}))
    assert load_encoder(bundle).gate is not None
    changed(
        bundle, lambda content: content.update(gate={"heads": {"modality": {**head, "places": [{**PLACE, **changes}]}}})
    )
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert why in reason(error)


def test_a_variant_without_both_towers_is_refused(bundle: Path) -> None:
    changed(bundle, lambda content: content["variants"]["int8"]["files"].pop("image"))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert "variant int8" in reason(error)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"schema_version": 1}'])
def test_a_manifest_that_is_no_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST_FILE).write_text(text)
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert reason(error)


def test_a_huge_manifest_is_not_read(bundle: Path) -> None:
    (bundle / MANIFEST_FILE).write_text(" " * (2**20 + 1))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert "larger" in reason(error)


def test_a_refusal_does_not_repeat_what_the_manifest_holds(bundle: Path) -> None:
    changed(bundle, lambda content: content.update(dimension="TOP SECRET"))
    with pytest.raises(MirageError) as error:
        load_manifest(bundle)
    assert "TOP SECRET" not in reason(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(dimension=64),
        lambda content: content["image"].update(size=112),
        lambda content: content["image"].update(interpolation="bilinear"),
        lambda content: content["text"].update(context_length=64),
        lambda content: content["files"][0].update(sha256="0" * 64),
        lambda content: content["files"][2].update(sha256="0" * 64),
    ],
)
def test_what_changes_the_numbers_changes_the_fingerprint(bundle: Path, change: Callable[[Any], object]) -> None:
    before = load_manifest(bundle).fingerprint
    changed(bundle, change)
    assert load_manifest(bundle).fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(name="another"),
        lambda content: content["files"].reverse(),
        lambda content: content["files"][-1].update(sha256="0" * 64),
        lambda content: content["variants"]["int8"]["parity"]["text"].update(items=9),
        # As older builds wrote it.
        lambda content: content.update(match=None),
        lambda content: content.update(match={"text": {"good": 0.3, "weak": 0.2}}),
    ],
)
def test_names_order_and_measurements_leave_the_fingerprint(bundle: Path, change: Callable[[Any], object]) -> None:
    before = load_manifest(bundle).fingerprint
    changed(bundle, change)
    assert load_manifest(bundle).fingerprint == before
