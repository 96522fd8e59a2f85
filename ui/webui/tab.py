"""What the extension shows beside the accordion: buttons under the galleries, and a tab.

Gradio is 3.41 in Automatic1111 and 4.40 in Forge: only what both have is used.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from html import escape
from typing import Any

from ...adapters.errors import PreferenceError
from .batches import LastBatches
from .learning import PanelProcess, learn

__all__ = ["host_takes_users", "palate_tab", "prefer_row", "said"]

_LOG = logging.getLogger(__name__)
ENCODER = "openai/clip-vit-large-patch14"
PANEL = PanelProcess()
_HERE = """
**Here**: every choice under a gallery is an answer; *Learn my taste* makes a file of them; the accordion *Palate* in
txt2img and img2img moves prompts along it (SD 1.5 and SDXL{only_l}).
"""
_USERS = """
The same accordion draws for a user: PPD weights in Palate's folder `ppd` let the denoiser itself look at a person's
answers (UNets: SD 1.x, SD 2.x and SDXL; not Flux and SD 3).
"""
_NOT_HERE = """
**Not here**: asking which pair teaches most{users}, and training. They are in Palate's panel and in ComfyUI, on the
same answers.
"""


def host_takes_users() -> bool:
    """Whether this host has a UNet patcher, as Forge and reForge do and Automatic1111 doesn't."""
    try:
        return importlib.util.find_spec("modules_forge") is not None
    except (ImportError, ValueError):
        return False


def prefer_row(gradio: Any, tab: str, batches: LastBatches) -> None:
    """Put the button that records a preference under a gallery.

    Args:
        gradio: The host's. tab: "txt2img" or "img2img". batches: What was made last.
    """
    with gradio.Row(elem_id=f"palate_prefer_{tab}"):
        prefer = gradio.Button("I prefer the selected one")
        person = gradio.Textbox(value="me", show_label=False, placeholder="whose choice", max_lines=1)
        place = gradio.Number(value=-1, visible=False)
        told = gradio.HTML("")

    def choose(number: float | None, who: str) -> str:
        return said(lambda: batches.prefer(tab, -1 if number is None else int(number), who.strip() or "me"))

    script = {_script_option(gradio): "(place, person) => [selected_gallery_index(), person]"}
    prefer.click(choose, inputs=[place, person], outputs=[told], **script)


def palate_tab(gradio: Any) -> Any:
    """The tab, which says what this host can and can't do."""
    with gradio.Blocks(analytics_enabled=False) as tab:
        gradio.Markdown(_about(host_takes_users()))
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
            return said(
                lambda: f'<a href="{PANEL.open()}" target="_blank">{PANEL.open()}</a>: ready in a few seconds.', True
            )

        teach.click(lambda who, spec: said(lambda: learn(who.strip() or "me", spec)), [person, encoder], [told])
        panel.click(opened, [], [told])
    return tab


def said(do: Callable[[], str], is_html: bool = False) -> str:
    """What a button answers, as HTML; an error is its sentence."""
    try:
        text = do()
    except PreferenceError as error:
        return f"<p>{escape(str(error))}</p>"
    except Exception as error:  # whatever it was: the person is told, and the host goes on
        _LOG.exception("Palate")
        return f"<p>{escape(f'This went wrong: {error}')}</p>"
    return f"<p>{text if is_html else escape(text)}</p>"


def _about(users: bool) -> str:
    here = _HERE.format(only_l="" if users else "; in Automatic1111 only the first of SDXL's two text encoders")
    absent = "" if users else ", users of a PPD (Automatic1111 has no way into its denoiser; Forge and reForge have)"
    return here + (_USERS if users else "") + _NOT_HERE.format(users=absent)


def _script_option(gradio: Any) -> str:
    return "_js" if int(str(gradio.__version__).split(".")[0]) < 4 else "js"
