"""The extension's face in the web UIs: an accordion in txt2img and img2img, buttons under the gallery, and a tab.

Gradio is 3.41 in Automatic1111 and 4.40 in Forge: only what both have is used.
"""

from __future__ import annotations

import logging
from html import escape
from typing import Any

from ...adapters.errors import PreferenceError
from ...adapters.files import load_taste
from ...adapters.steering import METHODS, SteeringSettings
from .batches import Batch, LastBatches
from .learning import NO_TASTE, PanelProcess, learn, taste_names, taste_path
from .text_engines import Steered, engines_of

__all__ = ["register", "script_class"]

_LOG = logging.getLogger(__name__)
ENCODER = "openai/clip-vit-large-patch14"
BATCHES = LastBatches()
PANEL = PanelProcess()
_ABOUT = """
**Here**: every choice under a gallery is an answer; *Learn my taste* makes a file of them; the accordion *Palate* in
txt2img and img2img moves prompts along it (SD 1.5 and SDXL; in Automatic1111 only the first of SDXL's two text
encoders). **Not here**: asking which pair teaches most, user embeddings and training. They are in Palate's panel and in
ComfyUI, on the same answers.
"""


def script_class(scripts: Any, gradio: Any) -> type:
    """Return the script's class.

    Args:
        scripts: The host's `modules.scripts`. gradio: The host's.
    """

    class PalateScript(scripts.Script):  # type: ignore[misc, name-defined]
        """Prompts along a taste, and preferences from galleries."""

        steered: Steered | None = None

        def title(self) -> str:
            return "Palate"

        def show(self, is_img2img: bool) -> Any:
            return scripts.AlwaysVisible

        def ui(self, is_img2img: bool) -> list[Any]:
            with gradio.Accordion("Palate", open=False):
                with gradio.Row():
                    taste = gradio.Dropdown(taste_names(), value=NO_TASTE, label="Taste")
                    refresh = gradio.Button("Refresh the list")
                strength = gradio.Slider(0.0, 2.0, value=1.0, step=0.05, label="Strength (0 is off)")
                method = gradio.Dropdown(["auto", *METHODS[:3]], value="auto", label="Way of steering")
            refresh.click(lambda: _choices(gradio, taste_names()), inputs=[], outputs=[taste])
            return [taste, strength, method]

        def after_component(self, component: Any, **kwargs: Any) -> None:
            tab = "img2img" if self.is_img2img else "txt2img"
            if kwargs.get("elem_id") == f"image_buttons_{tab}":
                _prefer_row(gradio, tab)

        def before_process(self, p: Any, taste: str = NO_TASTE, strength: float = 0.0, method: str = "auto") -> None:
            self._end()  # of a picture that was interrupted
            if taste in (None, NO_TASTE) or not strength:
                return
            try:
                self._begin(p, taste, float(strength), method)
            except PreferenceError as error:
                _tell(p, str(error))

        def _begin(self, p: Any, taste: str, strength: float, method: str) -> None:
            loaded = load_taste(taste_path(taste))
            settings = SteeringSettings(method=method, strength=strength)
            engines = engines_of(p.sd_model, _options())
            steered = Steered(p.sd_model, engines, [loaded], settings, lambda text: _tell(p, text))
            type(self).steered = steered
            # The hosts keep the last prompt's encoding for all pictures: a moved one must not get in there.
            for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc"):
                if hasattr(p, name):
                    setattr(p, name, [None] * len(getattr(p, name)))
            p.extra_generation_params["Palate taste"] = taste.removesuffix(".safetensors")
            p.extra_generation_params["Palate strength"] = f"{strength:g}"

        def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
            self._end()
            tab = "img2img" if self.is_img2img else "txt2img"
            try:
                model = getattr(getattr(p.sd_model, "sd_checkpoint_info", None), "model_name", "")
                BATCHES.put(tab, Batch.of(processed, str(model)))
            except Exception as error:  # other extensions give their own kinds of results
                _LOG.warning("Palate: this batch can't be compared: %s", error)

        def _end(self) -> None:
            if type(self).steered is not None:
                type(self).steered.end()
                type(self).steered = None

    return PalateScript


def register(scripts: Any, callbacks: Any, gradio: Any) -> type:
    """Register the tab, and return the script's class for the host to find."""
    callbacks.on_ui_tabs(lambda: [(_tab(gradio), "Palate", "palate_tab")])
    return script_class(scripts, gradio)


def _prefer_row(gradio: Any, tab: str) -> None:
    with gradio.Row(elem_id=f"palate_prefer_{tab}"):
        prefer = gradio.Button("I prefer the selected one")
        person = gradio.Textbox(value="me", show_label=False, placeholder="whose choice", max_lines=1)
        place = gradio.Number(value=-1, visible=False)
        told = gradio.HTML("")

    def choose(number: float | None, who: str) -> str:
        return _said(lambda: BATCHES.prefer(tab, -1 if number is None else int(number), who.strip() or "me"))

    script = {_script_option(gradio): "(place, person) => [selected_gallery_index(), person]"}
    prefer.click(choose, inputs=[place, person], outputs=[told], **script)


def _tab(gradio: Any) -> Any:
    with gradio.Blocks(analytics_enabled=False) as tab:
        gradio.Markdown(_ABOUT)
        with gradio.Row():
            person = gradio.Textbox(value="me", label="Whose answers")
            encoder = gradio.Textbox(
                value=ENCODER, label="Encoder: a full CLIP file, or a name on the Hugging Face hub"
            )
        with gradio.Row():
            teach = gradio.Button("Learn my taste", variant="primary")
            panel = gradio.Button("Open the panel")
        told = gradio.HTML("")

        def opened() -> str:
            return _said(
                lambda: f'<a href="{PANEL.open()}" target="_blank">{PANEL.open()}</a>: ready in a few seconds.', True
            )

        teach.click(lambda who, spec: _said(lambda: learn(who.strip() or "me", spec)), [person, encoder], [told])
        panel.click(opened, [], [told])
    return tab


def _said(do: Any, is_html: bool = False) -> str:
    try:
        text = do()
    except PreferenceError as error:
        return f"<p>{escape(str(error))}</p>"
    except Exception as error:  # whatever it was: the person is told, and the host goes on
        _LOG.exception("Palate")
        return f"<p>{escape(f'This went wrong: {error}')}</p>"
    return f"<p>{text if is_html else escape(text)}</p>"


def _tell(p: Any, text: str) -> None:
    _LOG.warning("Palate: %s", text)
    if hasattr(p, "comment"):
        p.comment(f"Palate: {text}")


def _options() -> Any:
    from modules import shared

    return shared.opts


def _choices(gradio: Any, names: list[str]) -> Any:
    update = getattr(gradio.Dropdown, "update", None)  # Gradio 3 has it, 4 takes a new one instead
    return update(choices=names) if update is not None else gradio.Dropdown(choices=names)


def _script_option(gradio: Any) -> str:
    return "_js" if int(str(gradio.__version__).split(".")[0]) < 4 else "js"
