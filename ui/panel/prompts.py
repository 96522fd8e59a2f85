"""Prompts to start with, for somebody who has none of their own."""

from __future__ import annotations

from pathlib import Path

__all__ = ["EXAMPLES", "FILE", "example_prompts"]

FILE = "example_prompts.txt"  # in a model's folder: prompts that suit it, one a line

EXAMPLES = (
    "a cabin by a lake at dawn",
    "portrait of an old sailor",
    "a bowl of fruit on a wooden table",
    "a narrow street in the rain at night",
    "a fox in tall grass",
    "a lighthouse on a cliff",
    "an astronaut in a greenhouse",
    "a quiet reading room with tall windows",
    "a mountain village in winter",
    "a cat asleep on a windowsill",
    "a city of glass towers at sunset",
    "a dancer in mid-air",
    "a desert road under the stars",
    "a ship in a bottle",
    "a garden with a small bridge",
    "a chef plating a dessert",
    "a tiger in the snow",
    "an abandoned train station overgrown with plants",
    "a still life with books and a candle",
    "a hot-air balloon over fields",
    "a robot repairing a clock",
    "a coral reef in clear water",
    "a market square in the morning",
    "a forest path in autumn",
)


def example_prompts(model_folder: Path | None = None) -> tuple[str, ...]:
    """Return the prompts that came with the model, else ones that suit any."""
    if model_folder is not None and (model_folder / FILE).is_file():
        lines = (model_folder / FILE).read_text(encoding="utf-8").splitlines()
        if own := tuple(line.strip() for line in lines if line.strip()):
            return own
    return EXAMPLES
