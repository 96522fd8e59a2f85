"""From the answers of many people to a PPD's file: everything that `palate train ppd` does."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..encoders import ImageTextEncoder, load_encoder
from ..errors import PPDError
from ..files.ppd_file import save_ppd
from ..finetune.checkpoint import only_training, read_checkpoint
from ..finetune.several import several
from ..finetune.told import TrainingStep
from ..places import typed_path
from .base import Base, load_base
from .beginning import KnownBy, begun
from .data import PreparedPPD, split_people
from .describing import Described, describe_people, described
from .known import DescribedPeople, NamedPeople, split_pairs
from .memory import require_room
from .model import PPD
from .preparing import Counted, known_as, prepare_people
from .sampling import PeopleSamples
from .settings import PPDSettings
from .sources import AnswerSource
from .tables import facts_in, prompts_in
from .trained import TrainedPPD
from .training import train_ppd

__all__ = ["PPDFromAnswers", "Watchers", "train_ppd_file"]

Pairs = PreparedPPD | DescribedPeople | NamedPeople
ENCODER = "open_clip:ViT-L-14/openai"  # where the model doesn't come with one


@dataclass(frozen=True, eq=False)
class Watchers:
    """Who is told how it goes.

    Attributes:
        on_prepared: Called with (answers read, all; 0 where that is not known).
        on_described: Called with (profiles there are, all), where people are described.
        on_step: After each step. on_sample: With the step and the pictures' files.
        cancelled: Asked often; what was done is kept.
    """

    on_prepared: Callable[[int, int], None] | None = None
    on_step: Callable[[TrainingStep], None] | None = None
    on_sample: Callable[[int, tuple[Path, ...]], None] | None = None
    cancelled: Callable[[], bool] | None = None
    on_described: Callable[[int, int], None] | None = None


@dataclass(frozen=True, eq=False)
class PPDFromAnswers:
    """A PPD on disk, and how it was found to be.

    Attributes:
        file: Of the PPD; None where the answers were only prepared.
        trained: How the training went; None likewise.
        counted: What became of the answers.
        held_out: Who was never trained on.
    """

    file: Path | None
    trained: TrainedPPD | None
    counted: Counted
    held_out: tuple[str, ...]


def train_ppd_file(
    model: str | Path,
    source: AnswerSource,
    settings: PPDSettings,
    folder: Path,
    file: Path,
    start: Path | None = None,
    encoder: ImageTextEncoder | None = None,
    device: str | torch.device = "cpu",
    watchers: Watchers | None = None,
    prepare_only: bool = False,
    known: KnownBy | None = None,
) -> PPDFromAnswers:
    """Prepare answers, train a PPD on most of the people, judge it by the others, and save it.

    Args:
        model: "playground", a single file of SD1.5 or SDXL, or a diffusers folder of those, of Stable Cascade, SD3 or
            Flux; see `load_base`.
        source: The answers.
        settings: What is None is chosen.
        folder: Of the checkpoint, of what is prepared, and of pictures and curves. A stopped training goes on there.
        file: To save to.
        start: A PPD's file to train further, or an IP-Adapter's, whose attention is taken to begin with; see `begun`.
        encoder: Of the image vectors; None is the one that came with the model, or OpenAI's ViT-L/14.
        device: Where to train. One of several processes has its own.
        watchers: Who is told.
        prepare_only: Prepare the answers and end there, as it should be done before several processes train on much.
        known: What people are known by; None: the vectors of their pairs.

    Raises:
        CancelledError, EncoderError, FileFormatError, FineTuneError, PPDError, SteeringError, StoreError: see
            `prepare_people`, `describe_people`, `begun`, `train_ppd`, `require_room`, `load_base`, `save_ppd`.
    """
    device = several().device or torch.device(device)
    require_room(model, settings, device)
    base = load_base(model, getattr(torch, settings.precision))
    encoder = encoder or load_encoder(base.clip or ENCODER, device)
    asked = _Asked(model, base, source, settings, folder, encoder, device, watchers or Watchers(), known or KnownBy())
    data, counted, told = _prepared_by_the_first(asked)
    training, judged, held = _parts(data, settings, folder, asked.known, told)
    if prepare_only:
        return PPDFromAnswers(None, None, counted, held)
    ppd = begun(base, encoder, start, settings.seed, asked.known, data.names, told)
    trained = _trained(asked, ppd, training, judged, _about(asked, start, told))
    if several().first:
        ppd.created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        file = save_ppd(ppd, file)
    return PPDFromAnswers(file, trained, counted, held)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What `train_ppd_file` was asked for, settled."""

    model: str | Path
    base: Base
    source: AnswerSource
    settings: PPDSettings
    folder: Path
    encoder: ImageTextEncoder
    device: torch.device
    watchers: Watchers
    known: KnownBy


def _trained(asked: _Asked, ppd: PPD, training: Pairs, judged: Pairs | None, about: str) -> TrainedPPD:
    settings, folder, watchers, among = asked.settings, asked.folder, asked.watchers, several()
    unet, samples = asked.base.denoiser.to(asked.device), None
    if settings.sample_every and judged is not None and among.first:
        prompts = prompts_in(folder / "pairs")
        samples = PeopleSamples(asked.base, ppd, judged, settings, folder, prompts, watchers.on_sample)
    listening = [watch for watch in (watchers.on_step, samples) if watch is not None and among.first]

    def tell(step: TrainingStep) -> None:
        for watch in listening:
            watch(step)

    stopped = watchers.cancelled
    return train_ppd(ppd, unet, asked.base.noising, training, judged, settings, folder, tell, stopped, about, among)


def _prepared_by_the_first(asked: _Asked) -> tuple[PreparedPPD, Counted, Described | None]:
    """The first process prepares; the others open what it left."""
    among, found, told = several(), None, None
    for turn in (True, False):
        if among.first is turn:
            with only_training(asked.folder) if among.first else contextlib.nullcontext():
                found = _prepared(asked)
                if asked.known.kind == "vlm":
                    told = _described(asked, found[0])
        among.told(None)
    assert found is not None
    return *found, told


def _prepared(asked: _Asked) -> tuple[PreparedPPD, Counted]:
    source, model, folder, watchers = asked.source, str(asked.model), asked.folder, asked.watchers
    readers = asked.base.readers(asked.encoder, asked.settings.size or asked.base.size, asked.device)
    _require_same(folder, known_as(source, readers, model))
    found = prepare_people(source, readers, folder / "pairs", model, watchers.on_prepared, watchers.cancelled)
    asked.base.has_read()
    return found


def _described(asked: _Asked, data: PreparedPPD) -> Described:
    prompts, place, watchers = prompts_in(asked.folder / "pairs"), asked.folder / "profiles", asked.watchers
    describer = asked.known.describer
    return describe_people(asked.source, data, prompts, describer, place, watchers.on_described, watchers.cancelled)


def _parts(
    data: PreparedPPD, settings: PPDSettings, folder: Path, known: KnownBy, told: Described | None
) -> tuple[Pairs, Pairs | None, tuple[str, ...]]:
    """What is trained on, what it is judged by, and who is held out: nobody where people are known by name."""
    if known.kind == "learned":
        return *split_pairs(data, settings.held_out, settings.seed), ()
    kept, held = split_people(data.names, settings.held_out, settings.seed)
    training, judged = data.of(kept), data.of(held) if held else None
    if told is None:
        return training, judged, tuple(held)
    prompts, place = prompts_in(folder / "pairs"), folder / "profiles"
    trained = described(training, prompts, known.describer, place, told)
    looked_at = None if judged is None else described(judged, prompts, known.describer, place, told)
    return trained, looked_at, tuple(held)


def _require_same(folder: Path, known: dict[str, Any]) -> None:
    """Refuse to put other pairs in the place of those that a stopped training is yet to go on with."""
    found = facts_in(folder / "pairs")
    if found is None or found.get("about") == known:
        return
    stopped = read_checkpoint(folder)
    if stopped is not None and not stopped.get("ended"):
        raise PPDError(
            f"Cannot train in {folder}: a training was stopped there after {stopped['step']} steps, and since then the "
            "answers, the model, the encoder or the size have changed. Choose another name, or begin anew (--anew)."
        )


def _about(asked: _Asked, start: Path | None, told: Described | None) -> str:
    """What a stopped training is known again by."""
    started = "" if start is None else [typed_path(start).name, typed_path(start).stat().st_size]
    facts: list[Any] = [str(asked.model), asked.source.identity, asked.encoder.identity, started]
    if asked.known.kind != "pairs":
        facts += [asked.known.kind, told and [told.identity, told.length, asked.known.describer.most]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
