"""One ComfyUI for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from comfy_host import Host, find_comfyui, start, stop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these tests share one host: keep them on one worker when tests run side by side."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.comfyui)
            item.add_marker(pytest.mark.xdist_group("comfyui"))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A running ComfyUI with the pack installed; skips where there is no ComfyUI."""
    found = find_comfyui()
    if isinstance(found, str):
        pytest.skip(found)
    running, process = start(tmp_path_factory.mktemp("comfyui"), *found)
    yield running
    stop(process)
