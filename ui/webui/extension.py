"""The extension's face in the web UIs: an accordion in txt2img and img2img, buttons under the gallery, and a tab.

Gradio is 3.41 in Automatic1111 and 4.40 in Forge: only what both have is used.
"""

from __future__ import annotations

import logging
from typing import Any

from ...adapters.steering import METHODS
from .accordion import accordion
from .batches import Batch, LastBatches
from .infotext import add_setting
from .learning import NO_TASTE
from .runs import Run
from .tab import palate_tab, prefer_row
from .users import ANY_PPD, NOBODY, WantedUser

__all__ = ["register", "script_class"]

_LOG = logging.getLogger(__name__)
BATCHES = LastBatches()


def script_class(scripts: Any, gradio: Any) -> type:
    """Return the script's class.

    Args:
        scripts: The host's `modules.scripts`. gradio: The host's.
    """

    class PalateScript(_Script, scripts.Script):  # type: ignore[misc, name-defined]
        """Prompts along a taste, pictures for a user, and preferences from galleries."""

        def show(self, is_img2img: bool) -> Any:
            return scripts.AlwaysVisible

        def ui(self, is_img2img: bool) -> list[Any]:
            inputs, self.infotext_fields = accordion(gradio, METHODS[:3])
            return inputs

        def after_component(self, component: Any, **kwargs: Any) -> None:
            if kwargs.get("elem_id") == f"image_buttons_{self.tab}":
                prefer_row(gradio, self.tab, BATCHES)

    return PalateScript


class _Script:
    """What the host calls while it makes pictures. One run at a time: the host makes one picture after the other."""

    is_img2img: bool  # the host's
    _running: Run | None = None

    @property
    def tab(self) -> str:
        """Which of the host's tabs this script is in."""
        return "img2img" if self.is_img2img else "txt2img"

    def title(self) -> str:
        """Of the script, for the host."""
        return "Palate"

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
        """Begin, with what the accordion says."""
        self._end()  # of a picture that was interrupted
        run = _Script._running = Run(p, _options())
        run.steer(taste, strength, method)
        run.draw_for(WantedUser(user, ppd, float(user_strength), float(start_percent), float(end_percent), encoder))

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """Forge has its own denoiser again before each sampling."""
        if _Script._running is not None:
            _Script._running.before_sampling(p)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """Keep what was made for the buttons under the gallery."""
        self._end()
        try:
            model = getattr(getattr(p.sd_model, "sd_checkpoint_info", None), "model_name", "")
            BATCHES.put(self.tab, Batch.of(processed, str(model)))
        except Exception as error:  # other extensions give their own kinds of results
            _LOG.warning("Palate: this batch can't be compared: %s", error)

    def _end(self) -> None:
        if _Script._running is not None:
            _Script._running.end()
        _Script._running = None


def register(scripts: Any, callbacks: Any, gradio: Any) -> type:
    """Register the tab and the setting, and return the script's class for the host to find."""
    callbacks.on_ui_tabs(lambda: [(palate_tab(gradio), "Palate", "palate_tab")])
    callbacks.on_ui_settings(lambda: add_setting(_shared()))
    return script_class(scripts, gradio)


def _shared() -> Any:
    from modules import shared

    return shared


def _options() -> Any:
    return _shared().opts
