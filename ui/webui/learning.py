"""What the tab does: learn a taste from the answers, list tastes, open the panel beside the host."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
from pathlib import Path

from ...adapters.errors import PreferenceError
from ...adapters.places import palate_home, safe_name, tastes_folder

__all__ = ["NO_TASTE", "ROOT", "PanelProcess", "learn", "taste_names", "taste_path"]

ROOT = Path(__file__).resolve().parents[2]
NO_TASTE = "none"


class PanelError(PreferenceError, RuntimeError):
    """The panel can't be opened from here."""


def taste_names() -> list[str]:
    """Names of the taste files in PALATE_HOME, "none" first."""
    return [NO_TASTE, *sorted(file.name for file in tastes_folder().glob("*.safetensors") if file.name[0] != ".")]


def taste_path(name: str) -> Path:
    """Path of a file as `taste_names` lists it.

    Raises:
        PreferenceError: there is none of this name.
    """
    if name not in taste_names():
        raise PanelError(f"Cannot use the taste {name[:80]!r}: it is gone; expected one of the list. Refresh the list.")
    return tastes_folder() / name


def learn(person: str, encoder: str) -> str:
    """Learn a person's taste from the store of all hosts, save it, and return one sentence.

    Args:
        person: Whose.
        encoder: As `load_encoder` takes it.

    Raises:
        EncoderError, NotEnoughAnswersError, StoreError: as `load_encoder` and `fit_taste` say.
    """
    from ...adapters.comparisons import PreferenceStore
    from ...adapters.encoders import load_encoder
    from ...adapters.files import save_taste
    from ...adapters.taste import measured_taste

    with PreferenceStore.existing(palate_home() / "store") as store:
        taste = measured_taste(store, load_encoder(encoder), person)
    file = save_taste(taste, tastes_folder() / f"{safe_name(person)}.safetensors")
    good = f" It foresaw {taste.accuracy}." if taste.accuracy else ""
    return f"Learned from {taste.answers} answers and saved as {file.name}.{good}"


class PanelProcess:
    """Palate's panel, in its own environment and process, for as long as the host runs."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def open(self) -> str:
        """Start it on a free port if it isn't there, and return its address.

        Raises:
            PanelError: its environment isn't there; the message says how to make it.
        """
        if self._process is None or self._process.poll() is not None:
            python = self._root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
            if not python.is_file() or not (self._root / ".venv" / "palate-panel.json").is_file():
                raise PanelError(
                    "Cannot open the panel: it has libraries of its own, which are not installed yet. Run "
                    f'`python "{self._root / "install.py"}" panel` once in a terminal.'
                )
            self._port = _free_port()
            command = [str(python), "-m", "palate.ui.cli", "panel", "--no-browser", "--port", str(self._port)]
            # The host's own modules must not get into another environment's Python.
            environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
            self._process = subprocess.Popen(command, cwd=palate_home(), env=environment, stdin=subprocess.DEVNULL)
            atexit.register(self.close)
        return f"http://127.0.0.1:{self._port}"

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.terminate()
                self._process.wait(10)
            self._process = None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
