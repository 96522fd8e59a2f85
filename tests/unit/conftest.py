"""What unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from palate.adapters.comparisons import PreferenceStore


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreferenceStore]:
    """An empty store, outside the test's own folder."""
    with PreferenceStore(tmp_path_factory.mktemp("home") / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreferenceStore]:
    """A store for all examples of a file's properties."""
    with PreferenceStore(tmp_path_factory.mktemp("shared")) as opened:
        yield opened


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A panel's studio with an empty store, a home of its own and the quick stand-ins for model and encoder."""
    import panel_fakes
    from palate.ui.panel.studio import Studio

    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    made = Studio(tmp_path / "store", panel_fakes.fake_tools())
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of Stable Diffusion's layout, written once for a file's tests."""
    import steering_models

    return steering_models.write_pipeline(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def denoiser(folder: Path) -> Any:
    """That model's denoiser, ready for a training."""
    from finetune_small import denoiser_of

    return denoiser_of(folder)
