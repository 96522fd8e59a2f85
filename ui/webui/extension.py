"""The extension's face in the web UIs: an accordion in txt2img and img2img, buttons under the gallery, and a tab.

Gradio is 3.41 in Automatic1111 and 4.40 in Forge: only what both have is used.
"""

from __future__ import annotations

import logging
from typing import Any

from ...adapters.errors import PreferenceError
from ...adapters.files import load_taste
from ...adapters.steering import METHODS, SteeringSettings
from .accordion import accordion
from .batches import Batch, LastBatches
from .learning import NO_TASTE, taste_path
from .steered import Steered
from .tab import palate_tab, prefer_row
from .text_engines import engines_of
from .user_runs import UserRun
from .users import ANY_PPD, NOBODY, WantedUser

__all__ = ["register", "script_class"]

_LOG = logging.getLogger(__name__)
BATCHES = LastBatches()


def script_class(scripts: Any, gradio: Any) -> type:
    """Return the script's class.

    Args:
        scripts: The host's `modules.scripts`. gradio: The host's.
    """

    class PalateScript(scripts.Script):  # type: ignore[misc, name-defined]
        """Prompts along a taste, pictures for a user, and preferences from galleries."""

        steered: Steered | None = None
        user: UserRun | None = None

        def title(self) -> str:
            return "Palate"

        def show(self, is_img2img: bool) -> Any:
            return scripts.AlwaysVisible

        def ui(self, is_img2img: bool) -> list[Any]:
            inputs, self.infotext_fields = accordion(gradio, METHODS[:3])
            return inputs

        def after_component(self, component: Any, **kwargs: Any) -> None:
            tab = "img2img" if self.is_img2img else "txt2img"
            if kwargs.get("elem_id") == f"image_buttons_{tab}":
                prefer_row(gradio, tab, BATCHES)

        # Not `before_process`: there, Forge still has the model of the picture before.
        def process(
            self,
            p: Any,
            taste: str = NO_TASTE,
            strength: float = 0.0,
            method: str = "auto",
            user: str = NOBODY,
            user_strength: float = 1.0,
            start_percent: float = 0.0,
            end_percent: float = 1.0,
            ppd: str = ANY_PPD,
            encoder: str = "",
        ) -> None:
            self._end()  # of a picture that was interrupted
            if taste not in (None, NO_TASTE) and strength:
                _try(p, lambda: self._steer(p, taste, float(strength), method))
            wanted = WantedUser(user, ppd, float(user_strength), float(start_percent), float(end_percent), encoder)
            if wanted.acts:
                _try(p, lambda: self._use(p, wanted))

        def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
            if type(self).user is not None:
                _try(p, lambda: type(self).user.enter(p.sd_model))

        def _steer(self, p: Any, taste: str, strength: float, method: str) -> None:
            loaded = load_taste(taste_path(taste))
            settings = SteeringSettings(method=method, strength=strength)
            engines = engines_of(p.sd_model, _options())
            type(self).steered = Steered(p.sd_model, engines, [loaded], settings, lambda text: _tell(p, text))
            # The hosts keep the last prompt's encoding for all pictures: a moved one must not get in there.
            for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc"):
                if hasattr(p, name):
                    setattr(p, name, [None] * len(getattr(p, name)))
            p.extra_generation_params["Palate taste"] = taste.removesuffix(".safetensors")
            p.extra_generation_params["Palate strength"] = f"{strength:g}"
            p.extra_generation_params["Palate way"] = method

        def _use(self, p: Any, wanted: WantedUser) -> None:
            run = UserRun(wanted, p.sd_model)
            type(self).user = run
            p.extra_generation_params.update(run.told)

        def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
            self._end()
            tab = "img2img" if self.is_img2img else "txt2img"
            try:
                model = getattr(getattr(p.sd_model, "sd_checkpoint_info", None), "model_name", "")
                BATCHES.put(tab, Batch.of(processed, str(model)))
            except Exception as error:  # other extensions give their own kinds of results
                _LOG.warning("Palate: this batch can't be compared: %s", error)

        def _end(self) -> None:
            for running in (type(self).steered, type(self).user):
                if running is not None:
                    running.end()
            type(self).steered = type(self).user = None

    return PalateScript


def register(scripts: Any, callbacks: Any, gradio: Any) -> type:
    """Register the tab, and return the script's class for the host to find."""
    callbacks.on_ui_tabs(lambda: [(palate_tab(gradio), "Palate", "palate_tab")])
    return script_class(scripts, gradio)


def _try(p: Any, do: Any) -> None:
    """A picture without taste or user, and a sentence why, beats a picture that isn't made."""
    try:
        do()
    except PreferenceError as error:
        _tell(p, str(error))


def _tell(p: Any, text: str) -> None:
    _LOG.warning("Palate: %s", text)
    if hasattr(p, "comment"):
        p.comment(f"Palate: {text}")


def _options() -> Any:
    from modules import shared

    return shared.opts
