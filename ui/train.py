"""`palate train lora`: from a person's answers to a LoRA file, by any of the losses."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import CancelledError, FineTuneError

if TYPE_CHECKING:
    from ..adapters.finetune.told import TrainingStep

__all__ = ["train_lora_command"]


def train_lora_command(arguments: argparse.Namespace, store: Path) -> int:
    """Train on a person's answers and say how good the LoRA is on answers that it did not see.

    Args:
        arguments: person, model, loss, steps, rank, learning_rate, batch, beta, seed, size, name, output, device,
            encoder, private; as in `cli.py`.
        store: Folder of the answers.

    Raises:
        FineTuneError: what training needs is not installed, or it can't go on.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise FineTuneError(
            "Cannot train: peft is not installed here. `python install.py train` makes an environment that has it."
        ) from error
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.encoders import load_encoder
    from ..adapters.finetune.pairs import pairs_of
    from ..adapters.finetune.personal import train_personal_lora
    from ..adapters.places import palate_home, safe_name, typed_path
    from .export import silence

    silence()
    settings = _settings(arguments)
    with PreferenceStore.existing(store) as answers:
        pairs = pairs_of(answers, arguments.person)
    name = safe_name(arguments.name or f"{arguments.person} {settings.loss}")
    file = typed_path(arguments.output) if arguments.output else palate_home() / "loras" / f"{name}.safetensors"
    encoder = load_encoder(arguments.encoder) if arguments.encoder else None
    if settings.loss == "rpo" and encoder is None:
        encoder = load_encoder("playground" if arguments.model == "playground" else "open_clip:ViT-L-14/openai")
    print(f"{len(pairs)} comparisons of {arguments.person!r}, loss {settings.loss}.", file=sys.stderr)
    try:
        found = train_personal_lora(
            arguments.model,
            pairs,
            settings,
            palate_home() / "training" / name,
            file,
            "" if arguments.private else arguments.person,
            encoder,
            arguments.device or _device(),
            on_step=_Told(sys.stderr.isatty()),
        )
    except KeyboardInterrupt:
        raise CancelledError("Training stopped. The same command goes on from the last checkpoint.") from None
    print(found.trained.summary)
    if found.trained.stopped:
        print(f"It ended early: {found.trained.stopped}.")
    print(f"Saved {found.file} ({found.file.stat().st_size / 1e6:.1f} MB).")
    print("ComfyUI: put it into models/loras, and use Load LoRA. A1111 and Forge: models/Lora. diffusers:")
    print(f"    pipeline.load_lora_weights({str(found.file)!r})")
    return 0


class _Told:
    """Prints how the training goes: at every look at the held-out pairs, and on a terminal each second."""

    def __init__(self, terminal: bool) -> None:
        self._terminal, self._last = terminal, 0.0

    def __call__(self, step: TrainingStep) -> None:
        look = step.judgement
        now = time.monotonic()
        if look is None and not (self._terminal and now - self._last >= 1.0):
            return
        self._last = now
        line = f"step {step.step}/{step.steps}  loss {step.loss:.4f}  {_minutes(step.seconds_left)} left"
        if look is None:
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
            return
        judged = f"  unseen pairs: {100 * look.accuracy:.0f} % right, surprise {look.log_loss:.3f} (a coin 0.693)"
        print(f"{chr(13) if self._terminal else ''}{line}{judged}", file=sys.stderr, flush=True)


def _settings(arguments: argparse.Namespace) -> Any:
    from ..adapters.finetune.settings import TrainSettings

    names = ("loss", "steps", "rank", "learning_rate", "batch", "accumulate", "beta", "seed", "size")
    given = {name: getattr(arguments, name) for name in names}
    return TrainSettings(**{name: value for name, value in given.items() if value is not None})


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
