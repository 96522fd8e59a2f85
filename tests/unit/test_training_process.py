"""A training as a process: what it tells, every way it can end, and that nothing of it is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from palate.adapters.errors import CancelledError, FineTuneError
from palate.adapters.finetune import process as module
from palate.adapters.finetune.process import TrainingProcess, python_for_training, run_training
from palate.adapters.finetune.protocol import Event, Finished, Prepared, Stepped

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in for a Python is a script with a first line")

LONG = 60.0  # s, only ever waited for when something is broken

# Stands in for a Python with training's libraries: tells what it was asked to, as the last of its own words says.
FAKE = """
import os, subprocess, sys, time
root, train, kind, ending, *rest = sys.argv[3:]
say = lambda line: print(line, flush=True)
assert train == "train" and rest[-2:] == ["--json", "--starter"], sys.argv
print("a warning", file=sys.stderr, flush=True)
say('{"event": "prepared", "done": 2, "all": 2}')
say("a library prints")
say('{"event": "step", "step": 1, "steps": 2, "loss": 0.5}')
if ending == "home":
    say('{"event": "done", "file": "%s", "summary": "good", "better": true, "steps": 2}' % os.environ["PALATE_HOME"])
elif ending == "mistake":
    say('{"event": "error", "text": "Cannot train: nobody."}')
    sys.exit(2)
elif ending == "crash":
    sys.exit("Segmentation something")
elif ending == "stop":
    sys.stdin.read()
    open("kept", "w").close()
    sys.exit(130)
elif ending == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("child", "w").write(str(child.pid))
    time.sleep(600)
"""


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{FAKE}")
    fake.chmod(0o700)
    monkeypatch.setenv(module.CHOSEN, str(fake))
    return fake


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody waits for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_what_it_tells_arrives_in_order_and_what_a_library_prints_does_not(python: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    found = run_training(["lora", "home"], told.append, lambda: False)
    assert found == Finished(str(tmp_path / "home"), "good", True, 2)
    assert told == [Prepared(2, 2), Stepped(1, 2, 0.5), found]


def test_a_mistake_is_its_own_sentence_and_a_crash_its_last_words(python: Path) -> None:
    with pytest.raises(FineTuneError, match=r"^Cannot train: nobody\.$"):
        run_training(["lora", "mistake"], lambda event: None, lambda: False)
    with pytest.raises(FineTuneError, match=r"ended with 1.*checkpoint is safe.*\na warning\nSegmentation something"):
        run_training(["lora", "crash"], lambda event: None, lambda: False)


def test_cancelled_it_keeps_its_checkpoint_first(python: Path, tmp_path: Path) -> None:
    stepped = threading.Event()
    with pytest.raises(CancelledError, match="go on from there"):
        run_training(["lora", "stop"], lambda e: stepped.set() if isinstance(e, Stepped) else None, stepped.is_set)
    assert (tmp_path / "home" / "kept").exists()


def test_an_error_in_the_block_ends_it_too(python: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TrainingProcess(["lora", "stop"]) as training:
        until(training.news)
        raise KeyboardInterrupt
    assert not training.running and (tmp_path / "home" / "kept").exists()


def test_one_that_hangs_is_ended_with_all_that_it_started(python: Path, tmp_path: Path) -> None:
    child = tmp_path / "home" / "child"
    with TrainingProcess(["lora", "hang"]) as training:
        until(lambda: child.exists() and child.read_text())
        training.stop(patience=0.0)
    assert gone(training.id)
    until(lambda: gone(int(child.read_text())))


def test_it_ends_with_whoever_started_it(python: Path, tmp_path: Path) -> None:
    starter = (
        "import sys, time; from palate.adapters.finetune.process import TrainingProcess\n"
        "training, told = TrainingProcess(['lora', 'stop']), []\n"
        "while len(told) < 2: told += training.news()\n"
        "sys.stdout.write('started\\n'); sys.stdout.flush(); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "started\n"
        running.kill()
    until((tmp_path / "home" / "kept").exists)


@pytest.mark.parametrize("begun", [False, True])
def test_a_training_whose_starter_is_gone_keeps_what_there_is_to_keep(tmp_path: Path, begun: bool) -> None:
    script = (
        "import pathlib, sys, time; from palate.ui.training import ending\n"
        f"with ending(pathlib.Path({str(tmp_path)!r}), starter=True) as asked:\n"
        f"    {begun} and asked.begin(); sys.stdout.write('ready\\n'); sys.stdout.flush()\n"
        f"    while not (asked.asked() and {begun}): time.sleep(0.01)\n"
        "    sys.stdout.write('kept\\n')\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout.readline() == "ready\n"
        training.stdin.close()
        assert training.stdout.read() == ("kept\n" if begun else "")
    assert training.returncode == (0 if begun else 130)


def test_which_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(module.CHOSEN, raising=False)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FineTuneError, match=f'`python "{tmp_path / "install.py"}" train` once'):
        python_for_training(tmp_path)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name)
    assert python_for_training(tmp_path) == Path(sys.executable)
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert python_for_training(tmp_path) == Path(sys.executable)  # the panel's environment, or one that isn't whole
    (tmp_path / ".venv" / "palate-train.json").write_text("{}")
    assert python_for_training(tmp_path) == own
    monkeypatch.setenv(module.CHOSEN, sys.executable)
    assert python_for_training(tmp_path) == Path(sys.executable)
    monkeypatch.setenv(module.CHOSEN, "/no/such/python")
    with pytest.raises(FineTuneError, match="PALATE_TRAIN_PYTHON is '/no/such/python'"):
        python_for_training(tmp_path)
