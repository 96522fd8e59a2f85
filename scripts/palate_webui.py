"""Automatic1111's and Forge's way in: they run every file of this folder.

Palate is loaded under its own name from wherever it was cloned to; nothing called `nodes`, `ui` or `adapters` gets to
the top level, where a host has folders of these names.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load_palate():
    """Return the package of this clone."""
    known = sys.modules.get("palate")
    if known is None:
        spec = importlib.util.spec_from_file_location(
            "palate", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        known = sys.modules["palate"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(known)
    return importlib.import_module("palate.ui.webui.extension")


try:
    import gradio
    from modules import script_callbacks, scripts
except ImportError:  # outside of the web UIs there is nothing to do
    scripts = None

if scripts is not None:
    PalateScript = load_palate().register(scripts, script_callbacks, gradio)
