"""An encoder that is broken as a wrong export would be: the same graphs, with the weights of each layer in another order."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def break_encoder(bundle: Path, target: Path) -> Path:
    """Copies an int8 bundle to `target` with shuffled weights; its manifest names the new files, so that it starts."""
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "manifest.json").read_text())
    drawn = np.random.default_rng(5)
    for entry in manifest["files"]:
        path = target / entry["path"]
        if path.suffix == ".onnx":
            model = onnx.load(path)
            for weights in model.graph.initializer:
                if weights.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
                    values = numpy_helper.to_array(weights)
                    mixed = drawn.permutation(values.ravel()).reshape(values.shape)
                    weights.CopyFrom(numpy_helper.from_array(mixed, weights.name))
            onnx.save(model, path)
        entry["size"] = path.stat().st_size
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target
