"""One press of Generate: what it takes from the accordion, until its last picture is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...adapters.errors import PreferenceError
from ...adapters.files import load_taste
from ...adapters.places import tastes_folder
from ...adapters.steering import SteeringSettings
from .infotext import told
from .learning import NO_TASTE, taste_path
from .steered import Steered
from .text_engines import engines_of
from .user_runs import UserRun
from .users import WantedUser

__all__ = ["Run"]

_LOG = logging.getLogger(__name__)
# The hosts keep the last prompt's encoding for all pictures: a moved one must not get in there.
_CACHES = ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")


class Run:
    """Prompts along a taste and a denoiser with a user, as far as they can be; why not is told in the picture.

    Args:
        p: The host's processing, with its model.
        options: The host's `shared.opts`.
    """

    def __init__(self, p: Any, options: Any) -> None:
        self._p, self._options = p, options
        self._steered: Steered | None = None
        self._user: UserRun | None = None

    def steer(self, taste: str | None, strength: float, method: str) -> None:
        """Move the prompts along a taste as `taste_names` lists it; "none" and strength 0 leave them."""
        if taste not in (None, NO_TASTE) and strength:
            self._try(lambda: self._steer(str(taste), float(strength), method))

    def draw_for(self, wanted: WantedUser) -> None:
        """Draw for a user; nobody and strength 0 change nothing."""
        if wanted.acts:
            self._try(lambda: self._draw_for(wanted))

    def before_sampling(self, p: Any) -> None:
        """Put the user into the denoiser that samples next."""
        user = self._user
        if user is not None:
            self._try(lambda: user.enter(p.sd_model))

    def end(self) -> None:
        """Leave the host as it was; a second time does nothing."""
        for running in (self._steered, self._user):
            if running is not None:
                running.end()
        self._steered = self._user = None

    def _steer(self, taste: str, strength: float, method: str) -> None:
        p, loaded = self._p, load_taste(taste_path(taste))
        settings = SteeringSettings(method=method, strength=strength)
        engines = engines_of(p.sd_model, self._options)
        self._steered = Steered(p.sd_model, engines, [loaded], settings, self._tell)
        for name in _CACHES:
            if hasattr(p, name):
                setattr(p, name, [None] * len(getattr(p, name)))
        p.extra_generation_params["Palate taste"] = told(taste, tastes_folder(), self._options)
        p.extra_generation_params["Palate strength"] = f"{strength:g}"
        p.extra_generation_params["Palate way"] = method

    def _draw_for(self, wanted: WantedUser) -> None:
        self._user = UserRun(wanted, self._p.sd_model)
        self._p.extra_generation_params.update(self._user.told(self._options))

    def _try(self, do: Callable[[], None]) -> None:
        """A picture without taste or user, and a sentence why, beats a picture that isn't made."""
        try:
            do()
        except PreferenceError as error:
            self._tell(str(error))

    def _tell(self, text: str) -> None:
        _LOG.warning("Palate: %s", text)
        if hasattr(self._p, "comment"):
            self._p.comment(f"Palate: {text}")
