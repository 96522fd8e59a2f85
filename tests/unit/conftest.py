"""What unit tests of the panel share."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A panel's studio with an empty store, a home of its own and the quick stand-ins for model and encoder."""
    fakes = runpy.run_path(str(Path(__file__).parents[1] / "panel_fakes.py"))
    from palate.ui.panel.studio import Studio

    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    made = Studio(tmp_path / "store", fakes["fake_tools"]())
    yield made
    made.close()
