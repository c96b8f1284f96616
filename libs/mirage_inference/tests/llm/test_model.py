import json
import shutil
from pathlib import Path

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.llm.model import load_model
from tests.support.llm_process import TINY

FILES = sorted(path.name for path in TINY.iterdir() if path.name != "manifest.json")


@pytest.mark.parametrize("name", FILES)
def test_a_bundle_with_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    changed = Path(shutil.copytree(TINY, tmp_path / "bundle"))
    content = bytearray((changed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (changed / name).write_bytes(content)
    with pytest.raises(MirageError) as error:
        load_model(changed, threads=1)
    assert error.value.metadata == {"reason": f"{name} is not the file that the manifest describes"}


def test_weights_that_no_manifest_lists_are_refused(tmp_path: Path) -> None:
    changed = Path(shutil.copytree(TINY, tmp_path / "bundle"))
    path = changed / "manifest.json"
    content = json.loads(path.read_text())
    content["files"] = [each for each in content["files"] if not each["path"].endswith(".data")]
    for variant in content["variants"].values():
        variant["data"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(MirageError) as error:
        load_model(changed, threads=1)
    assert error.value.code is Code.BUNDLE_INVALID
    assert "which the manifest does not list" in error.value.metadata["reason"]
