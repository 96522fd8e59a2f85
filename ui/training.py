"""What every `palate train ...` shares: asking it to end, and telling how it goes as lines for another program."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from ..adapters.errors import PreferenceError
from ..adapters.finetune.protocol import STOP, STOPPED, Event, Failed, Stepped, write_line

if TYPE_CHECKING:
    from ..adapters.finetune.told import TrainingStep

__all__ = ["Ending", "Lines", "ending", "lines", "minutes", "run_told", "stepped"]

PATIENCE = 120.0  # seconds after the starting program is gone in which a training may still keep its checkpoint


class Ending:
    """Whether a training was asked to end: by ctrl-C or a signal, a file STOP in its folder, or its starter's end.

    Args:
        folder: Of the training.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / STOP
        self._asked = threading.Event()
        self._begun = threading.Event()

    @property
    def begun(self) -> bool:
        """Whether a step was told of, so that there is something to keep."""
        return self._begun.is_set()

    def begin(self) -> None:
        """From now on there is something to keep."""
        self._begun.set()

    def asked(self) -> bool:
        """Whether it was; it should keep where it stands, then end."""
        if self._asked.is_set():
            return True
        if self._file.exists():
            self.now()
        return self._asked.is_set()

    def now(self) -> None:
        """Ask it."""
        self._asked.set()


@contextlib.contextmanager
def ending(folder: Path, starter: bool = False) -> Iterator[Ending]:
    """Listen for everything that asks a training to end.

    The first ctrl-C asks, a second one ends it on the spot. Other signals ask, however often they come: for a terminal
    that closes both the system and the shell may send one.

    Args:
        folder: Of the training; a file STOP that was left there is removed.
        starter: Whether another program holds the other end of standard input: when that closes, however the program
            ended, so does the training. Nothing that it started may go on using a GPU.
    """
    asked = Ending(folder)
    with contextlib.suppress(OSError):
        (folder / STOP).unlink()
    before = {}
    if threading.current_thread() is threading.main_thread():
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last one is Windows' own
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            # Whoever starts it by nohup wants it to go on when the terminal closes.
            if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _Handler(asked))
    if starter:
        threading.Thread(target=_watch, args=(asked,), name="palate-starter", daemon=True).start()
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):
            (folder / STOP).unlink()


class _Handler:
    """One for each signal: they don't count each other's."""

    def __init__(self, asked: Ending) -> None:
        self._asked, self._times = asked, 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._asked.now()
        by_hand = number in (signal.SIGINT, getattr(signal, "SIGBREAK", None))
        self._times += 1
        if by_hand and self._times > 1:
            raise KeyboardInterrupt
        more = b" Ctrl-C again ends it on the spot." if by_hand else b""
        with contextlib.suppress(OSError):  # not by print: a signal may come in the middle of one
            os.write(2, b"\nStopping, once what was reached is kept." + more + b"\n")


def _watch(asked: Ending) -> None:
    # os.read and not sys.stdin: a thread that waits inside of that one would hold up the interpreter's end.
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    asked.now()
    if asked.begun:
        time.sleep(PATIENCE)
    # It hangs, and nobody is left to end it; or there is nothing yet to keep, and a model would be loaded for nobody.
    os._exit(STOPPED)


class Lines:
    """Prints events as JSON lines for whoever started the training.

    Args:
        out: Where to; what others print on standard output is sent to the error stream meanwhile.
        asked: Told when nobody reads any more.
    """

    def __init__(self, out: TextIO, asked: Ending) -> None:
        self._out, self._asked = out, asked

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self._asked.begin()
        try:
            print(write_line(event), file=self._out, flush=True)
        except (OSError, ValueError):  # the pipe is cut: keep the checkpoint, which no traceback must prevent
            self._asked.now()


@contextlib.contextmanager
def lines(asked: Ending) -> Iterator[Lines]:
    """Give standard output to `Lines` alone."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield Lines(out, asked)


def run_told(
    arguments: argparse.Namespace,
    folder: Path,
    train: Callable[[Ending, Callable[[Event], None]], int],
    people: Callable[[Event], None],
) -> int:
    """Run a training that can be asked to end, and tell how it goes: to people, or with --json to a program.

    Args:
        arguments: json and starter are looked at.
        folder: Of the training.
        train: Does it; returns the exit status.
        people: Tells them.

    Returns:
        What `train` returns; 2 after a mistake that was told as a line.

    Raises:
        PreferenceError: a mistake, where people are told.
    """
    with ending(folder, arguments.starter) as asked:
        if not arguments.json:
            return train(asked, lambda event: _said(event, people, asked))
        with lines(asked) as tell:
            try:
                return train(asked, tell)
            except PreferenceError as error:
                tell(Failed(" ".join(str(error).split())))
                return 2


def _said(event: Event, people: Callable[[Event], None], asked: Ending) -> None:
    """Tell people; where nobody is left who reads it, as a terminal was closed, the checkpoint is kept all the same."""
    try:
        people(event)
    except OSError:
        asked.now()


def minutes(seconds: float) -> str:
    """Return a time in words that are as rough as it is."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def stepped(step: TrainingStep) -> Stepped:
    """Return a step as the protocol has it."""
    look = None if step.judgement is None else asdict(step.judgement)
    return Stepped(step.step, step.steps, step.loss, step.margin, step.accuracy, step.seconds_left, look)
