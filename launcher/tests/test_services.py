"""What the services of a machine are started with."""

from pathlib import Path

import pytest

from mirage_launcher import ports, services
from mirage_launcher.folders import Folders


@pytest.mark.parametrize(("given", "workers"), [("9100", "9101"), ("", ""), ("0", "0"), ("none", "none")])
def test_generator_and_worker_do_not_share_a_port_for_metrics(
    given: str, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRAGE_GENERATOR_METRICS_PORT", given)
    port = ports.any_free()
    other = ports.any_free(taken=frozenset({port}))
    plan = services.plan(
        Folders.at(tmp_path), bundle=tmp_path, port=port, grpc_port=other, generator=tmp_path / "generator"
    )
    started = {each.name: {"MIRAGE_GENERATOR_METRICS_PORT": given, **each.environment} for each in plan.services}
    assert started["generator"]["MIRAGE_GENERATOR_METRICS_PORT"] == given
    assert started["worker"]["MIRAGE_GENERATOR_METRICS_PORT"] == workers
