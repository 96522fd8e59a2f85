"""`palate train ppd`: from the answers of many people to one PPD that knows a new person by a few answers."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import CancelledError, PPDError, PreferenceError
from ..adapters.finetune.protocol import STOPPED, Event, Failed, Finished, Prepared, Sampled, Stepped
from .training import Ending, ending, lines, minutes, stepped

if TYPE_CHECKING:
    from ..adapters.ppd.settings import PPDSettings

__all__ = ["add_ppd_options", "train_ppd_command"]

_ABOUT = (
    "Train a PPD: one model for many people, that knows a new person by a few answers, without a\n"
    "training of their own. It needs answers of several people: those in a store, or a data set\n"
    "such as Pick-a-Pic."
)
_EXAMPLES = """\
  palate train ppd --name friends
      everybody in the store, for the playground
  palate train ppd --data pick-a-pic/ --model sd15.safetensors --start ip-adapter_sd15.safetensors --sample-every 500
      parquet shards with jpg_0, jpg_1, label_0, label_1, caption and user_id; the attention begins as an IP-Adapter's
  palate train ppd --data pick-a-pic/ --model sdxl.safetensors --prepare-only
  accelerate launch --num_processes 8 -m palate.ui.cli train ppd --data pick-a-pic/ --model sdxl.safetensors
      pictures are encoded once, by one process; then eight train on eight GPUs, each on its part of every batch

A training that was stopped or killed goes on with the same command. Some people are never trained on: at the end it is
said whether it does better than the base for them. Curves: tensorboard --logdir PALATE_HOME/training/ppd-NAME
"""
_SETTINGS = (
    "loss",
    "beta",
    "learning_rate",
    "schedule",
    "steps",
    "batch",
    "accumulate",
    "fewest",
    "most",
    "user_dropout",
    "caption_dropout",
    "judged_support",
    "held_out",
    "check_every",
    "save_every",
    "sample_every",
    "seed",
    "size",
)


def add_ppd_options(ppd: argparse.ArgumentParser) -> None:
    """Add the options, all but those that every training has."""
    ppd.description, ppd.epilog = _ABOUT, f"examples:\n{_EXAMPLES}"
    ppd.formatter_class = argparse.RawDescriptionHelpFormatter
    answers = ppd.add_argument_group("answers")
    answers.add_argument("--data", default=None, metavar="PATH", help="a parquet file or folder (default: the store)")
    answers.add_argument("--person", action="append", metavar="NAME", help="who of the store; several (default: all)")
    answers.add_argument("--held-out", type=float, metavar="SHARE", help="of the people, to judge by (default: 0.1)")
    answers.add_argument("--prepare-only", action="store_true", help="encode pictures and prompts, and end there")
    model = ppd.add_argument_group("model")
    model.add_argument("--model", default="playground", metavar="FOLDER|FILE", help="of SD1.5 or SDXL")
    model.add_argument("--start", default=None, metavar="FILE", help="begin with this PPD, or this IP-Adapter")
    model.add_argument("--encoder", default=None, metavar="SPEC", help="of image vectors (default: the model's CLIP)")
    model.add_argument("--size", type=int, help="side of the pictures in pixels (default: the model's)")
    how = ppd.add_argument_group("training")
    how.add_argument("--loss", metavar="NAME", help="dpo (the default), sft, cdpo, rdpo, ipo, kto or mapo")
    how.add_argument("--beta", type=float, help="pull to the model as it is (default: the paper's)")
    how.add_argument("--learning-rate", type=float, help="(default: 1e-4)")
    how.add_argument("--schedule", metavar="NAME", help="of the learning rate: constant (the default) or cosine")
    how.add_argument("--steps", type=int, help="(default: four times each pair, 500 to 20000)")
    how.add_argument("--batch", type=int, help="pairs at a time in each process (default: 8)")
    how.add_argument("--accumulate", type=int, help="batches per step (default: 1)")
    how.add_argument("--fewest", type=int, metavar="N", help="answers that a person is known by at least (default: 1)")
    how.add_argument("--most", type=int, metavar="N", help="and at most (default: 16)")
    how.add_argument("--user-dropout", type=float, metavar="SHARE", help="seen as the average user (default: 0.1)")
    how.add_argument("--caption-dropout", type=float, metavar="SHARE", help="seen without a prompt (default: 0.1)")
    how.add_argument("--precision", default=None, metavar="NAME", help="float32 or bfloat16 (default: by the device)")
    how.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute layers twice, to save memory (default: on a GPU)",
    )
    how.add_argument("--device", default=None, help="cpu, cuda (default: the best there is)")
    how.add_argument("--seed", type=int, help="(default: 0)")
    seen = ppd.add_argument_group("how it goes")
    seen.add_argument("--check-every", type=int, metavar="N", help="steps between looks at held-out people")
    seen.add_argument("--judged-support", type=int, metavar="N", help="answers they are known by then (default: 4)")
    seen.add_argument("--sample-every", type=int, metavar="N", help="steps between pictures for them (default: none)")
    seen.add_argument("--save-every", type=float, metavar="SECONDS", help="between checkpoints (default: 60)")
    file = ppd.add_argument_group("file")
    file.add_argument("--name", default="people", metavar="NAME", help="of the training and the file (default: people)")
    file.add_argument("-o", "--output", default=None, metavar="FILE", help="default: in PALATE_HOME/ppd")


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
    with ending(folder, arguments.starter) as asked:
        if not arguments.json:
            return _train(arguments, store, folder, asked, _Told(sys.stderr.isatty()))
        with lines(asked) as tell:
            try:
                return _train(arguments, store, folder, asked, tell)
            except PreferenceError as error:
                tell(Failed(" ".join(str(error).split())))
                return 2


def _train(
    arguments: argparse.Namespace, store: Path, folder: Path, asked: Ending, tell: Callable[[Event], None]
) -> int:
    """Do it; `tell` hears of everything, and everything else that is printed is for people."""
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.finetune.checkpoint import begin_training
    from ..adapters.finetune.several import several
    from ..adapters.places import ppd_folder, typed_path
    from ..adapters.ppd.sources import DataSet, StoreAnswers

    settings = _settings(arguments)
    begin_training(folder, arguments.anew, several())
    file = typed_path(arguments.output) if arguments.output else ppd_folder() / f"{folder.name.removeprefix('ppd-')}"
    if arguments.data:
        if arguments.person:
            raise PPDError("Cannot train on people of the store and on a data set; expected --person or --data.")
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
    from ..adapters.ppd.board import open_board
    from ..adapters.ppd.from_answers import Watchers, train_ppd_file
    from .export import silence

    silence()
    first, device = several().first, arguments.device or _device()
    board = open_board(folder) if first and not arguments.prepare_only else None
    if first and board is None and not arguments.prepare_only:
        print("TensorBoard is not installed here: no curves are drawn.", file=sys.stderr)

    def on_step(step: Any) -> None:
        tell(stepped(step))
        if board is not None:
            board.step(step)

    def on_sample(step: int, files: tuple[Path, ...]) -> None:
        tell(Sampled(step, tuple(map(str, files))))
        if board is not None:
            board.samples(step, files)

    watchers = Watchers(lambda done, count: tell(Prepared(done, count)), on_step, on_sample, asked.asked)
    try:
        found = train_ppd_file(
            arguments.model,
            source,
            settings,
            folder,
            file,
            typed_path(arguments.start) if arguments.start else None,
            load_encoder(arguments.encoder, device) if arguments.encoder else None,
            device,
            watchers,
            arguments.prepare_only,
        )
    except CancelledError:
        print("Stopped. The same command goes on from where it was kept.", file=sys.stderr)
        return STOPPED
    finally:
        if board is not None:
            board.close()
    if not first:
        return 0
    print(f"{found.counted.sentence} Held out: {len(found.held_out)} people.", file=sys.stderr)
    if found.trained is None or found.file is None:
        tell(Finished("", f"Prepared {found.counted.sentence}", None, 0))
    else:
        tell(Finished(str(found.file), found.trained.summary, found.trained.better, found.trained.steps))
    return 0


def _settings(arguments: argparse.Namespace) -> PPDSettings:
    from ..adapters.ppd.settings import PPDSettings

    given: dict[str, Any] = {name: getattr(arguments, name) for name in _SETTINGS}
    graphics = str(arguments.device or _device()).startswith("cuda")
    given["precision"] = arguments.precision or ("bfloat16" if graphics else "float32")
    given["gradient_checkpointing"] = graphics if arguments.checkpointing is None else arguments.checkpointing
    return PPDSettings(**{name: value for name, value in given.items() if value is not None})


class _Told:
    """Says how it goes: at every look at the held-out people, and on a terminal each second."""

    def __init__(self, terminal: bool) -> None:
        self._terminal, self._last = terminal, 0.0

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
                line += f"  people it never saw: {100 * look['accuracy']:.0f} % right, surprise {look['log_loss']:.3f}"
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
    print(found.summary)
    if not found.file:
        return
    file = Path(found.file)
    print(f"Saved {file} ({file.stat().st_size / 1e6:.1f} MB).")
    print(f"Pictures for somebody: palate generate PROMPT --ppd {file} --user FILE -o OUT")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
