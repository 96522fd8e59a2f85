"""Inputs of nodes that join several things of a kind, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

__all__ = ["weighted", "weighted_inputs"]

_MOST = 4
_LARGEST = 10.0


def weighted_inputs(
    socket: Any, name: str, tooltip: str, of_weight: str, defaults: tuple[float, float]
) -> list[io.Input]:
    """Four inputs `name_1`, ... with their `weight_1`, ...; the first two must be connected.

    Args:
        socket: The type.
        name: Of the inputs, without their number.
        tooltip: Of each.
        of_weight: Tooltip of each weight.
        defaults: Of the first two weights, and of the others.
    """
    inputs: list[io.Input] = []
    for number in range(1, _MOST + 1):
        inputs += [
            socket.Input(f"{name}_{number}", optional=number > 2, tooltip=tooltip),
            io.Float.Input(
                f"weight_{number}",
                optional=number > 2,
                default=defaults[number > 2],
                min=-_LARGEST,
                max=_LARGEST,
                step=0.05,
                tooltip=of_weight,
            ),
        ]
    return inputs


def weighted(given: Mapping[str, Any], name: str, default: float) -> tuple[list[Any], list[float]]:
    """What is connected, with its weights; `default` is of the third and those after it, which may be left out."""
    numbers = [number for number in range(1, _MOST + 1) if given.get(f"{name}_{number}") is not None]
    weights = [float(given.get(f"weight_{number}", default)) for number in numbers]
    return [given[f"{name}_{number}"] for number in numbers], weights
