import json
import shutil
from pathlib import Path

import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.llm.model import Begun, Outside, Wrote, load_model
from mirage_inference.llm.request import Caption, Question, Writing
from mirage_models.paths import mini_lm_bundle
from tests.support.paths import TINY_LLM as TINY

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


@pytest.mark.parametrize(
    ("caption", "written"),
    [
        ("Axial T1-weighted section of the brain through the thalami; no lesion.", True),
        ("Left frontal craniotomy with an enhancing resection cavity after chemoradiation.", False),
        ("Brain the of lesion no section axial the T1 through of weighted thalami the the.", False),
    ],
    ids=["its kind", "other words", "its words in another order"],
)
def test_a_small_llm_writes_about_what_it_learnt_and_nothing_else(caption: str, written: bool) -> None:
    model = load_model(mini_lm_bundle(), threads=1)
    question = Question("brain", (Caption("a", caption),))
    first = next(model.write(question, seed=0, cancelled=lambda: False))
    model.close()
    assert isinstance(first, Begun if written else Outside)


def test_at_temperature_zero_and_with_a_seed_the_same_request_gives_the_same_text() -> None:
    model = load_model(TINY, threads=1)

    def text(temperature: float, seed: int) -> str:
        question = Question("brain", (Caption("a", "Axial brain."),), writing=Writing(24, temperature))
        events = model.write(question, seed=seed, cancelled=lambda: False)
        return "".join(event.text for event in events if isinstance(event, Wrote))

    assert text(0.0, 0) == text(0.0, 1)
    assert text(1.0, 3) == text(1.0, 3) != text(1.0, 4)
    model.close()
