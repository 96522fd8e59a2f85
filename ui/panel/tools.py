"""The functions behind the panel, in one place, so that tests can put small fakes in their stead."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .easel import Facts
from .loaded import Loaded
from .sources import Painter

if TYPE_CHECKING:
    from ...adapters.finetune.protocol import Finished
    from ...adapters.taste import Word

__all__ = ["Tools", "real_tools"]


@dataclass(frozen=True)
class Tools:
    """What a studio calls.

    Attributes:
        painter: Loads the model.
        encoder: Loads the encoder.
        prompts: Gives example prompts that suit the model.
        vectors: (store, encoder, image ids, on_batch) -> (D,) by image id, for those that can be read.
        fit: (store, encoder, person) -> Taste.
        report: (store, encoder, person) -> LearningReport, on pairs that were drawn by chance.
        words: Gives the vocabulary that tastes are put into words with.
        choose: (fitted model, (M, D) vectors) -> the two worth asking about.
        choose_set: (fitted model, (M, D) vectors, size, diversity in [0, 1]) -> the set worth asking about.
        repeat: (store, person) -> an answer whose pair is worth asking again now, or None.
        second_look: (store, encoder, person, most, half_life=None) -> answers that look like mistakes.
        save: (taste, path) -> path.
        load: (path, encoder) -> Taste.
        moved: (painter, prompt, taste, strength, settings) -> how far the prompt moves, degrees; None when unknown.
        facts: painter -> what the model is and is sampled with.
        check_embedding_name: Raises where no tool could load an embedding of this name.
        embed: (painter, tastes, prompts, on_step, cancelled) -> PortableEmbedding.
        save_embedding: (embedding, path) -> path.
        ppd: painter -> the PPD that its model works with, put to use; None when there is none.
        user: (store, encoder, person, ppd) -> User. blend_users: (users, weights) -> User.
        more_encoders: Encoders beside the one that learns, for a model with two text encoders.
        model: What it is that paints, as it was named. device: Where it runs, None for the best there is.
        trainer: Gives the Python that trains; raises where there is none.
        train: (what follows `palate train`, on_event, cancelled) -> Finished.
    """

    painter: Callable[[], Painter]
    encoder: Callable[[], Any]
    prompts: Callable[[], tuple[str, ...]]
    vectors: Callable[..., Any]
    fit: Callable[[Any, Any, str], Any]
    report: Callable[[Any, Any, str], Any]
    words: Callable[[], Sequence[Word]]
    choose: Callable[[Any, Any], tuple[int, int]]
    choose_set: Callable[[Any, Any, int, float], Sequence[int]]
    repeat: Callable[[Any, str], Any]
    second_look: Callable[..., Any]
    save: Callable[[Any, Path], Path]
    load: Callable[[Path, Any], Any]
    moved: Callable[[Any, str, Any, float, Any], float | None]
    facts: Callable[[Any], Facts]
    more_encoders: Callable[[], Sequence[Any]]
    check_embedding_name: Callable[[str], object]
    embed: Callable[..., Any]
    save_embedding: Callable[[Any, Path], Path]
    ppd: Callable[[Any], Any]
    user: Callable[[Any, Any, str, Any], Any]
    blend_users: Callable[[Any, Any], Any]
    model: str
    device: str | None
    trainer: Callable[[], Path]
    train: Callable[..., Finished]


def real_tools(
    model: str = "playground",
    encoders: str | Sequence[str] | None = None,
    device: str | None = None,
    offload: str = "auto",
) -> Tools:
    """Return the tools that do the real work; heavy libraries are imported when first needed.

    Args:
        model: "playground", a diffusers pipeline folder, a single-file checkpoint, or a name on the Hugging Face hub.
        encoders: What `load_encoder` takes, or several of these; the first one learns. None: what comes with the model.
        device: Where model and encoder run; None: the best device of this machine.
        offload: What of the model waits in the computer's memory until it is needed; "auto": what the GPU's size asks.
    """
    # Before the libraries are imported: their progress bars would run across the panel's one line in the terminal.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    from ...adapters.encoders import encode_readable
    from ...adapters.files import load_taste, save_taste
    from ...adapters.finetune.process import python_for_training, run_training
    from ...adapters.ppd import blend_users, encode_user
    from ...adapters.taste import choose_pair, fit_taste, learned_report, pair_to_repeat, second_look
    from ...adapters.taste.report import UNCOUNTED

    specs = (encoders,) if isinstance(encoders, str) else tuple(encoders or ())
    loaded = Loaded(model, specs, device, offload)
    return Tools(
        painter=loaded.painter,
        encoder=loaded.encoder,
        prompts=loaded.prompts,
        vectors=encode_readable,
        fit=fit_taste,
        report=learned_report,
        words=loaded.words,
        choose=choose_pair,
        choose_set=_choose_set,
        repeat=functools.partial(pair_to_repeat, uncounted=UNCOUNTED),
        second_look=second_look,
        save=save_taste,
        load=load_taste,
        moved=_moved,
        facts=_facts,
        more_encoders=loaded.more_encoders,
        check_embedding_name=_check_embedding_name,
        embed=_embed,
        save_embedding=_save_embedding,
        ppd=loaded.ppd,
        user=encode_user,
        blend_users=blend_users,
        model=model,
        device=device,
        trainer=python_for_training,
        train=run_training,
    )


def _choose_set(model: Any, vectors: Any, size: int, diversity: float) -> Sequence[int]:
    from ...adapters.taste import choose_set

    return choose_set(model, vectors, size, diversity=diversity)


def _moved(painter: Any, prompt: str, taste: Any, strength: float, settings: Any) -> float | None:
    return float(painter.movement(prompt, taste, strength, settings).degrees) if strength > 0 else 0.0


def _facts(painter: Any) -> Facts:
    from ...adapters.steering import METHODS

    sdxl = getattr(painter, "family", "sd15") == "sdxl"
    methods = [name for name in METHODS if sdxl or name != "pooled"]  # SD1.5 takes no pooled vector
    own = painter.defaults
    return Facts(painter.name, ("auto", *methods), own.steps, own.guidance, own.size, own.size)


def _embed(painter: Any, tastes: Any, prompts: Sequence[str], on_step: Any, cancelled: Callable[[], bool]) -> Any:
    from ...adapters.steering.inversion import towers_of, train_embedding

    return train_embedding(towers_of(painter.conditioner), tastes, prompts, on_step=on_step, cancelled=cancelled)


def _save_embedding(embedding: Any, path: Path) -> Path:
    from ...adapters.files import save_embedding

    return save_embedding(embedding, path)


def _check_embedding_name(name: str) -> object:
    from ...adapters.files import check_embedding_name

    return check_embedding_name(name)
