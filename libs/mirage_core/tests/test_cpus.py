import os
import platform
from pathlib import Path

import pytest

from mirage_core.cpus import available_cpus, cpu_kind


def test_a_quota_of_half_a_processor_counts_as_one(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert available_cpus(tmp_path) == 1


def test_an_older_hosts_quota_counts_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path) == 1


@pytest.mark.parametrize(("name", "text"), [("cpu.max", "max 100000\n"), ("cpu.max", "nonsense\n"), ("other", "")])
def test_no_quota_means_the_affinity(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_the_kind_of_processor_names_instruction_sets_and_no_machine(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Secret 9000\nserial\t: 123\nflags\t\t: fpu avx2 fma avx512f somethingelse\n")
    kind = cpu_kind(cpuinfo)
    assert kind.split()[1:] == ["avx2", "fma", "avx512f"]
    assert "Secret" not in kind


def test_where_nothing_is_known_the_architecture_stands_alone(tmp_path: Path) -> None:
    assert cpu_kind(tmp_path / "absent") == platform.machine()
