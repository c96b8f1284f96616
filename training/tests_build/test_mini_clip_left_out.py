"""Training of mini-clip 2 without a source: what is in its batches, names that are wrong, runs that go on, what is measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel

from mirage_atlas.demo.sections import SectionSpec
from mirage_models.encoder.checkpoint import make_model
from mirage_models.tasks import CheckpointError
from mirage_training.mini_clip import gate, gate_pictures, left_out, project, tune
from mirage_training.mini_clip.facts import NOTHING, Item, rendering_facts
from mirage_training.mini_clip.items import real_item
from mirage_training.mini_clip.joint import model_config
from mirage_training.mini_clip.pool import Pool
from mirage_training.mini_clip.towers import text_config
from mirage_training.mini_clip.tune import Trainer
from mirage_training.mini_clip.views import VIEW_SHAPE, item_to_json

SOURCES = {
    "kermany": ("x-ray", "chest", ["pneumonia", "viral pneumonia"]),
    "nih": ("x-ray", "chest", ["none"]),
    "busi": ("us", "breast", ["none"]),
}
TOKENS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{each}" for each in "abcdefghijklmnopqrstuvwxyz"),
    "chest", "kermany", "mri",
]  # fmt: skip


def row(source: str, number: int, split: str = "train") -> dict[str, Any]:
    modality, body, findings = SOURCES[source]
    labels = {"modality": modality, "body_part": body, "finding": findings}
    name = f"{source}-{split}-{number}"
    return {
        "id": name, "file": f"images/{source}/{name}.png", "caption": f"{source} {body}", "labels": labels, "split": split,
    }  # fmt: skip


def shard_items(number: int) -> list[Item]:
    """Items as `prepare` mixes them: renderings in pairs, then the other kinds."""
    specs = [SectionSpec(plane, 10 + n, sequence) for n in range(4) for plane in ("axial", "coronal", "sagittal")
             for sequence in ("t1", "t2")]  # fmt: skip
    items = [
        Item(f"brain-{number}-{n}", "brain", rendering_facts(spec), frozenset({"plane", "sequence"}), spec)
        for n, spec in enumerate(specs)
    ]
    items += [real_item(row(source, 10 * number + n)) for n in range(10) for source in SOURCES]
    chest = frozenset({"modality:ct", "body:chest", "plane:axial"})
    items += [Item(f"chest-ct-{number}-{n}", "chest-ct", chest, frozenset({"plane"})) for n in range(8)]
    items += [Item(f"picture-{number}-{n}", "pictures", frozenset({"modality:nm"})) for n in range(3)]
    return items + [Item(f"other-{number}-{n}", "other", NOTHING) for n in range(4)]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of features, the first number of each of which says where the item is."""
    folder, count = tmp_path_factory.mktemp("views"), 0
    for number in range(2):
        items = shard_items(number)
        features = np.random.default_rng(number).normal(0, 1, (len(items), *VIEW_SHAPE)).astype(np.float16)
        features[:, 0, 0, 0] = np.arange(count, count + len(items))
        count += len(items)
        np.save(folder / f"{number:03d}.npy", features)
        (folder / f"{number:03d}.jsonl").write_text("".join(item_to_json(item) + "\n" for item in items), "utf-8")
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with captions.jsonl."""
    folder, rng = tmp_path_factory.mktemp("real"), np.random.default_rng(5)
    rows = [row(source, n, split) for source in SOURCES for split in ("train", "dev") for n in range(3)]
    for each in rows:
        path = folder / each["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(path)
    (folder / "captions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    return folder


@pytest.fixture
def random_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Towers with random weights in place of those of the pinned archives, which tests do not download."""

    def model(towers: Path, *, layers: tuple[int, ...], kept: list[str], dimension: int) -> Any:
        torch.manual_seed(0)
        return make_model(model_config(dimension), tower=text_config(len(layers), len(kept)))

    def text_weights(towers: Path, *, layers: tuple[int, ...], kept: list[str]) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        state = BertModel(BertConfig(**text_config(len(layers), len(kept))), add_pooling_layer=False).state_dict()
        return {name: value for name, value in state.items() if not name.endswith("position_ids")}

    monkeypatch.setattr(tune, "pretrained_model", model)
    monkeypatch.setattr(tune, "read_text_weights", text_weights)
    monkeypatch.setattr(tune, "read_vocabulary", lambda towers: TOKENS)


def config(batch: int = 16) -> dict[str, Any]:
    read: dict[str, Any] = tune.read_config()
    return read | {
        "towers": {"text_layers": [0], "first_words": 100, "dimension": 16},
        "train": read["train"] | {"batch": batch, "steps": 4, "decay": 2, "warm_up": 1},
    }


def trainer(views: Path, work: Path, *without: str) -> Trainer:
    work.mkdir(exist_ok=True)
    return Trainer(Pool(views, 2, without), work, work, config())


def drawn(pool: Pool) -> list[int]:
    return [index for step in range(40) for index in pool.draw(24, np.random.default_rng([2, step]))]


def test_a_source_that_is_left_out_is_in_no_batch(views: Path) -> None:
    whole = shard_items(0) + shard_items(1)
    pool = Pool(views, 2, ["kermany"])
    chosen = drawn(pool)
    assert {pool.items[index].source for index in chosen} == {"brain", "nih", "busi", "chest-ct", "pictures", "other"}
    assert "finding:viral pneumonia" not in tune.all_facts(pool.items, least=1)
    # Each image's features are its own, so none of the source that is left out comes under another name.
    places = pool.features(chosen)[:, 0, 0, 0].int().tolist()
    assert [whole[place] for place in places] == [pool.items[index] for index in chosen]
    assert "kermany" in {Pool(views, 2).items[index].source for index in drawn(Pool(views, 2))}


def test_pairs_of_renderings_stay_together_without_a_source(views: Path) -> None:
    pool = Pool(views, 2, ["nih"])
    brain = [pool.items[index].key for index in pool.draw(24, np.random.default_rng(1)) if pool.items[index].spec]
    assert len(brain) == 10
    for first, second in zip(brain[::2], brain[1::2], strict=True):
        stem, _, number = first.rpartition("-")
        assert second == f"{stem}-{int(number) + 1}"


def test_a_close_draw_has_views_of_one_group_of_each_kind_and_pairs_stay_together(views: Path) -> None:
    pool = Pool(views, 2)
    found = set()
    for step in range(40):
        items = [pool.items[index] for index in pool.draw(24, np.random.default_rng([3, step]), close=1.0)]
        brain = [item for item in items if item.spec]
        real = {item.source for item in items if item.source in SOURCES}
        first = {(item.spec.plane, item.spec.sequence) for item in brain[::2] if item.spec}
        assert len(items) == len(pool.draw(24, np.random.default_rng(step)))
        assert len(first) == len(real) == 1
        assert [int(item.key.rpartition("-")[2]) % 2 for item in brain] == [0, 1] * 5
        found |= first | real
    assert found >= {"kermany", "nih", "busi"}
    assert len(found) > 5


def test_a_pool_without_the_option_has_all_views_in_the_order_of_the_shards(views: Path) -> None:
    assert Pool(views, 2).items == shard_items(0) + shard_items(1)


def test_a_shard_that_comes_later_is_read_without_the_source(views: Path, tmp_path: Path) -> None:
    for name in ("000.jsonl", "000.npy"):
        (tmp_path / name).write_bytes((views / name).read_bytes())
    pool = Pool(tmp_path, 2, ["busi"])
    before = len(pool.items)
    for name in ("001.jsonl", "001.npy"):
        (tmp_path / name).write_bytes((views / name).read_bytes())
    pool.grow()
    assert len(pool.items) == 2 * before
    assert "busi" not in {item.source for item in pool.items}


@pytest.mark.usefixtures("random_towers")
def test_views_of_other_frozen_stages_are_an_error(
    views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "000.jsonl").write_bytes((views / "000.jsonl").read_bytes())
    np.save(tmp_path / "000.npy", np.zeros((len(shard_items(0)), 192, 6, 6), np.float16))
    with pytest.raises(ValueError, match="written by an earlier `prepare`"):
        Pool(tmp_path, 1)
    run = trainer(views, tmp_path / "run")
    run.save(tmp_path / "run")
    (tmp_path / "views").mkdir()
    for name in ("000.jsonl", "000.npy"):
        (tmp_path / name).rename(tmp_path / "views" / name)
    paths = {
        "checkpoint": tmp_path / "run" / "checkpoint",
        "work": tmp_path,
        "real": tmp_path,
        "out": tmp_path / "gate",
    }
    with pytest.raises(SystemExit) as stopped:
        gate.main(["fit", *(part for key, path in paths.items() for part in (f"--{key}", str(path)))])
    assert stopped.value.code == 2
    assert "delete the views and run `prepare` again" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["kermanny", "brain", "chest-ct", "other", ""])
def test_a_name_that_is_no_source_of_real_images_is_an_error_with_the_names(
    name: str, views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        tune.main(["--work", str(tmp_path), "--views", str(views), "--towers", str(tmp_path), "--leave-out", name])
    assert stopped.value.code == 2
    assert f"{name!r}; the views have: busi, kermany, nih" in capsys.readouterr().err


def test_not_all_sources_can_be_left_out(views: Path) -> None:
    with pytest.raises(ValueError, match="no real image is left"):
        Pool(views, 2, list(SOURCES))


@pytest.mark.usefixtures("random_towers")
def test_a_folder_without_a_checkpoint_to_begin_with_is_an_error(
    views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--work", str(tmp_path), "--views", str(views), "--towers", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        tune.main([*options, "--begin", str(tmp_path)])
    assert stopped.value.code == 2
    assert "has no checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tune.main([*options, "--begin", str(tmp_path), "--steps", "60"])
    assert "--steps must be more than 60" in capsys.readouterr().err


def test_no_steps_are_an_error(views: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tune.main(["--work", str(tmp_path), "--views", str(views), "--towers", str(tmp_path), "--steps", "0"])
    assert "--steps" in capsys.readouterr().err


def test_a_shorter_run_lowers_its_rates_over_the_same_share_of_steps() -> None:
    whole = tune.read_config()
    short = tune.shortened(whole, 220)
    assert (short["train"]["steps"], short["train"]["decay"]) == (220, 90)
    assert tune.shortened(whole, whole["train"]["steps"]) == whole == tune.read_config()


@pytest.mark.usefixtures("random_towers")
def test_a_run_without_a_source_that_was_stopped_goes_on_to_the_same_weights(views: Path, tmp_path: Path) -> None:
    straight = trainer(views, tmp_path / "straight", "kermany")
    for _ in range(4):
        straight.run_step()
    stopped = trainer(views, tmp_path / "stopped", "kermany")
    for _ in range(2):
        stopped.run_step()
    stopped.save(tmp_path / "stopped")
    resumed = trainer(views, tmp_path / "stopped", "kermany")
    resumed.resume(tmp_path / "stopped")
    for _ in range(2):
        resumed.run_step()
    assert resumed.step == straight.step == 4
    weights = resumed.model.state_dict()
    for name, value in straight.model.state_dict().items():
        assert torch.allclose(value, weights[name], atol=1e-4), name


@pytest.mark.usefixtures("random_towers")
def test_a_run_that_begins_with_a_checkpoint_has_its_words_and_weights_and_the_heads_learn_alone(
    views: Path, tmp_path: Path
) -> None:
    first = trainer(views, tmp_path / "first")
    first.run_step()
    first.save(tmp_path / "first")
    begin = tmp_path / "first" / "checkpoint"
    work = tmp_path / "second"
    work.mkdir()
    second = Trainer(Pool(views, 2), work, work, config(), begin)
    assert second.kept == first.kept
    before = {name: value.clone() for name, value in second.model.state_dict().items()}
    for name, value in tune.read_state(begin).items():
        assert torch.equal(value, before[name]), name
    heads = second.heads.facts.weight.detach().clone()
    second.run_step()
    assert not torch.equal(heads, second.heads.facts.weight)
    assert all(torch.equal(value, before[name]) for name, value in second.model.state_dict().items())
    second.run_step()
    assert any(not torch.equal(value, before[name]) for name, value in second.model.state_dict().items())
    resumed = Trainer(Pool(views, 2), work, work, config(), begin)
    assert resumed.heads_alone == second.heads_alone > 0
    factors = []
    for step in range(3):
        second.step = step
        factors.append(second.rate_factor(heads=False))
    assert factors == [0.0, 1.0, 1.0]
    for folder, other in ((tmp_path / "first", begin), (work, None)):
        with pytest.raises(ValueError, match="was begun with another --begin"):
            Trainer(Pool(views, 2), folder, folder, config(), other)


@pytest.mark.usefixtures("random_towers")
def test_the_last_stage_changes_the_projections_alone_and_the_same_for_the_same_seed(
    views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer(views, tmp_path / "run")
    first.run_step()
    first.save(tmp_path / "run")
    project_config = {
        "texts_about": 64, "batch": 12, "steps": 30, "heads_alone": 4, "rate": 1e-3, "head_rate": 1e-3,
    }  # fmt: skip
    monkeypatch.setattr(project, "read_config", lambda: config() | {"project": project_config})
    (tmp_path / "run" / "views").symlink_to(views)
    states = []
    for name in ("a", "b"):
        options = {"checkpoint": tmp_path / "run" / "checkpoint", "work": tmp_path / "run", "out": tmp_path / name}
        project.main([part for key, value in options.items() for part in (f"--{key}", str(value))])
        states.append(tune.read_state(tmp_path / name / "checkpoint"))
    before = tune.read_state(tmp_path / "run" / "checkpoint")
    changed = {name for name, value in before.items() if not torch.equal(value, states[0][name])}
    assert changed == {"visual.head.proj.weight", "text.proj.weight", "logit_scale"}
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    log = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in log] == [20]


@pytest.mark.usefixtures("random_towers")
def test_the_last_stage_begins_with_the_mean_of_checkpoints_of_one_vocabulary(views: Path, tmp_path: Path) -> None:
    run = trainer(views, tmp_path / "run")
    folders, states = [], []
    for name in ("a", "b"):
        run.save(tmp_path / "run")
        run.average = {key: value + 0.25 if value.is_floating_point() else value for key, value in run.average.items()}
        folders.append(tmp_path / name)
        (tmp_path / "run" / "checkpoint").rename(tmp_path / name)
        states.append(tune.read_state(tmp_path / name))
    mean = project.mean_model(folders).state_dict()
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())
    for name, value in mean.items():
        assert torch.allclose(value.float(), (states[0][name] + states[1][name]) / 2, atol=1e-6), name
    words = json.loads((folders[1] / "tokenizer.json").read_text("utf-8"))
    (folders[1] / "tokenizer.json").write_text(json.dumps(words | {"padding": None}, indent=1), "utf-8")
    with pytest.raises(CheckpointError, match="not of the same vocabulary"):
        project.mean_model(folders)


def test_a_folder_without_a_checkpoint_is_an_error_of_the_last_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        project.main([part for key in ("checkpoint", "work", "out") for part in (f"--{key}", str(tmp_path))])
    assert stopped.value.code == 2
    assert "open_clip_config.json is missing" in capsys.readouterr().err


@pytest.mark.usefixtures("random_towers")
def test_a_run_does_not_go_on_without_other_sources(views: Path, tmp_path: Path) -> None:
    first = trainer(views, tmp_path / "run", "kermany", "busi")
    first.run_step()
    first.save(tmp_path / "run")
    for others in ((), ("kermany",), ("nih",), ("nih", "kermany")):
        with pytest.raises(ValueError, match="was begun with busi, kermany left out, not"):
            trainer(views, tmp_path / "run", *others)
    again = trainer(views, tmp_path / "run", "busi", "kermany")
    again.resume(tmp_path / "run")
    assert again.step == 1


@pytest.mark.usefixtures("random_towers")
def test_a_run_that_was_begun_before_the_option_goes_on_with_all_sources(views: Path, tmp_path: Path) -> None:
    trainer(views, tmp_path / "run")
    file = tmp_path / "run" / tune.SETTLED_FILE
    stated = json.loads(file.read_text("utf-8"))
    del stated["left_out"]
    file.write_text(json.dumps(stated), "utf-8")
    assert trainer(views, tmp_path / "run").facts == stated["facts"]
    with pytest.raises(ValueError, match="begun with nothing left out, not nih"):
        trainer(views, tmp_path / "run", "nih")


@pytest.mark.usefixtures("random_towers")
def test_a_run_is_measured_with_a_gate_that_has_not_seen_what_it_left_out(
    views: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = config()
    monkeypatch.setattr(tune, "read_config", lambda: small)
    work = tmp_path / "run"
    options = ["--views", str(views), "--work", str(work)]
    tune.main([*options, "--towers", str(work), "--leave-out", "kermany", "--steps", "1", "--threads", "1"])
    _, items = gate.read_views(views, work / "checkpoint", 2, left_out.run_of(work))
    assert {item.source for item in items} == {"brain", "nih", "busi", "chest-ct", "pictures", "other"}
    assert len(gate_pictures.medical_pictures(real, 2, left_out.run_of(work))) == 4

    left_out.main([*options, "--real", str(real), "--threads", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["left out"] == ["kermany"]
    assert sorted(found["sources"]) == sorted(SOURCES)
    for name, figures in found["sources"].items():
        modality, body, _ = SOURCES[name]
        assert sum(figures["modality"]["said"][modality].values()) == figures["modality"]["images"] == 3
        assert sum(figures["body_part"]["said"][body].values()) == figures["gate"]["images"] == 3


@pytest.mark.usefixtures("random_towers")
def test_what_is_medical_is_fitted_again_with_more_pictures_and_all_else_of_a_gate_is_kept(
    views: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, rng = config(), np.random.default_rng(6)
    monkeypatch.setattr(tune, "read_config", lambda: small)
    work, folder, first, second = (tmp_path / name for name in ("run", "others", "first.json", "second.json"))
    tune.main(["--views", str(views), "--work", str(work), "--towers", str(work), "--steps", "1", "--threads", "1"])
    (work / "views").symlink_to(views)
    folder.mkdir()
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (160, 200, 3), np.uint8)).save(folder / f"{number}.png")
    options = ["--checkpoint", str(work / "checkpoint"), "--work", str(work), "--real", str(real), "--shards", "2"]
    gate.main(["fit", *options, "--out", str(first)])
    more = ["--others", str(folder), "--gate", str(first), "--out", str(second)]
    gate.main(["medical", *options, *more])
    before, after = (gate.ImageGate.model_validate_json(path.read_text("utf-8")) for path in (first, second))
    assert after.heads == before.heads
    assert after.measured == before.measured
    assert after.medical != before.medical


def test_pictures_of_a_folder_are_shown_on_white_and_small_ones_left_out(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    Image.new("RGBA", (1000, 400), (0, 0, 0, 0)).save(below / "clear.png")
    Image.new("RGB", (200, 200), (9, 9, 9)).save(tmp_path / "dark.JPG")
    Image.new("RGB", (200, 100)).save(tmp_path / "small.png")
    (tmp_path / "notes.txt").write_text("no picture", "utf-8")
    found = gate_pictures.folder_pictures(tmp_path)
    assert [(picture.size, picture.getpixel((0, 0))) for picture in found] == [
        ((512, 205), (255, 255, 255)),
        ((200, 200), (9, 9, 9)),
    ]
    alone = len(gate_pictures.other_pictures(np.random.default_rng(1)))
    assert len(gate_pictures.other_pictures(np.random.default_rng(1), [tmp_path])) == alone + 2 * 2 * len(found)


def test_medical_pictures_are_shown_as_screens_too() -> None:
    pictures = [Image.new("RGB", (900, 600), (90, 90, 90)), Image.new("RGB", (64, 64), (90, 90, 90))]
    found = gate_pictures.screened(pictures, np.random.default_rng(2))
    assert len(found) == len(pictures) * (1 + gate_pictures.SCREENS)
    assert found[0] is pictures[0]
    for screen in (*found[1:3], *found[4:]):
        assert max(screen.size) <= 512
        colours = {colour for _, colour in screen.getcolors(2**20) or []}
        assert (90, 90, 90) in colours
        assert len(colours) > 2


def test_a_folder_without_pictures_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        each for name in ("checkpoint", "work", "real", "out", "others") for each in (f"--{name}", str(tmp_path))
    ]
    with pytest.raises(SystemExit) as stopped:
        gate.main(["fit", *options])
    assert stopped.value.code == 2
    assert "has no pictures of 150 px or more" in capsys.readouterr().err


def test_a_folder_without_a_run_is_an_error(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        left_out.main(["--work", str(tmp_path), "--real", str(real)])
    assert stopped.value.code == 2
    assert "has no run with a checkpoint" in capsys.readouterr().err
