"""The node that joins tastes."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ..adapters.taste import Taste as LearnedTaste
from ..adapters.taste import blend_tastes
from .sockets import CATEGORY, Taste, schema

_MOST = 4
_LARGEST = 10.0


class PalateBlendTastes(io.ComfyNode):
    """Join tastes, each with a weight."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs: list[Any] = []
        for number in range(1, _MOST + 1):
            inputs += [
                Taste.Input(
                    f"taste_{number}",
                    optional=number > 2,
                    tooltip="A taste from Fit Taste, Load Taste or another Blend Tastes. All of one encoder.",
                ),
                io.Float.Input(
                    f"weight_{number}",
                    optional=number > 2,
                    default=1.0,
                    min=-_LARGEST,
                    max=_LARGEST,
                    step=0.05,
                    tooltip="How much this taste counts, -10 to 10. Negative turns it around; 0 leaves it out.",
                ),
            ]
        return schema(
            node_id="PalateBlendTastes",
            display_name="Blend Tastes",
            category=CATEGORY,
            search_aliases=["mix tastes", "merge preferences", "combine tastes"],
            description="Join up to four tastes of one encoder, each with a weight, negative ones too. What comes out "
            "is a taste like any other.",
            inputs=inputs,
            outputs=[Taste.Output(display_name="taste", tooltip="For Adapt Conditioning, Rank Images and Save Taste.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        tastes: dict[int, LearnedTaste] = {
            number: taste for number in range(1, _MOST + 1) if (taste := given.get(f"taste_{number}")) is not None
        }
        with torch.inference_mode(False):
            return io.NodeOutput(
                blend_tastes(list(tastes.values()), [float(given.get(f"weight_{n}", 1.0)) for n in tastes])
            )
