"""From one person's answers to a LoRA file: everything that `palate train lora` does."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..encoders import ImageTextEncoder
from ..errors import CancelledError
from ..files.lora_file import save_lora
from .checkpoint import only_training
from .doubts import doubts_of
from .dropping import Dropped, decided
from .gradients import KnownOfPairs
from .identity import identity_of, prepared_for
from .loop import train_lora
from .losses import pair_embedding
from .memory import denoiser_of, require_memory, side_of, text_of
from .merging import merge_lora, require_new, save_checkpoint
from .opened import Opened, open_model
from .pairs import LabelledPair, split_pairs
from .samples import prompts_of
from .settings import TrainSettings
from .several import Several, several
from .shelf import Shelf
from .told import Trained, TrainingStep
from .vectors import Vectors, encoded_vectors
from .weights import load_state

__all__ = ["PersonalLora", "train_personal_lora"]


@dataclass(frozen=True, eq=False)
class PersonalLora:
    """A LoRA on disk, and how it was found to be.

    Attributes:
        file: Of the LoRA.
        trained: How the training went.
        pairs: How many it was trained on. held_out: How many it was judged by.
        dropped: How many were left out as doubted.
    """

    file: Path
    trained: Trained
    pairs: int
    held_out: int
    dropped: int = 0


def train_personal_lora(
    model: str | PathLike[str],
    pairs: Sequence[LabelledPair],
    settings: TrainSettings,
    folder: Path,
    file: Path,
    person: str = "",
    encoder: ImageTextEncoder | None = None,
    device: str | torch.device = "cpu",
    on_prepared: Callable[[int, int], None] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    merge: Path | None = None,
    samples: int = 0,
    on_sample: Callable[[int, tuple[Path, ...]], None] | None = None,
    vectors: Vectors | None = None,
    on_dropped: Callable[[Dropped, Path], None] | None = None,
) -> PersonalLora:
    """Train a LoRA on pairs and save it; or all weights, where the settings say so.

    Args:
        model: As `open_model` takes it: "playground", a diffusers folder, a single file of SD1.5 or SDXL, `JointFiles`.
        pairs: All of them; some are held out to judge by.
        settings: What is None is chosen.
        folder: Of the checkpoint. A stopped training of the same model, settings and pairs goes on there; one that came
            to its end makes room for another.
        file: To save to; with full fine-tuning a checkpoint, or a folder where the model is one.
        person: For the file's metadata; "" leaves it out.
        encoder: For `rpo`'s distances, with both towers; for `drop_doubted`; and for `cdpo`, which with it doubts each
            answer as far as a taste that learned all others does, instead of all alike.
        device: Where to train; on "cuda" in bfloat16. One of several processes has its own.
        on_prepared: Called with (pictures encoded, all).
        on_step, cancelled: See `train_lora`.
        merge: Where to write the model with the LoRA merged in, too; None: nowhere.
        samples: How many pictures to paint before and after, of different prompts, held-out ones first.
        on_sample: Called with the steps done and the pictures' files.
        vectors: Of the pictures, for `drop_doubted`; None has the encoder make them.
        on_dropped: Called before anything is loaded with the answers that are left out, and the file that lists them.

    Raises:
        CancelledError, FineTuneError, ImageError, NotEnoughAnswersError, SteeringError, StoreError: see `prepare`,
            `train_lora`, `save_lora`, `require_memory`, `merge_lora`, `decided`.
    """
    among = several()
    device = torch.device(device) if among.device is None else among.device
    settings = _on(device, settings)
    require_new(model, *([file] if settings.full else []), *([] if merge is None else [merge]))
    answers = _answers(pairs, model, settings, folder, encoder, vectors, cancelled, among)
    kept, dropped = answers.kept, answers.dropped
    if dropped is not None and among.first and on_dropped is not None:
        on_dropped(dropped, dropped.write(folder))
    room = _room(model, settings.settled(len(kept), among.count), device)
    at_once = among.least(room)  # all have as many, or they would wait for each other's parts
    if among.any(cancelled is not None and cancelled()):  # a large model takes minutes to load
        raise CancelledError("Stopped before the training began.")
    opened = open_model(model, settings, device)
    watching = _Watching(on_prepared, on_step, cancelled, samples if among.first else 0, on_sample)
    with _shelf(folder, model, settings.precision or "", among) as shelf:
        about = identity_of(model, kept, answers.held)
        trained = _trained(opened, answers, settings, folder, about, encoder, watching, shelf, among, at_once)
        saved = file
        if among.first:
            said = _about(trained, person, len(pairs), opened.name, dropped)
            family = opened.family
            del opened  # merging loads a diffusers folder once more
            saved = _saved(model, trained, file, family, said, merge)
        shelf.forget()
    return PersonalLora(saved, trained, len(kept), len(answers.held), 0 if dropped is None else len(dropped))


@dataclass(frozen=True, eq=False)
class _Answers:
    """Pairs to train on and to judge by, what was left out of them, and vectors of the pictures, by the encoder."""

    kept: Sequence[LabelledPair]
    held: Sequence[LabelledPair]
    dropped: Dropped | None
    seen: Vectors


@dataclass(frozen=True)
class _Watching:
    """Who is told how it goes; see `train_personal_lora`."""

    on_prepared: Callable[[int, int], None] | None
    on_step: Callable[[TrainingStep], None] | None
    cancelled: Callable[[], bool] | None
    samples: int
    on_sample: Callable[[int, tuple[Path, ...]], None] | None


def _answers(
    pairs: Sequence[LabelledPair],
    model: str | PathLike[str],
    settings: TrainSettings,
    folder: Path,
    encoder: ImageTextEncoder | None,
    vectors: Vectors | None,
    cancelled: Callable[[], bool] | None,
    among: Several,
) -> _Answers:
    """Hold some pairs out, and leave out those that are doubted."""
    kept, held = split_pairs(pairs)
    seen: Vectors = {}

    def known_vectors() -> Vectors:
        nonlocal seen
        if vectors is None and encoder is not None:
            seen = encoded_vectors(kept, encoder, cancelled)
        return vectors or seen

    whole = f"{identity_of(model, kept, held)}/{settings.drop_doubted}"
    dropped = decided(kept, known_vectors, settings.drop_doubted, folder, whole, among)
    gone = set() if dropped is None else set(dropped.rows)
    return _Answers([pair for row, pair in enumerate(kept) if row not in gone], held, dropped, seen)


def _trained(
    opened: Opened,
    answers: _Answers,
    settings: TrainSettings,
    folder: Path,
    about: str,
    encoder: ImageTextEncoder | None,
    watching: _Watching,
    shelf: Shelf,
    among: Several,
    at_once: int | None,
) -> Trained:
    """Make pairs ready, train, and paint before and after."""
    kept, held, cancelled, on_sample = answers.kept, answers.held, watching.cancelled, watching.on_sample
    data = opened.prepared(kept, watching.on_prepared, cancelled, settings.flip, shelf)
    judged = opened.prepared(held, None, cancelled, False, shelf) if held else None
    if not among.local:
        among.wait()  # all is on the shelf now
    settings = settings.suited(opened.config)
    prompts = prompts_of(held, kept, watching.samples)
    painter = opened.painter(prompts, settings.seed, folder)
    denoiser, parameters = opened.denoiser(settings, len(kept))
    known = _known(kept, encoder, {settings.loss, *settings.stages}, answers.seen)
    if known.embeddings is not None and encoder is not None:
        about += f"/{encoder.identity}"
    if prompts:
        painter.paint(0, on_sample, again=False)
    trained = train_lora(
        denoiser, parameters, data, judged, settings, folder, known, watching.on_step, cancelled, about, among, at_once
    )
    if prompts:
        load_state(denoiser.unet, trained.state, settings.full)
        painter.paint(trained.steps, on_sample)
    return trained


def _saved(
    model: str | PathLike[str], trained: Trained, file: Path, family: str, about: dict[str, str], merge: Path | None
) -> Path:
    if trained.settings.full:
        return save_checkpoint(model, trained.state, file)
    saved = save_lora(trained.state, file, family, about)
    if merge is not None:
        merge_lora(model, saved, merge)
    return saved


@contextlib.contextmanager
def _shelf(folder: Path, model: str | PathLike[str], precision: str, among: Several) -> Iterator[Shelf]:
    """Where latents and prompts lie while it trains: one for each machine, whose first process fills it for all.

    The others come once it is full, find everything there and add nothing.
    """
    place = folder / "prepared" / str(among.index - among.local)
    about = prepared_for(model, precision)  # the text side computes in that precision
    if among.local:
        among.wait()
    alone = contextlib.nullcontext() if among.local else only_training(place)
    with alone, Shelf(place, about) as shelf:
        yield shelf


def _on(device: torch.device, settings: TrainSettings) -> TrainSettings:
    """What is None of the settings that hang on where it is trained."""
    graphics = device.type == "cuda"
    return replace(
        settings,
        precision=settings.precision or ("bfloat16" if graphics else "float32"),
        checkpointing=graphics if settings.checkpointing is None else settings.checkpointing,
    )


def _room(model: str | PathLike[str], settings: TrainSettings, device: torch.device) -> int | None:
    """How many pairs memory holds at once; refuse what it won't hold before the model is loaded."""
    found = denoiser_of(model)
    if found is None:
        return None
    config, others = found
    others = others if device.type == "cpu" else 0
    return require_memory(config, settings, settings.size or side_of(config), device, others, text_of(model))


def _known(
    pairs: Sequence[LabelledPair],
    encoder: ImageTextEncoder | None,
    losses: Collection[str],
    seen: Vectors | None = None,
) -> KnownOfPairs:
    """What these losses want to know of the pairs: (N, 2 D) for `rpo`, (N, D) without a text side, (N,) for `cdpo`.

    Pictures that the encoder has `seen` aren't encoded again.
    """
    if encoder is None or not {"rpo", "cdpo"} & set(losses):
        return KnownOfPairs()
    found = seen or encoded_vectors(pairs, encoder)
    chosen, rejected = (
        torch.stack([torch.from_numpy(found[getattr(pair, side)]) for pair in pairs]) for side in ("chosen", "rejected")
    )
    doubts = doubts_of(chosen, rejected) if "cdpo" in losses else None
    if "rpo" in losses and encoder.has_text:
        prompts = encoder.encode_texts([pair.prompt for pair in pairs])
        chosen, rejected = pair_embedding(chosen, prompts), pair_embedding(rejected, prompts)
    return KnownOfPairs((chosen, rejected), doubts)


def _about(trained: Trained, person: str, answers: int, model: str, dropped: Dropped | None) -> dict[str, str]:
    settings: dict[str, Any] = vars(trained.settings)
    found = {f"palate.{name}": str(value) for name, value in settings.items() if value not in (None, ())}
    if trained.best is not None:
        found["palate.held_out_accuracy"] = f"{trained.best.accuracy:.4f}"
        found["palate.held_out_log_loss"] = f"{trained.best.log_loss:.4f}"
    found |= {"palate.pairs": str(answers), "palate.model": model, "palate.person": person}
    if dropped is not None:
        found |= dropped.about
    found["modelspec.date"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    found["modelspec.description"] = trained.summary
    return found
