"""The installer builds the right commands, runs them once, and leaves a host's Python alone. No network here."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "install.py"


class Recorder:
    """Stands in for every process that the installer would start."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.codes: dict[str, int] = {}
        self.lines: list[str] = []

    def run(self, command: Sequence[str], quiet: bool = False) -> int:
        self.commands.append(list(command))
        if "venv" in command:
            python = Path(command[-1], "bin/python")
            python.parent.mkdir(parents=True, exist_ok=True)
            python.write_text("")
            (Path(command[-1]) / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
        return next((code for word, code in self.codes.items() if word in command), 0)

    def run_and_keep(self, command: Sequence[str], stream: str) -> tuple[int, list[str]]:
        return self.run(command), self.lines

    def holding(self, word: str) -> list[list[str]]:
        return [command for command in self.commands if any(word in part for part in command)]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("palate_installer", INSTALL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "venv_python", lambda: tmp_path / ".venv/bin/python")
    monkeypatch.setattr(module, "OLDEST", (3, 10))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return module


@pytest.fixture
def recorder(install: Any, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(install, "run", made.run)
    monkeypatch.setattr(install, "run_and_keep", made.run_and_keep)
    monkeypatch.setattr(install, "become", lambda command: made.run(command))
    monkeypatch.setattr(install, "get_browser", lambda: None)
    return made


def test_without_arguments_it_installs_nothing_and_says_one_line_twice() -> None:
    command = [sys.executable, str(INSTALL)]
    first, second = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout and first.stdout.count("\n") == 1
    assert first.stdout.startswith("Palate: installed nothing") and first.stderr == ""


def test_it_starts_without_any_installed_package() -> None:
    result = subprocess.run([sys.executable, "-S", "-I", str(INSTALL)], capture_output=True, text=True)
    assert result.returncode == 0
    assert "torch, safetensors, PIL, aiohttp, transformers not found" in result.stdout


def test_the_panel_is_prepared_once_and_gets_its_arguments(install: Any, recorder: Recorder) -> None:
    arguments = ["panel", "--port", "0", "--no-browser", "--store", "a folder"]
    assert install.main(arguments) == install.main(arguments) == 0
    python = str(install.venv_python())
    assert [command[1:3] for command in recorder.commands] == [
        ["-m", "venv"],
        ["-m", "pip"],
        ["-m", "palate.ui.cli"],
        ["-m", "palate.ui.cli"],
    ]
    assert recorder.commands[1][-2:] == ["--editable", f"{install.ROOT}[panel]"]
    assert recorder.commands[-1] == [python, "-m", "palate.ui.cli", "panel", *arguments[1:]]


def test_each_extra_has_its_own_stamp(install: Any, recorder: Recorder) -> None:
    install.main(["train"])
    install.main(["panel"])
    assert [command[-1][-7:] for command in recorder.holding("--editable")] == ["[train]", "[panel]"]


def test_training_is_prepared_and_says_what_to_do_next_or_does_it(
    install: Any, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install.main(["train", "--torch", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f'python "{install.ROOT / "install.py"}" train lora' in said and "the tab Train" in said
    assert (install.VENV / "palate-train.json").is_file()  # which the node and the panel look for
    assert install.main(["train", "lora", "--person", "mara", "--help"]) == 0
    assert len(recorder.holding("--editable")) == 1
    assert recorder.commands[-1][1:] == ["-m", "palate.ui.cli", "train", "lora", "--person", "mara", "--help"]


def test_an_environment_that_does_not_load_is_not_ready(
    install: Any, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.codes[install.LOADS] = 1
    assert install.main(["train"]) == 1
    assert "doesn't load" in capsys.readouterr().out and not (install.VENV / "palate-train.json").exists()
    recorder.codes.clear()
    assert install.main(["train"]) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "pyproject.toml").write_text("[project]\nname = 'other'\n"),
        lambda root: (root / ".venv/pyvenv.cfg").write_text("version = 3.13.0\n"),
        lambda root: (root / ".venv/palate-panel.json").write_text('{"half'),
        lambda root: (root / ".venv/palate-panel.json").unlink(),
    ],
)
def test_a_change_installs_again(install: Any, recorder: Recorder, change: Callable[[Path], Any]) -> None:
    install.main(["panel"])
    change(install.ROOT)
    install.main(["panel"])
    install.main(["panel"])
    assert len(recorder.holding("--editable")) == 2


def test_a_failed_install_is_tried_again(install: Any, recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    recorder.codes["--editable"] = 1
    recorder.lines = ["ERROR: Failed to establish a new connection: [Errno -2] Name or service not known"]
    assert install.main(["panel"]) == 1
    assert "Check the network" in capsys.readouterr().out
    assert recorder.holding("palate.ui.cli") == []
    recorder.codes.clear()
    assert install.main(["panel"]) == 0


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution found for torch", "Run it with Python 3.11 or 3.12"),
        ("error: something else", "the lines above say why"),
    ],
)
def test_pips_complaint_becomes_advice(
    install: Any, recorder: Recorder, capsys: pytest.CaptureFixture[str], line: str, advice: str
) -> None:
    recorder.codes["--editable"], recorder.lines = 1, [line]
    assert install.main(["panel"]) == 1
    assert advice in capsys.readouterr().out


@pytest.mark.parametrize(("free", "cached"), [(29 << 30, False), (31 << 30, True)])
def test_a_nearly_full_disk_keeps_no_second_copy_of_what_is_downloaded(
    install: Any, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, free: int, cached: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    install.main(["panel"])
    (command,) = recorder.holding("--editable")
    assert ("--no-cache-dir" not in command) is cached


def test_a_build_of_torch_comes_first_and_from_its_own_index(install: Any, recorder: Recorder) -> None:
    install.main(["panel", "--torch", "cpu"])
    torch, palate = recorder.holding("pip")
    assert "https://download.pytorch.org/whl/cpu" in torch and torch[-2:] == ["torch", "torchvision"]
    assert "--editable" in palate
    install.main(["panel"])
    install.main(["panel", "--torch", "cpu"])
    assert len(recorder.holding("pip")) == 2
    install.main(["panel", "--torch", "cuda"])
    assert len(recorder.holding("--force-reinstall")) == 2


def test_a_broken_environment_is_made_again(install: Any, recorder: Recorder) -> None:
    install.main(["panel"])
    install.venv_python().unlink()
    install.main(["panel"])
    assert ["--clear" in command for command in recorder.commands if command[2] == "venv"] == [False, True]


def test_the_tests_run_after_every_check(install: Any, recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    recorder.lines = ["...", "==== 7 passed in 1.00s ===="]
    assert install.main(["test", "--", "tests/unit/test_places.py", "-k", "home"]) == 0
    tools = [command[2] for command in recorder.commands]
    assert tools == ["venv", "pip", "ruff", "ruff", "mypy", "pytest"]
    assert recorder.commands[-1][2:] == ["pytest", "tests/unit/test_places.py", "-k", "home"]
    assert capsys.readouterr().out.splitlines()[-1] == recorder.lines[-1]


@pytest.mark.parametrize("tool", ["check", "format", "mypy", "pytest"])
def test_one_failing_check_fails_the_whole_and_the_others_still_run(
    install: Any, recorder: Recorder, tool: str
) -> None:
    recorder.codes[tool] = 5
    assert install.main(["test"]) == 5
    assert len(recorder.commands) == 6


def test_an_old_python_is_told_so(
    install: Any, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "OLDEST", (99, 0))
    assert install.main(["panel"]) == 1
    assert "Palate needs Python 3.10 to 3.13; this is" in capsys.readouterr().out
    assert recorder.commands == []


def test_a_python_without_venv_is_told_what_to_install(
    install: Any, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    assert install.main(["panel"]) == 1
    assert "-venv" in capsys.readouterr().out
    assert recorder.commands == []


def test_processes_pass_on_their_output_and_exit_code(install: Any, capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print('first'); print('last ä'); sys.exit(3)"
    assert install.run_and_keep([sys.executable, "-X", "utf8", "-c", script], "stdout") == (3, ["first", "last ä"])
    assert capfd.readouterr().out == "first\nlast ä\n"
    assert install.run([sys.executable, "-c", "raise SystemExit(4)"]) == 4
    assert install.run(["there-is-no-such-program"]) == 127


def test_without_a_browser_and_without_root_it_says_so(
    install: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    install.get_browser()
    assert "the browser tests will skip" in capsys.readouterr().out
