from pathlib import Path

from mirage_core.cpus import available_cpus


def test_a_quota_of_half_a_processor_counts_as_one(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert available_cpus(quota) == 1


def test_no_quota_means_the_affinity(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "absent") >= 1
