"""Colours, fonts and scripts of the panel: everything from this folder, nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["head", "style", "theme"]

FOLDER = Path(__file__).resolve().parent
FIRST = "panel"  # the sheet and the script that the others build on


def style() -> str:
    """Return the style sheets of this folder: `panel.css` with the tokens, then each topic's."""
    return "\n".join(_texts("css"))


def head() -> str:
    """Return the scripts of this folder for the page's head, `panel.js` first."""
    scripts = "".join(f"<script>{text}</script>" for text in _texts("js"))
    return f'<link rel="icon" href="data:,"><meta name="color-scheme" content="light dark">{scripts}'


def _texts(suffix: str) -> list[str]:
    files = sorted(FOLDER.glob(f"*.{suffix}"), key=lambda file: (file.stem != FIRST, file.name))
    return [file.read_text(encoding="utf-8") for file in files]


def theme() -> Any:
    """Return Gradio's theme with the panel's colours and the system's fonts."""
    import gradio as gr

    fonts = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    return gr.themes.Base(primary_hue="orange", neutral_hue="zinc", radius_size="lg", font=fonts, font_mono=mono).set(
        body_background_fill="#f7f7f6",
        body_background_fill_dark="#131315",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c1c1f",
        block_border_color="#e3e3e0",
        block_border_color_dark="#303036",
        block_border_width="1px",
        block_shadow="none",
        slider_color="#c2371a",
        slider_color_dark="#ff7d5f",
    )
