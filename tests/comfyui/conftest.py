"""One ComfyUI for all tests of this folder that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_host import BrokenHostError, Host, find_comfyui, start, stop

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("comfyui")
            item.add_marker(pytest.mark.timeout(600))  # the first one starts ComfyUI


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A running ComfyUI with the pack installed; skips where there is no ComfyUI."""
    found = find_comfyui()
    if isinstance(found, str):
        pytest.skip(found)
    try:
        running, process = start(tmp_path_factory.mktemp("comfyui"), *found)
    except BrokenHostError as error:
        pytest.skip(str(error))
    yield running
    stop(process)


@pytest.fixture(autouse=True)
def an_empty_queue_for_the_next(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that failed while its graph waited for a choice must not hold up those behind it."""
    yield
    if "host" in request.fixturenames:
        request.getfixturevalue("host").clear()
