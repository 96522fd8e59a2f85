"""`palate train lora`: from a person's answers to a LoRA file, by any of the losses."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters.errors import CancelledError, FineTuneError, StoreError
from ..adapters.finetune.protocol import STOPPED, Event, Finished, LeftOut, Prepared, Sampled, Stepped
from .devices import training_device
from .train_options import answered, model_of, pairs_for, require_model, settings_of, whose
from .training import Ending, minutes, run_told, stepped

if TYPE_CHECKING:
    from ..adapters.encoders import ImageTextEncoder
    from ..adapters.finetune.dropping import Dropped
    from ..adapters.finetune.pairs import LabelledPair
    from ..adapters.finetune.personal import PersonalLora
    from ..adapters.finetune.settings import TrainSettings
    from ..adapters.finetune.vectors import Vectors

__all__ = ["train_lora_command"]

_SHOWN = 12  # answers left out whose pictures a panel may show


def train_lora_command(arguments: argparse.Namespace, store: Path) -> int:
    """Train on a person's answers and say how good the LoRA is on answers that it did not see.

    Args:
        arguments: person, model, loss, steps, rank, learning_rate, batch, beta, seed, size, name, output, device,
            encoder, private, anew, json, starter, and those of `train_options.py`; as in `cli.py`.
        store: Folder of the answers.

    Returns:
        0; 2 after a mistake that was told as a line; 130 when it was asked to end and kept its checkpoint.

    Raises:
        FineTuneError: what training needs is not installed, or it can't go on.
    """
    folder = _folder(arguments)
    told = _Told(sys.stderr.isatty())
    return run_told(arguments, folder, lambda asked, tell: _train(arguments, store, folder, asked, tell), told)


def _train(
    arguments: argparse.Namespace, store: Path, folder: Path, asked: Ending, tell: Callable[[Event], None]
) -> int:
    """Do it; `tell` hears of everything, and everything else that is printed is for people."""
    # What can be said at once is said before libraries are imported that take many seconds.
    settings = settings_of(arguments)
    require_model(arguments.model)
    for file in (_file(arguments, folder, settings.full), *([arguments.merge] if arguments.merge else [])):
        _require_place(file)
    known = answered(arguments, store)
    from ..adapters.finetune.checkpoint import begin_training, has_checkpoint
    from ..adapters.finetune.several import several

    arguments.model = model_of(arguments)
    if getattr(arguments, "liked", None):
        _require_peft()  # before minutes of sampling
    among = several()
    begin_training(folder, arguments.anew, among)
    try:
        pairs, vectors = pairs_for(arguments, store, folder, asked.asked, known)
    except CancelledError as error:
        print(error, file=sys.stderr)
        return STOPPED
    _require_peft()
    try:
        found = _made(arguments, pairs, vectors, settings, folder, asked, tell)
    except CancelledError:
        kept = has_checkpoint(folder)
        where = "goes on from the last checkpoint" if kept else "begins again: no step was done yet"
        with contextlib.suppress(OSError):  # perhaps it stopped because nobody reads any more
            print(f"Training stopped. The same command {where}.", file=sys.stderr)
        return STOPPED
    if among.first:
        trained = found.trained
        tell(Finished(str(found.file), trained.summary, trained.better, trained.steps, trained.stopped))
        if arguments.merge:
            with contextlib.suppress(OSError):
                print(f"The model with the LoRA merged in: {arguments.merge}", file=sys.stderr)
    return 0


def _made(
    arguments: argparse.Namespace,
    pairs: list[LabelledPair],
    vectors: Vectors,
    settings: TrainSettings,
    folder: Path,
    asked: Ending,
    tell: Callable[[Event], None],
) -> PersonalLora:
    """Train and save; raises CancelledError when it was asked to end."""
    from ..adapters.finetune.personal import train_personal_lora
    from ..adapters.places import typed_path
    from .terminal import silence

    silence()
    encoder = _encoder(arguments, settings, bool(vectors))
    return train_personal_lora(
        arguments.model,
        pairs,
        settings,
        folder,
        _file(arguments, folder, settings.full),
        "" if arguments.private or whose(arguments) != arguments.person else arguments.person,
        encoder,
        arguments.device or training_device(),
        on_prepared=lambda done, count: tell(Prepared(done, count)),
        on_step=lambda step: tell(stepped(step)),
        cancelled=asked.asked,
        merge=typed_path(arguments.merge) if arguments.merge else None,
        samples=arguments.samples,
        on_sample=lambda step, files: tell(Sampled(step, tuple(map(str, files)))),
        vectors=None if arguments.encoder else vectors or None,  # whoever names an encoder means it
        on_dropped=lambda dropped, listed: tell(_left_out(dropped, listed)),
    )


def _encoder(arguments: argparse.Namespace, settings: TrainSettings, known: bool) -> ImageTextEncoder | None:
    """The encoder that was named, else one where the training can't do without; `known`: the store has vectors."""
    from ..adapters.encoders import load_encoder

    if arguments.encoder:
        return load_encoder(arguments.encoder)
    small = arguments.model == "playground"
    if "rpo" in (settings.loss, *settings.stages):
        return load_encoder("playground" if small else "open_clip:ViT-L-14/openai")
    return load_encoder("playground") if settings.drop_doubted and not known and small else None


def _file(arguments: argparse.Namespace, folder: Path, full: bool) -> Path:
    """Where the LoRA is saved; a folder where it is a whole model."""
    from ..adapters.places import palate_home, typed_path

    if arguments.output:
        path = typed_path(arguments.output)
        return path / f"{folder.name}.safetensors" if path.is_dir() and not full else path
    return palate_home() / "models" / folder.name if full else palate_home() / "loras" / f"{folder.name}.safetensors"


def _require_place(file: str | Path) -> None:
    """Refuse a file that can't be saved before hours of training rather than after."""
    from ..adapters.places import typed_path

    path = typed_path(file).absolute()
    place = next(
        (parent for parent in path.parents if os.path.exists(parent)), path
    )  # a root, a drive that isn't there
    is_folder = os.path.isdir(place)
    if place == path or not (is_folder and os.access(place, os.W_OK | os.X_OK)):
        found = "nothing can be written there" if is_folder else f"{place} is no folder"
        raise StoreError(
            f"Cannot save {path.name!r} in {path.parent}: {found}; expected a folder that can be written. Choose "
            "another."
        )


def _left_out(dropped: Dropped, listed: Path) -> LeftOut:
    pairs = tuple((pair.chosen.stem, pair.rejected.stem) for pair in dropped.pairs[:_SHOWN])
    return LeftOut(len(dropped), dropped.of, dropped.said, str(listed), pairs)


def _folder(arguments: argparse.Namespace) -> Path:
    """Where a training of this name keeps where it stands."""
    from ..adapters.places import palate_home, safe_name

    return palate_home() / "training" / safe_name(arguments.name or f"{whose(arguments)} {arguments.loss}")


class _Told:
    """Says how the training goes: at every look at the held-out pairs, and on a terminal each second."""

    def __init__(self, terminal: bool) -> None:
        self._terminal, self._last, self._steps = terminal, 0.0, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            if not self._steps and event.step > 1:
                print(f"{self._over}Going on after step {event.step - 1} of {event.steps}.", file=sys.stderr)
            self._steps += 1
            self._step(event)
        elif isinstance(event, Prepared):
            if self._terminal:
                print(f"{self._over}pictures read: {event.done} of {event.all}", end="", file=sys.stderr, flush=True)
        elif isinstance(event, Sampled):
            print(f"{self._over}after {event.step} steps: {', '.join(event.files)}", file=sys.stderr)
        elif isinstance(event, LeftOut):
            listed = f" Which: {event.file}" if event.count else ""
            print(f"{event.text}{listed}", file=sys.stderr)
        elif isinstance(event, Finished):
            if not self._steps:
                print(f"{self._over}It had come to its end before: no step was left to do.", file=sys.stderr)
            _finished(event)

    @property
    def _over(self) -> str:
        """Goes before a line, and wipes out on a terminal what is to be written over."""
        return "\r\033[K" if self._terminal else ""

    def _step(self, step: Stepped) -> None:
        look = step.judgement
        now = time.monotonic()
        if look is None and not (self._terminal and now - self._last >= 1.0):
            return
        self._last = now
        loss = float("nan") if step.loss is None else step.loss
        line = f"step {step.step}/{step.steps}  loss {loss:.4g}  {minutes(step.seconds_left or 0.0)} left"
        if look is None:
            print(f"{self._over}{line}", end="", file=sys.stderr, flush=True)
            return
        judged = f"  unseen pairs: {100 * look['accuracy']:.0f} % right, surprise {look['log_loss']:.3f} (a coin 0.693)"
        print(f"{self._over}{line}{judged}", file=sys.stderr, flush=True)


def _finished(found: Finished) -> None:
    file = Path(found.file)
    print(found.summary)
    if found.stopped:
        print(f"It ended early: {found.stopped}.")
    if file.is_dir():
        print(f"Saved {file}, a whole model.")
        return
    print(f"Saved {file} ({file.stat().st_size / 1e6:.1f} MB).")
    print("ComfyUI: put it into models/loras, and use Load LoRA. A1111 and Forge: models/Lora. diffusers:")
    print(f"    pipeline.load_lora_weights({found.file!r})")


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except (ImportError, RuntimeError) as error:  # the latter from builds of PyTorch that were mixed
        if getattr(error, "name", "") != "peft":
            raise FineTuneError(
                f"Cannot train: peft is installed here and can't be loaded ({error}). `python install.py train` makes "
                "an environment in which it can."
            ) from error
        raise FineTuneError(
            "Cannot train: peft is not installed here. `python install.py train` makes an environment that has it."
        ) from error
