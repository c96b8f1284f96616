"""Options that hold for every test of the repository."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --full (the long form of the fault tests) and --write-baseline (keeps today's figures of quality)."""
    parser.addoption("--full", action="store_true", help="run fault tests in full length (hours), not the quick form")
    parser.addoption(
        "--write-baseline",
        action="store_true",
        help="write tests/integration/quality_baseline.json from today's figures",
    )
