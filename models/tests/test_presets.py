import json
from importlib import resources
from pathlib import Path

import pytest

from mirage_models import build
from mirage_models.hub import is_hub_id
from mirage_models.presets import CHECKPOINT_FILES, load_presets, presets_table

REFERENCES = {
    "luhuitong/CLIP-ViT-L-14-448px-MedICaT-ROCO": "encode",
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": "encode",
    "databricks/dolly-v2-3b": "describe",
    "Nihirc/Prompt2MedImage": "generate",
    "SimianLuo/LCM_Dreamshaper_v7": "generate",
}


def test_every_reference_model_has_a_preset() -> None:
    found = {preset.repository: preset.task for preset in load_presets().values()}
    assert found.items() >= REFERENCES.items()


def test_presets_name_repositories_licences_and_files_that_are_no_code() -> None:
    for name, preset in load_presets().items():
        for repository in (preset, *preset.extras.values()):
            if not repository.repository:
                assert name.startswith("mini-")
                continue
            assert is_hub_id(repository.repository)
            assert repository.files
            assert not any(pattern in ("*", "**") or pattern.endswith((".py", ".py*")) for pattern in repository.files)
        assert preset.licence
        assert preset.variants
        assert f"| `{name}` |" in presets_table()
    assert not any(pattern in ("*", "**") or ".py" in pattern for pattern in CHECKPOINT_FILES)


def test_the_list_of_presets_needs_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["presets"]
    assert [each["preset"] for each in listed] == list(load_presets())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["mini-clip"],
        ["--out", "x"],
        ["mini-clip", "--out", "x", "--task", "dance"],
        ["mini-clip", "--out", "x", "--calibration-items", "0"],
        ["mini-clip", "--out", "x", "--threads", "-1"],
        ["mini-clip", "--out", "x", "--calibration", "/not/there"],
        ["mini-clip", "--out", "x", "--steps", "4"],
    ],
)
def test_wrong_usage_ends_with_two_and_writes_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        build.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: mirage models build")
    assert list(tmp_path.iterdir()) == []


def test_without_a_build_environment_it_is_said_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIRAGE_BUILD_PYTHON", str(tmp_path / "python"))
    assert build.main(["mini-clip", "--out", str(tmp_path / "out"), "--json"]) == 1
    output = capsys.readouterr()
    assert "make setup-build" in output.err
    assert json.loads(output.out)["code"] == "PART_MISSING"


def test_the_presets_are_one_readable_file() -> None:
    text = (resources.files("mirage_models") / "presets.toml").read_text("utf-8")
    assert all(f"[{name}]" in text or f'["{name}"]' in text for name in load_presets())
