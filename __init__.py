"""Palate: teach an image generator your own taste by clicking.

This file is ComfyUI's way in. The import stays inside the function: pytest loads a root `__init__.py` as a module
of its own, without a package, where a relative import at the top would fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.v0_0_2 import ComfyExtension

WEB_DIRECTORY = "./ui/web"


async def comfy_entrypoint() -> ComfyExtension:
    """Return the extension with all of Palate's nodes; ComfyUI calls this once at start."""
    from .nodes import PalateExtension

    return PalateExtension()
