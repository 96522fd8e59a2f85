"""`palate train ppd`: from the answers of many people to one PPD that knows a new person by a few answers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import CancelledError, PPDError
from ..adapters.finetune.protocol import STOPPED, Event, Finished, Prepared, Sampled, Stepped
from .devices import training_device
from .train_ppd_options import ppd_known_by, ppd_settings
from .training import Ending, minutes, run_told, stepped
from .users import pictures_with

if TYPE_CHECKING:
    from ..adapters.ppd.from_answers import Watchers
    from ..adapters.ppd.settings import PPDSettings

__all__ = ["train_ppd_command"]


def train_ppd_command(arguments: argparse.Namespace, store: Path) -> int:
    """Train, and say how it does for people that it never saw.

    Args:
        arguments: Those of `add_ppd_options`, and anew, json, starter.
        store: Folder of the answers, where no data set is named.

    Returns:
        0; 2 after a mistake that was told as a line; 130 when it was asked to end and kept its checkpoint.

    Raises:
        FineTuneError, PPDError: it can't start or go on.
    """
    from ..adapters.places import palate_home, safe_name

    folder = palate_home() / "training" / f"ppd-{safe_name(arguments.name)}"
    told = _Told(sys.stderr.isatty(), arguments.user_encoder == "learned")
    return run_told(arguments, folder, lambda asked, tell: _train(arguments, store, folder, asked, tell), told)


def _train(
    arguments: argparse.Namespace, store: Path, folder: Path, asked: Ending, tell: Callable[[Event], None]
) -> int:
    """Do it; `tell` hears of everything, and everything else that is printed is for people."""
    from ..adapters.comparisons import PreferenceStore

    if not arguments.data:  # a store that isn't there is told before libraries are imported that take seconds
        PreferenceStore.existing(store).close()
    elif arguments.person:
        raise PPDError("Cannot train on people of the store and on a data set; expected --person or --data.")
    from ..adapters.finetune.checkpoint import begin_training
    from ..adapters.finetune.several import several
    from ..adapters.places import ppd_folder, typed_path
    from ..adapters.ppd.sources import DataSet, StoreAnswers

    settings = ppd_settings(arguments)
    begin_training(folder, arguments.anew, several())
    file = typed_path(arguments.output) if arguments.output else ppd_folder() / f"{folder.name.removeprefix('ppd-')}"
    if arguments.data:
        return _run(arguments, DataSet(typed_path(arguments.data)), settings, folder, file, asked, tell)
    with PreferenceStore.existing(store) as answers:
        source = StoreAnswers(answers, tuple(arguments.person or ()))
        return _run(arguments, source, settings, folder, file, asked, tell)


def _run(
    arguments: argparse.Namespace,
    source: Any,
    settings: PPDSettings,
    folder: Path,
    file: Path,
    asked: Ending,
    tell: Callable[[Event], None],
) -> int:
    from ..adapters.encoders import load_encoder
    from ..adapters.finetune.several import several
    from ..adapters.places import typed_path
    from ..adapters.ppd.from_answers import train_ppd_file
    from .terminal import silence

    silence()
    known, device = ppd_known_by(arguments), arguments.device or training_device()
    start = typed_path(arguments.start) if arguments.start else None
    encoder = load_encoder(arguments.encoder, device) if arguments.encoder else None
    board = _board(folder) if several().first and not arguments.prepare_only else None
    watching = _watchers(board, asked, tell), arguments.prepare_only, known
    try:
        found = train_ppd_file(arguments.model, source, settings, folder, file, start, encoder, device, *watching)
    except CancelledError:
        print("Stopped. The same command goes on from where it was kept.", file=sys.stderr)
        return STOPPED
    finally:
        if board is not None:
            board.close()
    if not several().first:
        return 0
    count = len(found.held_out)
    held = "some pairs of each" if known.kind == "learned" else f"{count} {'person' if count == 1 else 'people'}"
    print(f"{found.counted.sentence} Held out: {held}.", file=sys.stderr)
    if found.trained is None or found.file is None:
        tell(Finished("", f"Prepared {found.counted.sentence}", None, 0))
    else:
        tell(Finished(str(found.file), found.trained.summary, found.trained.better, found.trained.steps))
    return 0


def _board(folder: Path) -> Any:
    """TensorBoard's curves; None where it isn't installed."""
    from ..adapters.ppd.board import open_board

    board = open_board(folder)
    if board is None:
        print("TensorBoard is not installed here: no curves are drawn.", file=sys.stderr)
    return board


def _watchers(board: Any, asked: Ending, tell: Callable[[Event], None]) -> Watchers:
    """Who is told how it goes: whoever reads the lines, and the board."""
    from ..adapters.ppd.from_answers import Watchers

    def on_step(step: Any) -> None:
        tell(stepped(step))
        if board is not None:
            board.step(step)

    def on_sample(step: int, files: tuple[Path, ...]) -> None:
        tell(Sampled(step, tuple(map(str, files))))
        if board is not None:
            board.samples(step, files)

    def on_described(done: int, count: int) -> None:
        print(f"profiles: {done} of {count}", file=sys.stderr)

    return Watchers(lambda done, count: tell(Prepared(done, count)), on_step, on_sample, asked.asked, on_described)


class _Told:
    """Says how it goes: at every look at the held-out people, and on a terminal each second."""

    def __init__(self, terminal: bool, by_name: bool) -> None:
        self._terminal, self._last = terminal, 0.0
        self._judged = "pairs it never saw" if by_name else "people it never saw"

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished):
            _finished(event)
        elif isinstance(event, Sampled):
            self._line(f"after {event.step} steps: {', '.join(event.files)}", True)
        elif isinstance(event, Prepared):
            of = f" of {event.all}" if event.all else ""
            self._line(f"answers made ready: {event.done}{of}", event.done == event.all)
        elif isinstance(event, Stepped):
            line = f"step {event.step}/{event.steps}  loss {_number(event.loss)}  margin {_number(event.margin)}"
            line += f"  {100 * (event.accuracy or 0.0):.0f} % right  {minutes(event.seconds_left or 0.0)} left"
            look = event.judgement
            if look is not None:
                line += f"  {self._judged}: {100 * look['accuracy']:.0f} % right, surprise {look['log_loss']:.3f}"
            self._line(line, look is not None)

    def _line(self, text: str, stays: bool) -> None:
        now = time.monotonic()
        if not stays and not (self._terminal and now - self._last >= 1.0):
            return
        self._last = now
        before = "\r\033[K" if self._terminal else ""
        print(f"{before}{text}", end="\n" if stays else "", file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _finished(found: Finished) -> None:
    from ..adapters.files.ppd_file import describe_ppd

    print(found.summary)
    if not found.file:
        return
    file = Path(found.file)
    print(f"Saved {file} ({file.stat().st_size / 1e6:.1f} MB).")
    print(pictures_with(describe_ppd(file).layers, f" --ppd {file} --user FILE -o OUT"))
