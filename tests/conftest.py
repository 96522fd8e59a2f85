"""What holds for every test: helpers by name, the same examples in every run, and a home of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# What several files share is a module that they import; it comes last, so that it hides nobody's.
sys.path += [str(Path(__file__).parent / folder) for folder in (".", "unit", "browser", "comfyui", "benchmarks")]

# A red run must be red again: examples come from the test's name, not from chance, and nothing is timed.
settings.register_profile("palate", deadline=None, derandomize=True, database=None)
settings.load_profile("palate")


@pytest.fixture(scope="session", autouse=True)
def home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the answers of whoever runs it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PALATE_HOME", str(tmp_path_factory.mktemp("palate-home")))
        yield
