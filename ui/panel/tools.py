"""The functions behind the panel, in one place, so that tests can put small fakes in their stead."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...adapters.errors import EncoderError
from .prompts import example_prompts
from .sources import Painter

__all__ = ["Tools", "best_device", "real_tools"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What a studio calls.

    Attributes:
        painter: Loads the model.
        encoder: Loads the encoder.
        prompts: Gives example prompts that suit the model.
        vectors: (store, encoder, image ids) -> (D,) by image id, for those that can be read.
        fit: (store, encoder, person) -> Taste.
        report: (store, encoder, person) -> LearningReport.
        choose: (fitted model, (M, D) vectors) -> the two worth asking about.
        save: (taste, path) -> path.
        load: (path, encoder) -> Taste.
        moved: (painter, prompt, taste, strength, settings) -> how far the prompt moves, degrees; None when unknown.
    """

    painter: Callable[[], Painter]
    encoder: Callable[[], Any]
    prompts: Callable[[], tuple[str, ...]]
    vectors: Callable[[Any, Any, Any], Any]
    fit: Callable[[Any, Any, str], Any]
    report: Callable[[Any, Any, str], Any]
    choose: Callable[[Any, Any], tuple[int, int]]
    save: Callable[[Any, Path], Path]
    load: Callable[[Path, Any], Any]
    moved: Callable[[Any, str, Any, float, Any], float | None]


def best_device() -> str:
    """Return "cuda", "mps" or "cpu", the first that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def real_tools(model: str = "playground", encoder: str | None = None, device: str | None = None) -> Tools:
    """Return the tools that do the real work; heavy libraries are imported when first needed.

    Args:
        model: "playground", a diffusers pipeline folder, or a name on the Hugging Face hub.
        encoder: What `load_encoder` takes; None: the one that comes with the model.
        device: Where model and encoder run; None: the best device of this machine.
    """
    # Before the libraries are imported: their progress bars would run across the panel's one line in the terminal.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    from ...adapters.encoders import encode_readable
    from ...adapters.files import load_taste, save_taste
    from ...adapters.taste import choose_pair, fit_taste, learned_report

    loaded = _Loaded(model, encoder, device)
    return Tools(
        painter=loaded.painter,
        encoder=loaded.encoder,
        prompts=loaded.prompts,
        vectors=encode_readable,
        fit=fit_taste,
        report=learned_report,
        choose=choose_pair,
        save=save_taste,
        load=load_taste,
        moved=_moved,
    )


class _Loaded:
    """One model and one encoder, which they share."""

    def __init__(self, model: str, encoder: str | None, device: str | None) -> None:
        self._model, self._encoder_spec, self._device = model, encoder, device
        self._encoder: Any = None
        self._lock = threading.Lock()

    def encoder(self) -> Any:
        from ...adapters.encoders import load_encoder

        with self._lock:
            if self._encoder is None:
                self._encoder = load_encoder(self._encoder_spec or self._model, self._device or best_device())
            return self._encoder

    def painter(self) -> Painter:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        from ...adapters.steering import Generator

        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        encoder = None
        try:
            encoder = self.encoder()
        except EncoderError:
            if self._encoder_spec is not None:
                raise
            # Without an encoder the model still makes pictures to compare; steering then says what is missing.
            logger.warning("%s comes without an encoder; give one with --encoder to learn and to steer", self._model)
        return Generator(self._model, self._device or best_device(), encoder)

    def prompts(self) -> tuple[str, ...]:
        if self._model == "playground":
            from ...adapters.playground import playground_folder

            return example_prompts(playground_folder())
        return example_prompts(Path(self._model))


def _moved(painter: Any, prompt: str, taste: Any, strength: float, settings: Any) -> float | None:
    return float(painter.movement(prompt, taste, strength, settings).degrees) if strength > 0 else 0.0
