"""A training as a process of its own, so that whoever starts it is neither bloated nor blocked nor brought down."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import CancelledError, FineTuneError
from ..places import palate_home
from .protocol import STOPPED, Event, Failed, Finished, read_line

__all__ = ["TrainingProcess", "python_for_training", "run_training"]

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = "PALATE_TRAIN_PYTHON"  # names the Python to train with, whatever else there is
NEEDED = ("peft", "diffusers")
PATIENCE = 90.0  # seconds in which a training that was asked to end keeps its checkpoint
LAST_LINES = 8  # of what it said on the error stream

# The code of this folder under the package's name, whatever the environment has installed under it, and whatever the
# folder is called: ComfyUI clones it under any name.
_BEGIN = """
import importlib.util as u, os, sys
root = sys.argv[1]
spec = u.spec_from_file_location("palate", os.path.join(root, "__init__.py"), submodule_search_locations=[root])
sys.modules["palate"] = package = u.module_from_spec(spec)
spec.loader.exec_module(package)
from palate.ui.cli import main
sys.exit(main(sys.argv[2:]))
"""


def python_for_training(root: Path = ROOT) -> Path:
    """Return the Python that has what training needs.

    `$PALATE_TRAIN_PYTHON` if it is set; else the environment that `python install.py train` made; else the running
    Python if it has peft and diffusers.

    Args:
        root: Folder of install.py.

    Raises:
        FineTuneError: there is none.
    """
    chosen = os.environ.get(CHOSEN, "").strip()
    if chosen:
        if os.path.isfile(chosen):
            return Path(chosen)
        raise FineTuneError(f"Cannot train: {CHOSEN} is {chosen!r}; expected the path of a Python. Unset it.")
    own = root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if own.is_file() and (root / ".venv" / "palate-train.json").is_file():
        return own
    if all(importlib.util.find_spec(name) is not None for name in NEEDED):
        return Path(sys.executable)
    raise FineTuneError(
        "Cannot train: found no environment for it, as training needs libraries that don't belong into a host. Run "
        f'`python "{root / "install.py"}" train` once in a terminal, then try again.'
    )


class TrainingProcess:
    """One training at work. As a context manager it is over when the block is left, however that happens.

    Its standard input is a pipe that ends with this process, whatever ends it; the training then keeps its checkpoint
    and ends, too. So nothing is left behind that holds a GPU.

    Args:
        arguments: What follows `palate train`, for example ["lora", "--person", "mara"].
        python: That has what training needs; None looks for it.

    Raises:
        FineTuneError: there is no such Python.
    """

    def __init__(self, arguments: Sequence[str], python: Path | None = None) -> None:
        python = python or python_for_training()
        command = [str(python), "-c", _BEGIN, str(ROOT), "train", *arguments, "--json", "--starter"]
        try:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=palate_home(),
                env=_environment(python),
                text=True,
                encoding="utf-8",
                errors="replace",
                # A terminal's ctrl-C reaches the starter only, which then asks kindly.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise FineTuneError(f"Cannot train: {python} can't be started ({error}). Expected a Python.") from error
        self._events: queue.Queue[Event] = queue.Queue()
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._finished: Finished | None = None
        self._failed = ""
        self._asked = False
        readers = ((self._process.stdout, self._read), (self._process.stderr, self._keep))
        self._readers = [threading.Thread(target=_each, args=one, daemon=True) for one in readers]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> TrainingProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def id(self) -> int:
        """Of the process."""
        return int(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, no longer than this; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.running

    def news(self) -> list[Event]:
        """Return what it has told since the last call, without waiting."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._events.get_nowait())
        return found

    def ask_to_stop(self) -> None:
        """Have it keep its checkpoint and end; returns at once."""
        self._asked = True
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def stop(self, patience: float = PATIENCE) -> None:
        """End it: kindly at first, and after so many seconds in any case."""
        if self.running:
            self.ask_to_stop()
            if not self.wait(patience):
                self._kill()
        self._close()

    def result(self) -> Finished:
        """Wait for its end and return what it made.

        Raises:
            CancelledError: it was asked to end; it goes on from its checkpoint when it is started again.
            FineTuneError: it couldn't start or go on, with its own words.
        """
        code = self._process.wait()
        self._close()
        if self._failed:
            raise FineTuneError(self._failed)
        if self._finished is not None and code == 0:
            return self._finished
        if code == STOPPED or self._asked:
            raise CancelledError("Training stopped. Start it again with the same settings to go on from there.")
        said = "\n".join(self._last)
        raise FineTuneError(
            f"Cannot go on training: its process ended with {code}. The last checkpoint is safe; start it again with "
            f"the same settings to go on from it. Its last words were:\n{said or '(none)'}"
        )

    def _read(self, line: str) -> None:
        event = read_line(line)
        if isinstance(event, Finished):
            self._finished = event
        elif isinstance(event, Failed):
            self._failed = event.text
        if event is not None:
            self._events.put(event)

    def _keep(self, line: str) -> None:
        if line.strip():
            self._last.append(line.rstrip())

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)  # it leads a group: what it started ends with it
            else:
                self._process.kill()
        self._process.wait()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join(5.0)  # something that it started may still hold the pipe
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()


def run_training(
    arguments: Sequence[str],
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool],
    python: Path | None = None,
    pause: float = 0.1,
) -> Finished:
    """Train in a process of its own and wait for it.

    Args:
        arguments: What follows `palate train`.
        on_event: Called in this thread with everything that it tells.
        cancelled: Asked every `pause` seconds; the checkpoint is kept.
        python: That has what training needs; None looks for it.

    Raises:
        CancelledError: `cancelled` said so.
        FineTuneError: it couldn't start or go on.
    """
    with TrainingProcess(arguments, python) as process:
        while not process.wait(pause):
            for event in process.news():
                on_event(event)
            if cancelled():
                process.stop()
        try:
            return process.result()
        finally:
            for event in process.news():
                on_event(event)


def _each(pipe: IO[str], take: Callable[[str], None]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed from the other end
        for line in pipe:
            take(line)


def _environment(python: Path) -> dict[str, str]:
    """This process's, less what leads another Python to this one's libraries."""
    own = {"PALATE_HOME": str(palate_home()), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    kept = dict(os.environ)
    if python != Path(sys.executable):
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV"):
            kept.pop(name, None)
    return kept | own
