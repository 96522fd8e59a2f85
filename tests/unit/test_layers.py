"""Imports point one way, rooms say what is theirs, and what is built is whole."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("adapters", "nodes", "ui")
HOSTS = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "node_helpers", "nodes"}
# What no file of a room may import, at its top or anywhere inside.
FORBIDDEN = {
    "adapters": HOSTS | {"gradio", "palate.nodes", "palate.ui", "ui", "palate"},
    "nodes": {"gradio", "diffusers", "open_clip", "palate.ui", "ui", "palate"},
    "ui": HOSTS | {"palate.nodes", "palate"},
}
# What a ComfyUI process may lack; `None` in sys.modules makes importing it fail.
HEAVY = ("comfy", "folder_paths", "server", "gradio", "diffusers", "open_clip", "peft", "accelerate")


def sources(room: str) -> list[Path]:
    """Python files of a room."""
    return sorted(file for file in (ROOT / room).rglob("*.py") if not is_hidden(file))


def is_hidden(file: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in file.relative_to(ROOT).parts)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(("palate", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, relative ones resolved, with its line."""
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            # The mark tells a relative import, which is meant, from an absolute one of our own package.
            mark = "." if node.level else ""
            yield mark + start, node.lineno
            yield from ((f"{mark}{start}.{alias.name}", node.lineno) for alias in node.names)


def within(name: str, forbidden: set[str]) -> bool:
    if name.startswith("."):
        # Relative imports name our own package: only its rooms can be wrong, never "palate" itself.
        name, forbidden = name[1:], forbidden - {"palate"}
    return any(name == module or name.startswith(f"{module}.") for module in forbidden)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way_and_are_relative_inside(room: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name.lstrip('.')}"
        for file in sources(room)
        for name, line in imported(file)
        if within(name, FORBIDDEN[room])
    ]
    assert wrong == []


def test_the_check_itself_sees_every_way_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "adapters" / "room" / "file.py"
    file.parent.mkdir(parents=True)
    ways = ("import comfy.sd", "from gradio import Blocks", "from ...ui import panel", "from ... import nodes")
    file.write_text("\n".join(("from ..errors import StoreError", *ways)))
    found = {line for name, line in imported(file) if within(name, FORBIDDEN["adapters"])}
    assert found == {2, 3, 4, 5}


def setuptools_settings() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(settings["tool"]["setuptools"])


def packages() -> list[Path]:
    return sorted({file.parent for room in ROOMS for file in sources(room) if file.name == "__init__.py"})


def test_every_folder_of_code_is_a_package_and_every_package_is_built() -> None:
    listed = set(setuptools_settings()["packages"])
    found = {module_name(folder / "__init__.py") for folder in packages()} | {"palate"}
    assert found == listed
    assert {file.parent for room in ROOMS for file in sources(room)} == set(packages())


def test_every_other_file_of_a_package_is_built_too() -> None:
    patterns = setuptools_settings()["package-data"]
    built = {
        file
        for folder in packages()
        for pattern in [*patterns["*"], *patterns.get(module_name(folder / "__init__.py"), [])]
        for file in folder.glob(pattern)
    }
    others = {file for room in ROOMS for file in (ROOT / room).rglob("*") if file.is_file() and file.suffix != ".py"}
    # ComfyUI reads ui/web from the clone; a wheel has no use for it.
    missing = {file for file in others - built if not is_hidden(file) and not file.is_relative_to(ROOT / "ui" / "web")}
    assert sorted(map(str, missing)) == []


def exported(file: Path) -> list[str] | None:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("folder", packages(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_room_names_all_that_it_offers_in_order(folder: Path) -> None:
    file = folder / "__init__.py"
    body = ast.parse(file.read_text(encoding="utf-8")).body
    offered = {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    } - {"annotations"}
    names = exported(file)
    if names is None:
        assert not offered, "a room that offers names needs an __all__"
        return
    # Constants, then classes, then functions, each by the alphabet: what ruff's RUF022 sorts by.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))
    if folder.is_relative_to(ROOT / "adapters"):
        assert offered <= set(names)


def test_adapters_import_without_a_host_and_without_heavy_libraries() -> None:
    names = [module_name(file) for file in sources("adapters") if file.name == "__init__.py"]
    script = (
        "import importlib, json, sys\n"
        "heavy, names = json.loads(sys.argv[1])\n"
        "sys.modules.update(dict.fromkeys(heavy))\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "print(len(names))"
    )
    command = [sys.executable, "-c", script, json.dumps([HEAVY, names])]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(len(names))]
