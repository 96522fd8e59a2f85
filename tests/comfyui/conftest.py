"""One ComfyUI for the tests of this folder; two where files run side by side, one for those of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_host import BrokenHostError, Host, find_comfyui, start, stop

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("comfyui")
            item.add_marker(pytest.mark.timeout(600))  # the first one starts ComfyUI


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two workers get these tests, each with a host: one would take as long as all others, four would fill memory."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    pages = {file.name for file in HERE.glob("test_*.py") if "browser: Any" in file.read_text(encoding="utf-8")}

    class TwoHosts(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::", 1)[0])
            return f"{file.parent} {file.name in pages}" if file.parent.name == HERE.name else str(file)

    return TwoHosts(config, log)


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
