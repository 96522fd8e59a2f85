"""Colours, fonts and scripts of the panel: everything from this folder, nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["head", "style", "theme"]

FOLDER = Path(__file__).resolve().parent


def style() -> str:
    """Return the style sheet."""
    return (FOLDER / "panel.css").read_text(encoding="utf-8")


def head() -> str:
    """Return the scripts for the page's head."""
    script = (FOLDER / "panel.js").read_text(encoding="utf-8")
    return f'<link rel="icon" href="data:,"><script>{script}</script>'


def theme() -> Any:
    """Return Gradio's theme with the panel's colours and the system's fonts."""
    import gradio as gr

    fonts = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    return gr.themes.Base(primary_hue="orange", neutral_hue="stone", radius_size="lg", font=fonts, font_mono=mono).set(
        body_background_fill="#f6f4ef",
        body_background_fill_dark="#171614",
        block_background_fill="#fffdf9",
        block_background_fill_dark="#211f1c",
        block_border_color="#e3ded4",
        block_border_color_dark="#38342e",
        block_border_width="1px",
        block_shadow="none",
        slider_color="#b4472e",
        slider_color_dark="#e98468",
    )
