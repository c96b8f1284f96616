"""Options that hold for every test of the repository."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --full: the long form of the fault tests."""
    parser.addoption("--full", action="store_true", help="run fault tests in full length (hours), not the quick form")
