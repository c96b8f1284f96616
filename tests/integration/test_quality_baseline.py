"""The quality of a part of the demonstration, next to figures of an earlier day: `quality_baseline.json`.

After a change that is meant to change figures:

    .venv/bin/python -m pytest tests/integration/test_quality_baseline.py --write-baseline
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import mirage_atlas
from mirage.cli.entry import run
from mirage.client import Client
from mirage.indexing import Indexer
from mirage_api.quality import Figure
from mirage_atlas.readers import open_reader
from mirage_core.intervals import wilson
from tests.conftest import EVERY
from tests.support.broken_encoder import break_encoder
from tests.support.machine import clear, make_machine
from tests.support.paths import MINI
from tests.support.waiting import until

BASELINE = Path(__file__).with_name("quality_baseline.json")
DATA = str(Path(mirage_atlas.__file__).parent / "demo/data")
LIMIT = "40"
# A description takes a second, a reading a fifth of one.
COMMANDS = (
    ("retrieval", "--limit", LIMIT),
    ("consistency", "--limit", LIMIT),
    ("arithmetic", "--limit", LIMIT),
    ("calibration", "--limit", LIMIT),
    ("generation", "--limit", LIMIT),
    ("descriptions", "--limit", "12"),
    ("read", DATA, "--limit", LIMIT),
)
# Besides these, every figure that has a chance is better if it is higher. The others say how things are, not how good.
HIGHER = {
    "nDCG@10 by labels",
    "right among the first 5",
    "words of the model's sentences that stand in the captions named",
}
LOWER = {
    "places among the first ten that hubs take",
    "Fréchet distance to held-out real images",
    "kernel distance to held-out real images",
}
# Not the encoder's merit: texts that share words have like vectors in any model, and here all images are of one kind.
OTHERS = {"caption and its paraphrase", "caption and its description", "modality and part of the body"}
UNTRUE = {"hybrid: asked for what it does not hold", "likeness: asked for what it does not hold"}


def worse(before: Figure, now: Figure) -> bool:
    """True if a figure is worse than the interval of the one before allows."""
    if before.low is None or before.high is None:
        return False
    low = before.low
    if not before.unit and 0 <= before.value <= 1:
        # A bootstrap of values that are all 1 has an interval without width; Wilson's has one.
        low = min(low, wilson(round(before.value * before.count), before.count)[0])
    if before.name in LOWER or (before.name == "called good" and before.group in UNTRUE):
        return now.value > before.high
    return (before.chance is not None or before.name in HIGHER) and now.value < low


def fallen(before: Sequence[Figure], now: Sequence[Figure]) -> list[str]:
    """Returns the figures that are worse than before, and those that are no longer measured."""
    found = {(each.name, each.group): each for each in now}
    said = []
    for each in before:
        other = found.get((each.name, each.group))
        if other is None:
            said.append(f"{each.name}, {each.group}: not measured any more")
        elif worse(each, other):
            said.append(f"{each.name}, {each.group}: {other.value}, was {each.value} ({each.low} to {each.high})")
    return said


def measured(url: str, subject: Sequence[str], out: Path) -> tuple[Figure, ...]:
    assert run(["eval", *subject, "--out", str(out), "--url", url, "--json"]) == 0
    (evaluation,) = json.loads(out.read_text())["evaluations"]
    return tuple(Figure.model_validate(each) for each in evaluation["figures"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each[0])
def test_no_figure_is_worse_than_its_interval_allows(
    system: Any, tmp_path: Path, command: Sequence[str], pytestconfig: pytest.Config
) -> None:
    now = measured(system.http_url, command, tmp_path / "evaluation.json")
    kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if pytestconfig.getoption("write_baseline"):
        kept[command[0]] = [each.model_dump(exclude_defaults=True) for each in now]
        BASELINE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    before = [Figure.model_validate(each) for each in kept[command[0]]]
    assert any(each.chance is not None or each.name in HIGHER for each in before)
    assert not fallen(before, now)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MIRAGE with the same records and models, but for its encoder's weights."""
    folder = tmp_path_factory.mktemp("broken")
    for name in ("generator", "lm"):
        shutil.copytree(MINI / name / "bundle", folder / "models" / name)
    break_encoder(MINI / "clip" / "bundle", folder / "models" / "clip")
    machine = make_machine(folder / "data", str(folder / "models"))
    try:
        assert machine.up("--no-demo")[0] == 0
        with Client(f"http://127.0.0.1:{machine.port}", timeout_s=120) as client:
            tally = Indexer(client).run(islice(open_reader("demo").read(), 0, None, EVERY))
            until(lambda: client.collection().calibration)
        assert tally.stored == tally.seen > 100, tally
        yield f"http://127.0.0.1:{machine.port}"
    finally:
        clear(machine)


def told_apart(figure: Figure) -> bool:
    """True if the encoder alone decides a figure, and it is clearly better than chance."""
    others = not OTHERS.isdisjoint((figure.name, figure.group)) or any(
        how in figure.group for how in ("words", "hybrid")
    )
    return not others and figure.chance is not None and figure.low is not None and figure.low > figure.chance + 0.1


@pytest.mark.parametrize("command", [each for each in COMMANDS if each[0] != "descriptions"], ids=lambda each: each[0])
def test_a_broken_encoder_is_worse_on_every_measure(broken: str, tmp_path: Path, command: Sequence[str]) -> None:
    now = {(each.name, each.group): each for each in measured(broken, command, tmp_path / "evaluation.json")}
    before = [Figure.model_validate(each) for each in json.loads(BASELINE.read_text())[command[0]]]
    better = [each for each in before if told_apart(each)]
    assert better or command[0] == "calibration"
    same = [
        f"{each.name}, {each.group}: {found.value}, good {each.value} ({each.low} to {each.high})"
        for each in better
        if (found := now.get((each.name, each.group))) and not worse(each, found)
    ]
    assert not same
    if command[0] == "calibration":
        name, group = "AUROC of the best cosine", "likeness"
        good = next(each for each in before if (each.name, each.group) == (name, group))
        assert now[name, group].value < 0.7 < 0.9 < good.value


def figure(value: float, **fields: Any) -> Figure:
    return Figure(
        name="recall@1", group="all", value=value, **{"low": 0.4, "high": 0.6, "chance": 0.1, "count": 500, **fields}
    )


def test_a_figure_that_falls_below_its_interval_is_found() -> None:
    assert fallen([figure(0.5)], [figure(0.41, low=0.2)]) == []
    assert fallen([figure(0.5)], [figure(0.39)]) == ["recall@1, all: 0.39, was 0.5 (0.4 to 0.6)"]
    assert fallen([figure(1.0, low=1.0, high=1.0, count=40)], [figure(0.95)]) == []
    assert len(fallen([figure(1.0, low=1.0, high=1.0, count=40)], [figure(0.9)])) == 1
    assert fallen([figure(0.5)], []) == ["recall@1, all: not measured any more"]
    distance = {"name": "kernel distance to held-out real images", "chance": None}
    assert fallen([figure(0.5).model_copy(update=distance)], [figure(0.39).model_copy(update=distance)]) == []
    assert len(fallen([figure(0.5).model_copy(update=distance)], [figure(0.61).model_copy(update=distance)])) == 1
