"""One model and its encoders and PPD, each loaded when it is first needed; heavy libraries are imported then."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...adapters.errors import EncoderError
from ..devices import best_device
from ..users import use_fitting_ppd
from .preflight import fitting_encoders
from .prompts import example_prompts
from .sources import Painter

if TYPE_CHECKING:
    from ...adapters.taste import Word

__all__ = ["Loaded"]

logger = logging.getLogger(__name__)


class Loaded:
    """One model and its encoders, which they share.

    Args:
        model, specs, device, offload: As `real_tools` takes them.
    """

    def __init__(self, model: str, specs: tuple[str, ...], device: str | None, offload: str) -> None:
        self._model, self._specs, self._device, self._offload = model, specs, device, offload
        self._encoders: list[Any] = []
        self._looked_for_ppd = False
        self._lock = threading.Lock()

    def encoder(self) -> Any:
        """The one that learns."""
        return self._all()[0]

    def more_encoders(self) -> Sequence[Any]:
        """Those beside it."""
        return self._all()[1:]

    def _all(self) -> list[Any]:
        from ...adapters.encoders import load_encoder

        with self._lock:
            if not self._encoders:
                _import_tokenizer()
                try:
                    found = [
                        load_encoder(spec, self._device or best_device()) for spec in self._specs or (self._model,)
                    ]
                except EncoderError as error:
                    if self._specs:
                        raise
                    raise EncoderError(
                        f"Cannot learn or steer with {Path(self._model).name!r}: it comes without an encoder; expected "
                        f"one with --encoder. {fitting_encoders(self._model)}"
                    ) from error
                self._encoders = found
            return self._encoders

    def painter(self) -> Painter:
        """The model, with its encoders if it comes with any."""
        encoders: list[Any] = []
        try:
            encoders = self._all()
        except EncoderError:
            if self._specs:
                raise
            # Without an encoder the model still makes pictures to compare; steering then says what is missing.
            logger.warning("%s comes without an encoder; give one with --encoder to learn and to steer", self._model)
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        from ...adapters.steering import Generator

        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        encoder: Any = encoders if len(encoders) > 1 else next(iter(encoders), None)
        return Generator(self._model, self._device or best_device(), encoder, self._offload)

    def words(self) -> Sequence[Word]:
        """The vocabulary that suits the model."""
        from ...adapters.playground import words_known_by

        return words_known_by(self._model)

    def ppd(self, painter: Any) -> Any:
        """The first that fits the model: the playground's own, or the newest of PALATE_HOME."""
        with self._lock:
            if not self._looked_for_ppd:
                self._looked_for_ppd = True
                use_fitting_ppd(painter, self._model)
            return painter.ppd

    def prompts(self) -> tuple[str, ...]:
        """Example prompts that suit the model."""
        if self._model == "playground":
            from ...adapters.playground import playground_folder

            return example_prompts(playground_folder())
        return example_prompts(Path(self._model))


def _import_tokenizer() -> None:
    """Import what puts words to an encoder, before the model's thread imports of the same library.

    transformers loads its parts on first use, and two threads at once find a part missing that is only half there.
    """
    with contextlib.suppress(ImportError):  # an encoder without words needs none
        from transformers import CLIPTokenizer  # noqa: F401
